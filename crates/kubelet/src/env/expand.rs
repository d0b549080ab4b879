//! `$(NAME)` references.
//!
//! Source: kubernetes third_party/forked/golang/expansion/expand.go.

/// Replaces `$(NAME)` by its value; `$$` is a literal `$`; unknown names stay as they are.
pub fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut output = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        output.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            output.push('$');
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('(') {
            if let Some((name, after)) = inner.split_once(')') {
                output.push_str(&value(name).unwrap_or_else(|| format!("$({name})")));
                rest = after;
            } else {
                output.push_str("$(");
                rest = inner;
            }
        } else {
            output.push('$');
        }
    }
    output.push_str(rest);
    output
}

/// [`expand`] with a container's variables.
pub fn expand_with(text: &str, variables: &[(String, String)]) -> String {
    expand(text, |name| variables.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expansions() {
        let variables = [("A".to_owned(), "1".to_owned()), ("E".to_owned(), String::new())];
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(E)", ""),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(B)", "$(B)"),
            ("$(A", "$(A"),
            ("$A", "$A"),
            ("a$", "a$"),
            ("$()", "$()"),
        ] {
            assert_eq!(expand_with(text, &variables), expected, "{text}");
        }
    }
}
