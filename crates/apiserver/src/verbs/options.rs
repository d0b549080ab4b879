//! The options of writes, as query parameters: who writes, whether by force, and how fields are validated.
//!
//! Rules: apimachinery pkg/apis/meta/v1/validation/validation.go, apiserver pkg/endpoints/handlers/create.go.

use std::borrow::Cow;

use daruma_api::status::{ApiError, FieldError};
use http::header::USER_AGENT;

use crate::call::Call;

/// Longest name of a manager in bytes (`FieldManagerMaxLength`).
const LONGEST: usize = 128;

const VALIDATIONS: [&str; 3] = ["Ignore", "Strict", "Warn"];
/// Nothing at all is allowed, too.
const VALIDATIONS_SHOWN: [&str; 4] = ["", "Ignore", "Strict", "Warn"];

/// Which options are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Of a create.
    Create,
    /// Of an update.
    Update,
    /// Of a patch that is not an apply.
    Patch,
    /// Of an apply.
    Apply,
}

impl Verb {
    fn kind(self) -> &'static str {
        match self {
            Self::Create => "CreateOptions",
            Self::Update => "UpdateOptions",
            Self::Patch | Self::Apply => "PatchOptions",
        }
    }
}

impl Call {
    /// Checks `fieldManager`, `force` and `fieldValidation`.
    ///
    /// # Errors
    /// 422 for a name that is missing, too long or not printable, for force without an apply, and for another validation than
    /// the three.
    pub fn check_options(&self, verb: Verb) -> Result<(), ApiError> {
        let manager = self.query.get("fieldManager").unwrap_or_default();
        let force = self.query.get("force");
        let mut wrong = Vec::new();
        match verb {
            Verb::Apply if manager.is_empty() => {
                wrong.push(FieldError::required("fieldManager", "is required for apply patch"));
            }
            Verb::Patch if force.is_some() => {
                wrong.push(FieldError::forbidden("force", "may not be specified for non-apply patch"));
            }
            _ => {}
        }
        if manager.len() > LONGEST {
            let detail = format!("may not be more than {LONGEST} bytes");
            wrong.push(FieldError { reason: "FieldValueTooLong", field: "fieldManager".into(), value: None, detail });
        }
        for (at, character) in manager.char_indices().filter(|(_, character)| !is_printable(*character)) {
            let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(character));
            wrong.push(FieldError::invalid("fieldManager", format!("{manager:?}"), detail));
        }
        let validation = self.field_validation();
        if !VALIDATIONS.contains(&validation) {
            wrong.push(FieldError::not_supported("fieldValidation", format!("{validation:?}"), &VALIDATIONS_SHOWN));
        }
        if wrong.is_empty() { Ok(()) } else { Err(ApiError::invalid("meta.k8s.io", verb.kind(), "", &wrong)) }
    }

    /// What is done about unknown fields and those that appear twice.
    pub fn field_validation(&self) -> &str {
        self.query.text("fieldValidation").unwrap_or("Warn")
    }

    /// Who writes: the name that is given, else what the user agent calls itself.
    pub fn manager(&self) -> Cow<'_, str> {
        if let Some(manager) = self.query.text("fieldManager") {
            return Cow::Borrowed(manager);
        }
        let agent = self.headers.get(USER_AGENT).map(http::HeaderValue::as_bytes).unwrap_or_default();
        let name = agent.split(|byte| *byte == b'/').next().unwrap_or_default();
        match std::str::from_utf8(name) {
            Ok(name) if name.len() <= LONGEST && name.chars().all(is_printable) => Cow::Borrowed(name),
            _ => Cow::Owned(shortened(&String::from_utf8_lossy(name))),
        }
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
    let invisible =
        matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    character == ' ' || !(character.is_control() || character.is_whitespace() || invisible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_characters() {
        for (character, expected) in
            [('a', true), (' ', true), ('é', true), ('\n', false), ('\u{a0}', false), ('\u{200b}', false)]
        {
            assert_eq!(is_printable(character), expected, "{character:?}");
        }
        assert_eq!(shortened(&"é".repeat(100)).len(), LONGEST);
    }
}
