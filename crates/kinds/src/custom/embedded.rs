//! Objects that are embedded in custom objects: they say what they are, and their metadata are valid.
//!
//! Source: apiextensions-apiserver pkg/apiserver/schema/objectmeta/validation.go.

use daruma_api::status::FieldError;
use serde_json::{Map, Value};

use super::schema::Schema;
use crate::{metadata, names};

/// All that is wrong with embedded objects of an object. The object itself is checked elsewhere.
pub(crate) fn errors(schema: &Schema, object: &Value) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    walk(schema, object, "", &mut wrong);
    wrong
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn walk(schema: &Schema, value: &Value, path: &str, wrong: &mut Vec<FieldError>) {
    match value {
        Value::Object(members) => {
            if schema.embedded {
                embedded(members, path, wrong);
            }
            for (name, member) in members {
                let declared = schema.properties.contains_key(name.as_str());
                let path = if declared { join(path, name) } else { format!("{path}[{name}]") };
                if let Some(of) = schema.member(name) {
                    walk(of, member, &path, wrong);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                if let Some(of) = &schema.items {
                    walk(of, item, &format!("{path}[{index}]"), wrong);
                }
            }
        }
        _ => {}
    }
}

fn embedded(object: &Map<String, Value>, path: &str, wrong: &mut Vec<FieldError>) {
    for key in ["apiVersion", "kind"] {
        if !object.contains_key(key) {
            wrong.push(FieldError::required(join(path, key), ""));
        }
    }
    let mut invalid = |key: &str, value: &Value, detail: String| {
        wrong.push(FieldError::invalid(join(path, key), value.to_string(), detail));
    };
    if let Some(value) = object.get("apiVersion") {
        match value.as_str() {
            None => invalid("apiVersion", value, "must be a string".to_owned()),
            Some("") => invalid("apiVersion", value, "must not be empty".to_owned()),
            Some(text) if text.matches('/').count() > 1 => {
                invalid("apiVersion", value, format!("unexpected GroupVersion string: {text}"));
            }
            Some(_) => {}
        }
    }
    if let Some(value) = object.get("kind") {
        match value.as_str() {
            None => invalid("kind", value, "must be a string".to_owned()),
            Some("") => invalid("kind", value, "must not be empty".to_owned()),
            Some(kind) => {
                let found = names::dns_1035_label(&kind.to_lowercase());
                if !found.is_empty() {
                    invalid("kind", value, format!("may have mixed case, but should otherwise match: {}", found.join(",")));
                }
            }
        }
    }
    if let Some(own) = object.get("metadata") {
        for mut error in metadata::validate_embedded(own) {
            error.field = join(path, &error.field);
            wrong.push(error);
        }
    }
}
