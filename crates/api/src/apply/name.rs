//! Names of managers.
//!
//! Source: apimachinery pkg/apis/meta/v1/validation/validation.go (`ValidateFieldManager`), apiserver
//! pkg/endpoints/handlers/create.go (`prefixFromUserAgent`).

use std::borrow::Cow;

use crate::status::FieldError;

/// Longest name in bytes (`FieldManagerMaxLength`).
const LONGEST: usize = 128;

/// Everything that is wrong with a manager's name at a field.
pub fn check_manager(field: &str, name: &str) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    if name.len() > LONGEST {
        let detail = format!("may not be more than {LONGEST} bytes");
        wrong.push(FieldError { reason: "FieldValueTooLong", field: field.into(), value: None, detail });
    }
    for (at, character) in name.char_indices().filter(|(_, character)| !is_printable(*character)) {
        let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(character));
        wrong.push(FieldError::invalid(field, super::literal::quoted(name), detail));
    }
    wrong
}

/// The manager that a user agent is: what it calls itself before the first slash.
pub fn manager_of_agent(agent: &[u8]) -> Cow<'_, str> {
    let name = agent.split(|byte| *byte == b'/').next().unwrap_or_default();
    match std::str::from_utf8(name) {
        Ok(name) if name.len() <= LONGEST && name.chars().all(is_printable) => Cow::Borrowed(name),
        _ => Cow::Owned(shortened(&String::from_utf8_lossy(name))),
    }
}

fn shortened(name: &str) -> String {
    let mut out = String::new();
    for character in name.chars().filter(|character| is_printable(*character)) {
        if out.len() + character.len_utf8() > LONGEST {
            break;
        }
        out.push(character);
    }
    out
}

/// Go's `unicode.IsPrint`, but for characters that are not assigned.
fn is_printable(character: char) -> bool {
    let invisible = matches!(
        character,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    character == ' ' || !(character.is_control() || character.is_whitespace() || invisible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, expected) in [
            ("kubectl é ☺", ""),
            ("a\u{7}", "m: Invalid value: \"a\\x07\": invalid character U+0007 (at position 1)"),
            ("a\u{a0}b", "m: Invalid value: \"a\u{a0}b\": invalid character U+00A0 (at position 1)"),
        ] {
            let wrong: Vec<String> = check_manager("m", name).iter().map(ToString::to_string).collect();
            assert_eq!(wrong.join("; "), expected);
        }
        let long = check_manager("m", &"x".repeat(129));
        assert_eq!(long[0].to_string(), "m: Too long: may not be more than 128 bytes");
        assert!(check_manager("m", &"x".repeat(128)).is_empty());
    }

    #[test]
    fn agents() {
        assert_eq!(manager_of_agent(b"kubectl/v1.36.2 (linux/amd64)"), "kubectl");
        assert_eq!(manager_of_agent(b""), "");
        assert_eq!(manager_of_agent("a\nb".as_bytes()), "ab");
        assert_eq!(manager_of_agent("é".repeat(100).as_bytes()).len(), LONGEST);
    }
}
