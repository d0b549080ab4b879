//! The options of writes, as query parameters: who writes, whether by force, and how fields are validated.
//!
//! Rules: apimachinery pkg/apis/meta/v1/validation/validation.go.

use std::borrow::Cow;

use daruma_api::apply::{check_manager, manager_of_agent};
use daruma_api::status::{ApiError, FieldError};
use http::header::USER_AGENT;

use crate::call::Call;

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
        wrong.extend(check_manager("fieldManager", manager));
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
        manager_of_agent(self.headers.get(USER_AGENT).map(http::HeaderValue::as_bytes).unwrap_or_default())
    }
}
