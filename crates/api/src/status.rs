//! Errors as the API speaks them: `Status` objects.
//!
//! Messages and reasons follow kubernetes apimachinery pkg/api/errors/errors.go.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};

/// A failed API call. Displays the message that kubectl prints.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason, e.g. `NotFound`; empty where the server gives none.
    pub reason: String,
    /// For a person.
    pub message: String,
    /// What it is about.
    pub details: Option<Box<StatusDetails>>,
}

impl ApiError {
    /// An error with code, reason and message, and no details.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), message: message.into(), details: None }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        self.details =
            Some(Box::new(StatusDetails { name: some(name), group: some(group), kind: some(kind), ..Default::default() }));
        self
    }

    /// 404: `pods "a" not found`. `resource` is the plural.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", qualified(group, resource));
        Self::new(404, "NotFound", message).about(group, resource, name)
    }

    /// 409 on create.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", qualified(group, resource));
        Self::new(409, "AlreadyExists", message).about(group, resource, name)
    }

    /// 409 on update: the object has changed.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", qualified(group, resource));
        Self::new(409, "Conflict", message).about(group, resource, name)
    }

    /// 409 because the object was modified since it was read.
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        Self::conflict(
            group,
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 403 from authorization or admission; `why` is the tail of the message.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message = if name.is_empty() {
            format!("{} is forbidden: {why}", qualified(group, resource))
        } else {
            format!("{} \"{name}\" is forbidden: {why}", qualified(group, resource))
        };
        Self::new(403, "Forbidden", message).about(group, resource, name)
    }

    /// 422 with all causes. `kind` is the Kind.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: &[FieldError]) -> Self {
        let texts: Vec<String> = causes.iter().map(ToString::to_string).collect();
        let list = if texts.len() == 1 { texts.concat() } else { format!("[{}]", texts.join(", ")) };
        let mut error = Self::new(422, "Invalid", format!("{} \"{name}\" is invalid: {list}", qualified(group, kind)));
        error = error.about(group, kind, name);
        if let Some(details) = &mut error.details {
            details.causes = Some(
                causes
                    .iter()
                    .map(|cause| StatusCause {
                        reason: Some(cause.reason.to_owned()),
                        message: Some(cause.body()),
                        field: Some(cause.field.clone()),
                    })
                    .collect(),
            );
        }
        error
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 410: the revision has been compacted.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 500.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {cause}"))
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 504: a request that ran into its time limit, or a transport that gave up.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, "Timeout", message)
    }

    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.code == 404
    }
    /// Whether a create met an existing object.
    pub fn is_already_exists(&self) -> bool {
        self.reason == "AlreadyExists"
    }
    /// Whether an update met a newer object.
    pub fn is_conflict(&self) -> bool {
        self.reason == "Conflict"
    }
    /// Whether a list or watch must start anew.
    pub fn is_expired(&self) -> bool {
        self.code == 410
    }
    /// Whether the namespace is being deleted (creation refused with cause `NamespaceTerminating`).
    pub fn is_namespace_terminating(&self) -> bool {
        self.details
            .as_ref()
            .and_then(|details| details.causes.as_ref())
            .is_some_and(|causes| causes.iter().any(|cause| cause.reason.as_deref() == Some("NamespaceTerminating")))
    }

    /// The wire form.
    pub fn to_status(&self) -> Status {
        Status {
            code: Some(i32::from(self.code)),
            details: self.details.as_deref().cloned(),
            message: Some(self.message.clone()),
            reason: some(&self.reason),
            status: Some("Failure".into()),
            ..Default::default()
        }
    }

    /// From the wire form.
    pub fn from_status(status: Status) -> Self {
        Self {
            code: status.code.and_then(|code| u16::try_from(code).ok()).unwrap_or(500),
            reason: status.reason.unwrap_or_default(),
            message: status.message.unwrap_or_default(),
            details: status.details.map(Box::new),
        }
    }
}

/// One thing wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// `FieldValueInvalid`, `FieldValueRequired`, `FieldValueDuplicate`, `FieldValueForbidden`,
    /// `FieldValueNotSupported`, `FieldValueTooLong`, `FieldValueTooMany`, `FieldValueNotFound`.
    pub reason: &'static str,
    /// Path, e.g. `spec.containers[0].image`.
    pub field: String,
    /// The offending value as it appears in the message (JSON-ish), where the reason shows one.
    pub value: Option<String>,
    /// What is wrong.
    pub detail: String,
}

impl FieldError {
    /// A value that breaks a rule; `value` is shown in quotes where it is a string.
    pub fn invalid(field: impl Into<String>, value: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { reason: "FieldValueInvalid", field: field.into(), value: Some(value.into()), detail: detail.into() }
    }
    /// A missing value.
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { reason: "FieldValueRequired", field: field.into(), value: None, detail: detail.into() }
    }
    /// A value that appears twice.
    pub fn duplicate(field: impl Into<String>, value: impl Into<String>) -> Self {
        Self { reason: "FieldValueDuplicate", field: field.into(), value: Some(value.into()), detail: String::new() }
    }
    /// A field that may not be set here.
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { reason: "FieldValueForbidden", field: field.into(), value: None, detail: detail.into() }
    }
    /// A value outside of an enumeration; the supported ones are sorted as the server does.
    pub fn not_supported(field: impl Into<String>, value: impl Into<String>, supported: &[&str]) -> Self {
        let list: Vec<String> = supported.iter().map(|value| format!("\"{value}\"")).collect();
        Self {
            reason: "FieldValueNotSupported",
            field: field.into(),
            value: Some(value.into()),
            detail: format!("supported values: {}", list.join(", ")),
        }
    }

    /// The message without the field path.
    pub fn body(&self) -> String {
        let title = match self.reason {
            "FieldValueRequired" => "Required value",
            "FieldValueDuplicate" => "Duplicate value",
            "FieldValueForbidden" => "Forbidden",
            "FieldValueNotSupported" => "Unsupported value",
            "FieldValueTooLong" => "Too long",
            "FieldValueTooMany" => "Too many",
            "FieldValueNotFound" => "Not found",
            _ => "Invalid value",
        };
        let mut text = title.to_owned();
        if let Some(value) = &self.value {
            text = format!("{text}: {value}");
        }
        if !self.detail.is_empty() {
            text = format!("{text}: {}", self.detail);
        }
        text
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
