//! Reading and changing JSON objects without a type.

use serde::Serialize;
use serde_json::{Map, Value};

/// Decodes JSON. Whether it is UTF-8 is looked at once, and not for each of its texts.
///
/// # Errors
/// What is no JSON.
pub fn parse(content: &[u8]) -> Result<Value, serde_json::Error> {
    match std::str::from_utf8(content) {
        Ok(text) => serde_json::from_str(text),
        // Tells where it is wrong.
        Err(_) => serde_json::from_slice(content),
    }
}

/// Appends a document as JSON, as [`serde_json::to_writer`] does, in fewer steps.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Object(fields) => {
            out.push(b'{');
            for (index, (name, value)) in fields.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_text(name, out);
                out.push(b':');
                write(value, out);
            }
            out.push(b'}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => write_seldom(value, out),
    }
}

/// Appends a text in quotes.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    if !is_plain(text.as_bytes()) {
        return write_seldom(text, out);
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

fn write_seldom(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("writing to memory does not fail");
}

/// Whether a text stands between quotes as it is. Looks at eight bytes at once.
fn is_plain(text: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHEST: u64 = u64::from_ne_bytes([0x80; 8]);
    /// Not zero where a byte of `word` is below `limit`.
    const fn below(word: u64, limit: u8) -> u64 {
        word.wrapping_sub(ONES * limit as u64) & !word & HIGHEST
    }
    let is_plain_word = |word: &[u8; 8]| {
        let word = u64::from_ne_bytes(*word);
        let quotes = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslashes = below(word ^ (ONES * u64::from(b'\\')), 1);
        (below(word, b' ') | quotes | backslashes) == 0
    };
    match text.last_chunk::<8>() {
        Some(last) => text.as_chunks::<8>().0.iter().all(is_plain_word) && is_plain_word(last),
        None => text.iter().all(|byte| *byte >= b' ' && !matches!(byte, b'"' | b'\\')),
    }
}

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
    fn writing() {
        let mut texts: Vec<String> = (0..20).map(|length| "x".repeat(length)).collect();
        for special in ['"', '\\', '\n', '\u{1f}', '\u{7f}', ' ', '!', '#', '[', ']', '\u{80}', '\u{fc}', '\u{2028}', '\u{1f600}']
        {
            texts.extend((0..12).map(|before| format!("{}{special}{}", "y".repeat(before), "z".repeat(11 - before))));
            texts.push(special.to_string());
        }
        let document = json!({"texts": texts, "\"": {"a": [], "b": {}, "c": [1, -2.5, 1e30, null, true, [false]]}, "": u64::MAX});
        let mut out = Vec::new();
        write(&document, &mut out);
        assert_eq!(String::from_utf8(out).expect("text"), document.to_string());
    }

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
