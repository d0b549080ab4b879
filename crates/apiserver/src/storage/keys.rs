//! Store keys: `/registry/<group or core>/<plural>/<namespace>/<name>`.

/// Above all keys of the API server.
pub const ROOT: &str = "/registry/";

/// Prefix of all objects of a resource, with a slash at its end.
pub fn prefix(group: &str, plural: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    format!("{ROOT}{group}/{plural}/")
}

/// An object's key below its prefix: `namespace/name`, or the bare name in cluster scope.
pub fn object(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// Splits a whole key into the resource's prefix and the object's key.
pub fn split(key: &str) -> Option<(&str, &str)> {
    let tail = key.strip_prefix(ROOT)?;
    let mut slashes = tail.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| at);
    let (_group, plural) = (slashes.next()?, slashes.next()?);
    Some(key.split_at(ROOT.len() + plural + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitting() {
        let key = format!("{}{}", prefix("", "pods"), object("a", "b"));
        assert_eq!(key, "/registry/core/pods/a/b");
        assert_eq!(split(&key), Some(("/registry/core/pods/", "a/b")));
        assert_eq!(split("/registry/core"), None);
        assert_eq!(split("/elsewhere/core/pods/a"), None);
    }
}
