//! Names of images, as Docker reads them: `distribution/reference`.

use daruma_world::containers::{ContainerError, Result};

/// What Docker puts before names without a registry.
const DEFAULT_REGISTRY: &str = "docker.io/";
/// And before those without an owner.
const LIBRARY: &str = "docker.io/library/";

/// The full form of a name: registry, path, and tag or digest.
///
/// # Errors
/// [`ContainerError::InvalidReference`] for what no image can be called.
pub fn full_name(text: &str) -> Result<String> {
    let invalid = || ContainerError::InvalidReference(text.to_owned());
    let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
    let hex = |digest: &str| {
        digest.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    if digest.is_some_and(|digest| !hex(digest)) {
        return Err(invalid());
    }
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    let tag_is_good = |tag: &str| {
        let first = tag.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        first && tag.len() <= 128 && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    };
    if tag.is_some_and(|tag| !tag_is_good(tag)) {
        return Err(invalid());
    }
    let has_registry = name.split_once('/').is_some_and(|(first, _)| first.contains(['.', ':']) || first == "localhost");
    let whole = match (has_registry, name.contains('/')) {
        (true, _) => name.to_owned(),
        (false, true) => format!("{DEFAULT_REGISTRY}{name}"),
        (false, false) => format!("{LIBRARY}{name}"),
    };
    let path = whole.split_once('/').map_or("", |(_, path)| path);
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let good = |part: &str| {
        let ends = [part.bytes().next(), part.bytes().last()];
        ends.iter().all(|end| end.is_some_and(alphanumeric))
            && part.bytes().all(|byte| alphanumeric(byte) || b"._-".contains(&byte))
    };
    if !path.split('/').all(good) || path.len() > 255 {
        return Err(invalid());
    }
    Ok(match (tag, digest) {
        (None, None) => format!("{whole}:latest"),
        (None, Some(digest)) => format!("{whole}@{digest}"),
        (Some(tag), None) => format!("{whole}:{tag}"),
        (Some(tag), Some(digest)) => format!("{whole}:{tag}@{digest}"),
    })
}

/// Every way in which a person may write a full name, the longest first.
pub(super) fn spellings(full: &str) -> Vec<&str> {
    let mut found = vec![full];
    found.extend(full.strip_prefix(LIBRARY).or_else(|| full.strip_prefix(DEFAULT_REGISTRY)));
    let bare: Vec<&str> = found.iter().filter_map(|name| name.strip_suffix(":latest")).collect();
    found.extend(bare);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (text, wanted) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("bitnami/redis", "docker.io/bitnami/redis:latest"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("gcr.io/google-samples/kubernetes-bootcamp:v1", "gcr.io/google-samples/kubernetes-bootcamp:v1"),
        ] {
            assert_eq!(full_name(text).unwrap(), wanted, "{text}");
        }
        for text in ["", "UPPER", "a b", "x:", "x:-1", "nginx@sha256:12", "a//b", "-x", "x/"] {
            assert!(full_name(text).is_err(), "{text}");
        }
        let latest = ["docker.io/library/nginx:latest", "nginx:latest", "docker.io/library/nginx", "nginx"];
        assert_eq!(spellings("docker.io/library/nginx:latest"), latest);
        assert_eq!(spellings("gcr.io/a:v1"), ["gcr.io/a:v1"]);
    }
}
