//! Whether a value fits its type.
//!
//! Source: structured-merge-diff typed/validate.go and helpers.go.

use std::fmt;

use serde_json::Value;

use super::element::{Path, PathElement};
use super::items::element_of;
use super::literal::{go_value, quoted};
use super::schema::{ListKind, Scalar, Schema, Shape};

/// What does not fit, each with its path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Misfits(pub(super) Vec<(String, String)>);

impl fmt::Display for Misfits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |f: &mut fmt::Formatter<'_>, (path, what): &(String, String)| match path.as_str() {
            "" => f.write_str(what),
            path => write!(f, "{path}: {what}"),
        };
        if let [single] = self.0.as_slice() {
            return one(f, single);
        }
        f.write_str("errors:")?;
        for misfit in &self.0 {
            f.write_str("\n  ")?;
            one(f, misfit)?;
        }
        Ok(())
    }
}

impl std::error::Error for Misfits {}

/// Checks a value against its type: members that are not declared, values of the wrong type, and elements of lists that
/// appear twice or cannot be identified.
///
/// # Errors
/// Everything that does not fit.
pub(super) fn check<S: Schema>(value: &Value, schema: S) -> Result<(), Misfits> {
    let mut walk = Walk { path: Path::default(), found: Misfits::default() };
    walk.value(value, schema);
    if walk.found.0.is_empty() { Ok(()) } else { Err(walk.found) }
}

struct Walk {
    path: Path,
    found: Misfits,
}

impl Walk {
    fn misfit(&mut self, what: impl Into<String>) {
        self.found.0.push((self.path.to_string(), what.into()));
    }

    fn below<S: Schema>(&mut self, element: PathElement, value: &Value, schema: S) {
        self.path.0.push(element);
        self.value(value, schema);
        self.path.0.pop();
    }

    fn value<S: Schema>(&mut self, value: &Value, schema: S) {
        match (schema.shape_of(Some(value)), value) {
            (_, Value::Null) | (Shape::Untyped | Shape::Deduced, _) => {}
            (Shape::Scalar(scalar), value) => self.scalar(scalar, value),
            (Shape::List { of, kind }, Value::Array(items)) => self.items(items, schema, of, kind),
            (Shape::List { .. }, value) => self.misfit(format!("expected list, got &{{{}}}", go_value(value))),
            (Shape::Map { of, .. }, Value::Object(members)) => {
                for (name, member) in members {
                    match schema.field(name).or(of) {
                        Some(below) => self.below(PathElement::field(name), member, below),
                        None => {
                            self.path.0.push(PathElement::field(name));
                            self.misfit("field not declared in schema");
                            self.path.0.pop();
                        }
                    }
                }
            }
            (Shape::Map { .. }, value) => self.misfit(format!("expected map, got &{{{}}}", go_value(value))),
        }
    }

    fn items<S: Schema>(&mut self, items: &[Value], list: S, of: S, kind: ListKind) {
        let mut seen = std::collections::BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let element = if kind == ListKind::Atomic {
                PathElement::Index(i64::try_from(index).unwrap_or(i64::MAX))
            } else {
                match element_of(list, kind, item) {
                    Ok(element) => {
                        if !seen.insert(element.clone()) {
                            self.misfit(format!("duplicate entries for key {element}"));
                        }
                        element
                    }
                    Err(why) => return self.misfit(format!("element {index}: {why}")),
                }
            };
            self.below(element, item, of);
        }
    }

    fn scalar(&mut self, scalar: Scalar, value: &Value) {
        match (scalar, value) {
            (Scalar::Numeric | Scalar::Any, Value::Number(_))
            | (Scalar::Text | Scalar::Any, Value::String(_))
            | (Scalar::Boolean | Scalar::Any, Value::Bool(_)) => {}
            (Scalar::Numeric, value) => self.misfit(format!("expected numeric (int or float), got {}", go_type(value))),
            (Scalar::Text, value) => {
                self.misfit(format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_syntax(value)));
            }
            (Scalar::Boolean, value) => self.misfit(format!("expected boolean, got &{{{}}}", go_value(value))),
            (Scalar::Any, value) => self.misfit(format!("expected any scalar, got &{{{}}}", go_value(value))),
        }
    }
}

/// The Go type that JSON decodes to.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value as Go's `%#v` shows it.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            format!("[]interface {{}}{{{}}}", items.iter().map(go_syntax).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) => {
            let members: Vec<String> =
                members.iter().map(|(name, member)| format!("{}:{}", quoted(name), go_syntax(member))).collect();
            format!("map[string]interface {{}}{{{}}}", members.join(", "))
        }
        plain => go_value(plain),
    }
}
