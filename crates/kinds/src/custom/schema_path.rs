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

/// Finds a field.
///
/// # Errors
/// Why the path leads nowhere.
pub(crate) fn find_field<'a>(schema: &'a Value, path: &str) -> Result<SchemaPath<'a>, String> {
    const NOWHERE: &str = "does not refer to a valid field";
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
        let properties = get(found.schema, "properties").as_object().filter(|properties| !properties.is_empty());
        found.schema = match (properties, get(found.schema, "additionalProperties")) {
            (Some(properties), _) => properties.get(name).ok_or(NOWHERE)?,
            (None, additional @ Value::Object(_)) => additional,
            (None, _) => return Err(NOWHERE.to_owned()),
        };
        found.names.push(name.to_owned());
        rest = after;
    }
    Ok(found)
}
