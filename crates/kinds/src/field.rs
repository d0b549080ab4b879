//! Paths of fields and the list of what is wrong with them.
//!
//! A path is a chain on the stack; it becomes text only when something is wrong, so that a valid
//! object costs no allocation. Messages follow apimachinery pkg/util/validation/field/errors.go.

use std::fmt;

use daruma_api::status::FieldError;
use serde_json::Value;

/// Where a field is.
#[derive(Debug, Clone, Copy)]
pub enum Path<'a> {
    /// The first name.
    Root(&'a str),
    /// A member.
    Child(&'a Path<'a>, &'a str),
    /// An element of a list.
    Index(&'a Path<'a>, usize),
    /// An entry of a map.
    Key(&'a Path<'a>, &'a str),
}

impl<'a> Path<'a> {
    /// A member of this field.
    pub const fn child(&'a self, name: &'a str) -> Path<'a> {
        Path::Child(self, name)
    }
    /// An element of this field.
    pub const fn index(&'a self, index: usize) -> Path<'a> {
        Path::Index(self, index)
    }
    /// An entry of this field.
    pub const fn key(&'a self, key: &'a str) -> Path<'a> {
        Path::Key(self, key)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root(name) => f.write_str(name),
            Path::Child(parent, name) => write!(f, "{parent}.{name}"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
            Path::Key(parent, key) => write!(f, "{parent}[{key}]"),
        }
    }
}

/// A value as a message shows it: JSON text.
#[derive(Debug, Clone)]
pub struct Shown(String);

impl From<&str> for Shown {
    fn from(value: &str) -> Self {
        Self(format!("{value:?}"))
    }
}
impl From<&String> for Shown {
    fn from(value: &String) -> Self {
        Self::from(value.as_str())
    }
}
impl From<String> for Shown {
    fn from(value: String) -> Self {
        Self::from(value.as_str())
    }
}
impl From<i64> for Shown {
    fn from(value: i64) -> Self {
        Self(value.to_string())
    }
}
impl From<&Value> for Shown {
    fn from(value: &Value) -> Self {
        Self(value.to_string())
    }
}
impl Shown {
    /// Text that is shown as it is.
    pub fn raw(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// What was found wrong so far.
#[derive(Debug, Default)]
pub struct Errors {
    list: Vec<FieldError>,
}

impl Errors {
    /// Nothing wrong yet.
    pub fn new() -> Self {
        Self::default()
    }
    /// All that was found.
    pub fn into_vec(self) -> Vec<FieldError> {
        self.list
    }
    /// How much was found.
    pub fn count(&self) -> usize {
        self.list.len()
    }
    /// Takes over what another check found.
    pub fn extend(&mut self, more: impl IntoIterator<Item = FieldError>) {
        self.list.extend(more);
    }
    /// A missing value.
    pub fn required(&mut self, path: &Path<'_>, detail: &str) {
        self.list.push(FieldError::required(path.to_string(), detail));
    }
    /// A value that breaks a rule.
    pub fn invalid(&mut self, path: &Path<'_>, value: impl Into<Shown>, detail: impl Into<String>) {
        self.list.push(FieldError::invalid(path.to_string(), value.into().0, detail));
    }
    /// A value that breaks several rules, each an error of its own.
    pub fn all_invalid(&mut self, path: &Path<'_>, value: &str, details: Vec<String>) {
        for detail in details {
            self.invalid(path, value, detail);
        }
    }
    /// A field that may not be set here.
    pub fn forbidden(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.list.push(FieldError::forbidden(path.to_string(), detail));
    }
    /// A value that appears twice.
    pub fn duplicate(&mut self, path: &Path<'_>, value: impl Into<Shown>) {
        self.list.push(FieldError::duplicate(path.to_string(), value.into().0));
    }
    /// A value that refers to nothing.
    pub fn not_found(&mut self, path: &Path<'_>, value: &str) {
        self.push("FieldValueNotFound", path, Some(format!("{value:?}")), String::new());
    }
    /// A value outside of an enumeration.
    pub fn not_supported(&mut self, path: &Path<'_>, value: &str, supported: &[&str]) {
        self.list.push(FieldError::not_supported(path.to_string(), format!("{value:?}"), supported));
    }
    /// A value of too many bytes.
    pub fn too_long(&mut self, path: &Path<'_>, most: usize) {
        self.push("FieldValueTooLong", path, None, format!("may not be more than {most} bytes"));
    }
    /// A list of too many items.
    pub fn too_many(&mut self, path: &Path<'_>, count: usize, most: usize) {
        self.push("FieldValueTooMany", path, Some(count.to_string()), format!("must have at most {most} items"));
    }
    /// A number below zero.
    pub fn nonnegative(&mut self, path: &Path<'_>, value: i64) {
        if value < 0 {
            self.invalid(path, value, "must be greater than or equal to 0");
        }
    }
    /// A number that is not above zero.
    pub fn positive(&mut self, path: &Path<'_>, value: i64) {
        if value <= 0 {
            self.invalid(path, value, "must be greater than zero");
        }
    }
    /// A text that must be one of `supported`; empty counts as missing.
    pub fn one_of(&mut self, path: &Path<'_>, value: &str, supported: &[&str]) {
        if value.is_empty() {
            self.required(path, "");
        } else if !supported.contains(&value) {
            self.not_supported(path, value, supported);
        }
    }
    /// A field that must not change.
    pub fn immutable(&mut self, path: &Path<'_>, new: &Value, old: &Value) {
        if !crate::access::same(new, old) {
            self.invalid(path, new, "field is immutable");
        }
    }

    fn push(&mut self, reason: &'static str, path: &Path<'_>, value: Option<String>, detail: String) {
        self.list.push(FieldError { reason, field: path.to_string(), value, detail });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_messages() {
        let (spec, mut errors) = (Path::Root("spec"), Errors::new());
        let containers = spec.child("containers");
        errors.required(&containers.index(1).child("image"), "");
        errors.not_supported(&spec.child("dnsPolicy"), "x", &["Default", "None"]);
        errors.invalid(&spec.child("limits").key("cpu"), "-1", "must be greater than or equal to 0");
        errors.too_many(&containers, 5, 3);
        let texts: Vec<String> = errors.into_vec().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.containers[1].image: Required value",
                "spec.dnsPolicy: Unsupported value: \"x\": supported values: \"Default\", \"None\"",
                "spec.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                "spec.containers: Too many: 5: must have at most 3 items",
            ]
        );
    }
}
