//! Short ways to read and write JSON documents. Reading a missing or wrongly typed member gives the
//! empty value: types are checked once, when a request is decoded ([`crate::schema::check_fields`]).

use serde_json::{Map, Value};

static NULL: Value = Value::Null;

/// A JSON object.
pub(crate) type Object = Map<String, Value>;

/// The member at the end of `path`; `Null` where something on the way is missing.
pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |value, key| get(value, key))
}

/// One member; `Null` where it is missing.
pub(crate) fn get<'a>(value: &'a Value, key: &str) -> &'a Value {
    value.get(key).unwrap_or(&NULL)
}

/// Whether a member is there and not null.
pub(crate) fn has(value: &Value, key: &str) -> bool {
    !get(value, key).is_null()
}

/// A string member; empty where it is missing.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    get(value, key).as_str().unwrap_or_default()
}

/// A whole-number member.
pub(crate) fn integer(value: &Value, key: &str) -> Option<i64> {
    get(value, key).as_i64()
}

/// A whole-number member; zero where it is missing.
pub(crate) fn number(value: &Value, key: &str) -> i64 {
    integer(value, key).unwrap_or_default()
}

/// A boolean member; false where it is missing.
pub(crate) fn flag(value: &Value, key: &str) -> bool {
    get(value, key).as_bool().unwrap_or_default()
}

/// A list member; empty where it is missing.
pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    get(value, key).as_array().map(Vec::as_slice).unwrap_or_default()
}

/// An object member's entries; none where it is missing.
pub(crate) fn entries<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    get(value, key).as_object().into_iter().flatten()
}

/// A list member for writing, where it is there.
pub(crate) fn list_mut<'a>(value: &'a mut Value, key: &str) -> &'a mut [Value] {
    value.get_mut(key).and_then(Value::as_array_mut).map(Vec::as_mut_slice).unwrap_or_default()
}

/// An object member for writing, where it is there.
pub(crate) fn object_mut<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Object> {
    value.get_mut(key).and_then(Value::as_object_mut)
}

/// A member for writing; made an empty object where it is missing.
pub(crate) fn ensure<'a>(value: &'a mut Value, key: &str) -> &'a mut Value {
    if !value.is_object() {
        *value = Value::Object(Object::new());
    }
    let member = value.as_object_mut().expect("made an object above").entry(key).or_insert(Value::Null);
    if member.is_null() {
        *member = Value::Object(Object::new());
    }
    member
}

/// Sets a member where it is missing or null.
pub(crate) fn default_to(value: &mut Value, key: &str, default: impl Into<Value>) {
    if let Some(object) = value.as_object_mut() {
        match object.get_mut(key) {
            Some(member) if member.is_null() => *member = default.into(),
            Some(_) => {}
            None => {
                object.insert(key.to_owned(), default.into());
            }
        }
    }
}

/// Sets a string member where it is missing or empty.
pub(crate) fn default_text(value: &mut Value, key: &str, default: &str) {
    if text(value, key).is_empty() {
        set(value, key, default);
    }
}

/// Sets a whole-number member where it is missing or zero.
pub(crate) fn default_number(value: &mut Value, key: &str, default: i64) {
    if number(value, key) == 0 {
        set(value, key, default);
    }
}

/// Sets a member.
pub(crate) fn set(value: &mut Value, key: &str, to: impl Into<Value>) {
    if let Some(object) = value.as_object_mut() {
        object.insert(key.to_owned(), to.into());
    }
}

/// Removes a member.
pub(crate) fn remove(value: &mut Value, key: &str) {
    if let Some(object) = value.as_object_mut() {
        object.remove(key);
    }
}

/// Makes a member of `new` what it is in `old`. Most often it is that already, and comparing is much less work than copying.
pub(crate) fn keep(new: &mut Value, old: &Value, key: &str) {
    match old.get(key) {
        Some(member) if new.get(key) == Some(member) => {}
        Some(member) => set(new, key, member.clone()),
        None => remove(new, key),
    }
}

/// Whether two documents mean the same: a missing member, null, and an empty list or object are alike.
///
/// Source: apimachinery pkg/api/equality (`Semantic.DeepEqual`).
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter().all(|(key, value)| same(value, y.get(key).unwrap_or(&NULL)))
                && y.iter().all(|(key, value)| x.contains_key(key) || is_empty(value))
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(a, b)| same(a, b)),
        _ => a == b || (is_empty(a) && is_empty(b)),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sameness() {
        assert!(same(&json!({"a": 1, "b": []}), &json!({"a": 1, "c": null, "d": {}})));
        assert!(!same(&json!({"a": 1}), &json!({"a": 2})));
        assert!(!same(&json!({"a": [1]}), &json!({})));
        assert!(!same(&json!({}), &json!({"a": [1]})));
    }
}
