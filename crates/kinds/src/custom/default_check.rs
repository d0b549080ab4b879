//! Whether a default is a value of its schema.
//!
//! Source: apiextensions-apiserver pkg/apiserver/schema/defaulting/validation.go.

use daruma_api::status::FieldError;
use serde_json::Value;

use super::schema::Schema;
use super::{embedded, fields, rules, validate};

/// Everything that is wrong with a default, which is at `path`.
pub(crate) fn default_errors(schema: &Schema, default: &Value, path: &str) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    let mut pruned = default.clone();
    fields::prune(schema, &mut pruned);
    if pruned != *default {
        wrong.push(FieldError::invalid(path, default.to_string(), "must not have unknown fields"));
    }
    if let Err(why) = fields::check_embedded(schema, &mut pruned) {
        wrong.push(FieldError::invalid(path, default.to_string(), why));
        return wrong;
    }
    let of_embedded = embedded::errors(schema, default);
    if of_embedded.is_empty() {
        wrong.extend(validate::errors(schema, default, None, Some(path)));
        if wrong.is_empty() {
            wrong.extend(rules::default_errors(schema, default, path));
        }
    } else {
        wrong.extend(of_embedded.into_iter().map(|error| FieldError { field: format!("{path}.{}", error.field), ..error }));
    }
    wrong
}
