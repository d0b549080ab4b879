//! Fields of a schema by their path.
//!
//! Source: apiextensions-apiserver pkg/apiserver/schema/cel/validation.go (`ValidFieldPath`, without the notation of arrays).

use serde_json::Value;

use crate::access::get;

/// A field that a path leads to.
pub(crate) struct SchemaPath<'a> {
    /// Names on the way.
    pub names: Vec<String>,
    /// Its schema.
    pub schema: &'a Value,
}

/// Finds the field that a rule blames: names after dots, keys of maps (and names that dots cannot spell) in brackets and quotes.
///
/// # Errors
/// Why the path leads nowhere.
pub(crate) fn find_rule_field<'a>(schema: &'a Value, path: &str) -> Result<&'a Value, String> {
    let mut at = schema;
    let mut rest = path.trim();
    while !rest.is_empty() {
        let (step, after) = match rest.strip_prefix("['") {
            Some(quoted) => quoted.split_once("']").ok_or("unexpected end of JSON path")?,
            None if rest.starts_with('.') => rest.split_at(rest[1..].find(['.', '[']).map_or(rest.len(), |end| end + 1)),
            None => return Err(format!("expected [ or . but got: {rest}")),
        };
        at = step_into(at, if rest.starts_with('.') { &step[1..] } else { step })?;
        rest = after;
    }
    Ok(at)
}

fn step_into<'a>(schema: &'a Value, name: &str) -> Result<&'a Value, &'static str> {
    const NOWHERE: &str = "does not refer to a valid field";
    let properties = get(schema, "properties").as_object().filter(|properties| !properties.is_empty());
    match (properties, get(schema, "additionalProperties")) {
        (Some(properties), _) => properties.get(name).ok_or(NOWHERE),
        (None, additional @ Value::Object(_)) => Ok(additional),
        (None, _) => Err(NOWHERE),
    }
}

/// Finds a field.
///
/// # Errors
/// Why the path leads nowhere.
pub(crate) fn find_field<'a>(schema: &'a Value, path: &str) -> Result<SchemaPath<'a>, String> {
    let mut found = SchemaPath { names: Vec::new(), schema };
    let mut rest = path;
    while !rest.is_empty() {
        if rest.starts_with('[') {
            return Err("array notation is not allowed".to_owned());
        }
        let end_of = |text: &str| text.find(['.', '[', ']']).unwrap_or(text.len());
        let Some(tail) = rest.strip_prefix('.') else {
            return Err(format!("expected [ or . but got: {}", &rest[..end_of(rest).max(1)]));
        };
        if tail.is_empty() {
            return Err("unexpected end of JSON path".to_owned());
        }
        let (name, after) = tail.split_at(end_of(tail));
        found.schema = step_into(found.schema, name)?;
        found.names.push(name.to_owned());
        rest = after;
    }
    Ok(found)
}
