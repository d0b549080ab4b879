//! What names, labels and ports look like. Each function gives what is wrong, nothing where all is well.
//!
//! Source of rules and messages: apimachinery pkg/util/validation/validation.go and
//! pkg/api/validate/content.

const LABEL_FORMAT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_FORMAT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const KEY_FORMAT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

fn rule(text: &str, format: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|one| format!("'{one}', ")).collect();
    if examples.is_empty() {
        format!("{text} (regex used for validation is '{format}')")
    } else {
        format!("{text} (e.g. {}regex used for validation is '{format}')", examples.join(" or "))
    }
}

fn longest(value: &str, most: usize) -> Option<String> {
    (value.len() > most).then(|| format!("must be no more than {most} bytes"))
}

fn lower_alnum(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Starts with `first`, ends with `last`, holds `inner`.
fn shaped(value: &str, first: fn(u8) -> bool, inner: fn(u8) -> bool, last: fn(u8) -> bool) -> bool {
    let bytes = value.as_bytes();
    match bytes {
        [] => false,
        [only] => first(*only) && last(*only),
        [head, middle @ .., tail] => first(*head) && last(*tail) && middle.iter().all(|byte| inner(*byte)),
    }
}

fn is_label(value: &str) -> bool {
    shaped(value, lower_alnum, |byte| lower_alnum(byte) || byte == b'-', lower_alnum)
}

fn is_subdomain(value: &str) -> bool {
    value.split('.').all(is_label)
}

/// A DNS-1123 label.
pub fn dns_label(value: &str) -> Vec<String> {
    let mut wrong: Vec<String> = longest(value, 63).into_iter().collect();
    if !is_label(value) {
        wrong.push(if is_subdomain(value) {
            "must not contain dots".to_owned()
        } else {
            rule(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
                LABEL_FORMAT,
                &["my-name", "123-abc"],
            )
        });
    }
    wrong
}

/// A DNS-1123 subdomain.
pub fn dns_subdomain(value: &str) -> Vec<String> {
    let mut wrong: Vec<String> = longest(value, 253).into_iter().collect();
    if !is_subdomain(value) {
        wrong.push(rule(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            SUBDOMAIN_FORMAT,
            &["example.com"],
        ));
    }
    wrong
}

/// A DNS-1035 label.
pub fn dns_1035_label(value: &str) -> Vec<String> {
    let mut wrong: Vec<String> = longest(value, 63).into_iter().collect();
    if !shaped(value, |byte| byte.is_ascii_lowercase(), |byte| lower_alnum(byte) || byte == b'-', lower_alnum) {
        wrong.push(rule(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    wrong
}

/// A name that is one segment of a URL's path.
pub fn path_segment(value: &str) -> Vec<String> {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    ['/', '%'].iter().filter(|bad| value.contains(**bad)).map(|bad| format!("may not contain '{bad}'")).collect()
}

fn is_key_name(value: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    shaped(value, |byte| byte.is_ascii_alphanumeric(), inner, |byte| byte.is_ascii_alphanumeric())
}

const KEY_RULE: &str =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// A label key: a name with an optional DNS prefix.
pub fn qualified_name(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut parts = value.split('/');
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if third.is_some() {
        return vec![format!(
            "a valid label key {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
            rule(KEY_RULE, KEY_FORMAT, &["MyName", "my.name", "123-abc"])
        )];
    }
    let name = match second {
        None => first,
        Some(name) => {
            if first.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else {
                wrong.extend(dns_subdomain(first).into_iter().map(|text| format!("prefix part {text}")));
            }
            name
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if let Some(text) = longest(name, 63) {
        wrong.push(format!("name part {text}"));
    }
    if !is_key_name(name) {
        wrong.push(format!("name part {}", rule(KEY_RULE, KEY_FORMAT, &["MyName", "my.name", "123-abc"])));
    }
    wrong
}

/// A label's value.
pub fn label_value(value: &str) -> Vec<String> {
    let mut wrong: Vec<String> = longest(value, 63).into_iter().collect();
    if !value.is_empty() && !is_key_name(value) {
        wrong.push(rule(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    wrong
}

/// A key of a ConfigMap or Secret.
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > 253 {
        wrong.push("must be no more than 253 characters".to_owned());
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if value.is_empty() || !value.bytes().all(fits) {
        wrong.push(rule(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match value {
        "." | ".." => wrong.push(format!("must not be '{value}'")),
        _ if value.starts_with("..") => wrong.push("must not start with '..'".to_owned()),
        _ => {}
    }
    wrong
}

/// The name of an environment variable.
pub fn environment_name(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.is_empty() {
        wrong.push("environment variable name must be non-empty".to_owned());
    }
    if !value.bytes().all(|byte| (byte.is_ascii_graphic() || byte == b' ') && byte != b'=') {
        wrong.push("a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned());
    }
    wrong
}

/// The name of a port (IANA service name).
pub fn port_name(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > 15 {
        wrong.push("must be no more than 15 characters".to_owned());
    }
    if value.is_empty() || !value.bytes().all(|byte| lower_alnum(byte) || byte == b'-') {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.bytes().any(|byte| byte.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

/// The number of a port.
pub fn port_number(port: i64) -> Option<String> {
    in_range(port, 1, 65535)
}

/// A number between two others.
pub fn in_range(value: i64, low: i64, high: i64) -> Option<String> {
    (!(low..=high).contains(&value)).then(|| format!("must be between {low} and {high}, inclusive"))
}

/// The name of an HTTP header.
pub fn http_header(value: &str) -> Option<String> {
    let ok = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (!ok).then(|| rule("a valid HTTP header must consist of alphanumeric characters or '-'", "[-A-Za-z0-9]+", &["X-Header-Name"]))
}

/// A percentage such as `25%`.
pub fn percent(value: &str) -> Option<String> {
    let digits = value.strip_suffix('%').unwrap_or_default();
    let ok = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    (!ok).then(|| rule("a valid percent string must be a numeric string followed by an ending '%'", "[0-9]+%", &["1%", "93%"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(of: fn(&str) -> Vec<String>, good: &[&str], bad: &[&str]) {
        for value in good {
            assert_eq!(of(value), Vec::<String>::new(), "{value}");
        }
        for value in bad {
            assert!(!of(value).is_empty(), "{value}");
        }
    }

    #[test]
    fn shapes() {
        check(dns_label, &["a", "0-a", "my-name"], &["", "-a", "a-", "A", "a.b", "a_b"]);
        check(dns_subdomain, &["a.b", "a"], &["", "a..b", ".a", "A.b"]);
        check(dns_1035_label, &["a0", "a-b"], &["0a", "a-", ""]);
        check(path_segment, &["system:node", "a"], &[".", "..", "a/b", "a%b"]);
        check(qualified_name, &["a", "example.com/A_b.c"], &["", "/a", "a/", "a/b/c", "UP/a", "-a"]);
        check(label_value, &["", "a_B.c"], &["-", "a b"]);
        check(config_map_key, &["a.b", "..a"[1..].as_ref()], &["", "..", "..a", "a/b"]);
        check(environment_name, &["A", "a b", "0"], &["", "a=b", "ä"]);
        check(port_name, &["http", "a-1"], &["", "-a", "1", "a--b", "averyveryverylongname"]);
    }

    #[test]
    fn messages() {
        assert_eq!(
            dns_label("A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(dns_label("a.b"), ["must not contain dots"]);
    }
}
