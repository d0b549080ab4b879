//! Whether an object's replicas and selector, where the scale subresource looks for them, can be a scale.
//!
//! Source: apiextensions-apiserver pkg/registry/customresource/validator.go (`ValidateScaleSpec`, `ValidateScaleStatus`),
//! apimachinery pkg/apis/meta/v1/unstructured/helpers.go (`NestedInt64`).

use daruma_api::status::FieldError;
use serde_json::Value;

use super::number;
use crate::kind::ScalePaths;

/// All of them.
pub(super) fn errors(paths: Option<ScalePaths>, object: &Value) -> Vec<FieldError> {
    let mut wrong: Vec<FieldError> = paths.into_iter().filter_map(|paths| replicas(paths.spec_replicas, object)).collect();
    wrong.extend(status_errors(paths, object));
    wrong
}

/// Those of the status.
pub(super) fn status_errors(paths: Option<ScalePaths>, object: &Value) -> Vec<FieldError> {
    let Some(paths) = paths else { return Vec::new() };
    let selector = paths.label_selector.and_then(|path| match find(path, object) {
        Ok(None | Some(Value::String(_))) => None,
        Ok(Some(other)) => Some(FieldError::invalid(path, "\"\"", wrong_type(path, other, "string"))),
        Err(why) => Some(FieldError::invalid(path, "\"\"", why)),
    });
    replicas(paths.status_replicas, object).into_iter().chain(selector).collect()
}

fn replicas(path: &str, object: &Value) -> Option<FieldError> {
    let count = match find(path, object) {
        Ok(None) => return None,
        Ok(Some(value)) => match value.as_i64() {
            Some(count) => count,
            None => return Some(FieldError::invalid(path, "0", wrong_type(path, value, "int64"))),
        },
        Err(why) => return Some(FieldError::invalid(path, "0", why)),
    };
    let detail = match count {
        ..0 => "should be a non-negative integer".to_owned(),
        _ if i32::try_from(count).is_err() => format!("should be less than or equal to {}", i32::MAX),
        _ => return None,
    };
    Some(FieldError::invalid(path, count.to_string(), detail))
}

/// What is at the end of a path of names; `None` where something on the way is missing.
///
/// # Errors
/// A value on the way that has no members.
fn find<'a>(path: &str, object: &'a Value) -> Result<Option<&'a Value>, String> {
    let mut at = object;
    for name in path.trim_start_matches('.').split('.') {
        let Value::Object(members) = at else { return Err(wrong_type(path, at, "map[string]interface{}")) };
        match members.get(name) {
            Some(member) => at = member,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

fn wrong_type(path: &str, value: &Value, wanted: &str) -> String {
    let (shown, kind) = match value {
        Value::Null => ("<nil>".to_owned(), "<nil>"),
        Value::Bool(value) => (value.to_string(), "bool"),
        Value::Number(value) if value.is_i64() => (value.to_string(), "int64"),
        Value::Number(value) => (number::shown(value), "float64"),
        Value::String(value) => (value.clone(), "string"),
        Value::Array(_) => (value.to_string(), "[]interface {}"),
        Value::Object(_) => (value.to_string(), "map[string]interface {}"),
    };
    format!("{path} accessor error: {shown} is of the type {kind}, expected {wanted}")
}
