//! Reading and changing JSON objects without a type.

use serde_json::{Map, Value};

/// What is at a JSON pointer, none of whose names has a slash or a tilde in it (`Value::pointer` makes two strings of
/// each name, for those).
fn at<'a>(object: &'a Value, pointer: &str) -> Option<&'a Value> {
    let (mut value, mut rest) = (object, pointer);
    while let Some(names) = rest.strip_prefix('/') {
        let end = names.bytes().position(|byte| byte == b'/').unwrap_or(names.len());
        let (name, tail) = names.split_at(end);
        value = match value {
            Value::Object(fields) => fields.get(name)?,
            Value::Array(items) => items.get(name.parse::<usize>().ok()?)?,
            _ => return None,
        };
        rest = tail;
    }
    Some(value)
}

/// The text at a JSON pointer; empty where there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    at(object, pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The number at a JSON pointer.
pub fn number(object: &Value, pointer: &str) -> Option<i64> {
    at(object, pointer).and_then(Value::as_i64)
}

/// Whether there is `true` at a JSON pointer.
pub fn is_true(object: &Value, pointer: &str) -> bool {
    at(object, pointer).and_then(Value::as_bool).unwrap_or_default()
}

/// The elements at a JSON pointer.
pub fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    at(object, pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The texts at a JSON pointer.
pub fn texts<'a>(object: &'a Value, pointer: &str) -> Vec<&'a str> {
    list(object, pointer).iter().filter_map(Value::as_str).collect()
}

/// `object[key]` as an object, made where it is missing.
pub fn child<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let fields = object.as_object_mut().expect("made an object above");
    let value = fields.entry(key).or_insert_with(|| Value::Object(Map::new()));
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("made an object above")
}

/// `metadata`, made where it is missing.
pub fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    child(object, "metadata")
}

/// `object[key]` as a list, made where it is missing.
pub fn elements<'a>(object: &'a mut Map<String, Value>, key: &str) -> &'a mut Vec<Value> {
    let value = object.entry(key).or_insert_with(|| Value::Array(Vec::new()));
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut().expect("made a list above")
}

/// Sets or removes one metadata field.
pub fn set_metadata(object: &mut Value, key: &str, value: Option<Value>) {
    let fields = metadata(object);
    match value {
        Some(value) => {
            fields.insert(key.into(), value);
        }
        None => {
            fields.remove(key);
        }
    }
}

/// A time as objects carry it: RFC 3339 in seconds.
pub fn seconds(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A time with microseconds (`MicroTime`).
pub fn micros(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pointers() {
        let document = json!({"a": {"b": [{"c": "x"}]}, "": 1});
        assert_eq!(text(&document, "/a/b/0/c"), "x");
        assert_eq!(number(&document, "/"), Some(1));
        for nowhere in ["/a/b/1/c", "/a/b/x", "/a/b/0/c/d", "/b", "/a/"] {
            assert_eq!(at(&document, nowhere), None, "{nowhere}");
        }
        assert_eq!(at(&document, ""), Some(&document));
    }
}
