//! JSON patch (RFC 6902).
//!
//! Messages follow gopkg.in/evanphx/json-patch.v4, which the real server uses.

use serde_json::Value;

use super::PatchError;

/// How many operations one patch may hold (apiserver pkg/endpoints/handlers/patch.go).
const MOST_OPERATIONS: usize = 10_000;

/// Applies the operations of `patch`, in order, to `document`.
///
/// # Errors
/// A patch that is no list of operations, or an operation that does not fit the document; the
/// document may then be half changed.
pub fn json_patch(document: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let Value::Array(operations) = patch else {
        return Err(PatchError::Malformed("json: cannot unmarshal object into Go value of type jsonpatch.Patch".to_owned()));
    };
    if operations.len() > MOST_OPERATIONS {
        let text = format!("The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {}", operations.len());
        return Err(PatchError::Malformed(text));
    }
    operations.iter().try_for_each(|operation| apply(document, operation).map_err(PatchError::DoesNotApply))
}

fn apply(document: &mut Value, operation: &Value) -> Result<(), String> {
    let text = |key: &str| operation.get(key).and_then(Value::as_str);
    let path = || text("path").ok_or_else(|| "missing value".to_owned());
    let from = || text("from").ok_or_else(|| "missing value".to_owned());
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    match text("op").unwrap_or("unknown") {
        "add" => insert(document, path()?, value(), "add", ""),
        "remove" => remove(document, path()?, "remove").map(drop),
        "replace" => {
            let path = path()?;
            if path.is_empty() {
                *document = value();
                return Ok(());
            }
            parent(document, path)
                .ok_or_else(|| format!("replace operation does not apply: doc is missing path: {path}: missing value"))?;
            let target = document
                .pointer_mut(path)
                .ok_or_else(|| format!("replace operation does not apply: doc is missing key: {path}: missing value"))?;
            *target = value();
            Ok(())
        }
        "move" => {
            let (from, path) = (from()?, path()?);
            if parent(document, from).is_none() {
                return Err(format!("move operation does not apply: doc is missing from path: {from}: missing value"));
            }
            let moved = remove(document, from, "move")?;
            insert(document, path, moved, "move", "destination ")
        }
        "copy" => {
            let (from, path) = (from()?, path()?);
            let copied = document
                .pointer(from)
                .cloned()
                .ok_or_else(|| format!("copy operation does not apply: doc is missing from path: {from}: missing value"))?;
            insert(document, path, copied, "copy", "destination ")
        }
        "test" => {
            let path = path()?;
            if !path.is_empty() && parent(document, path).is_none() {
                return Err(format!("test operation does not apply: is missing path: {path}: missing value"));
            }
            if document.pointer(path).unwrap_or(&Value::Null) == &value() {
                Ok(())
            } else {
                Err(format!("testing value {path} failed: test failed"))
            }
        }
        other => Err(format!("Unexpected kind: {other}")),
    }
}

/// The container of what `path` names, and the last part of the path.
fn parent<'a>(document: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (container, last) = path.rsplit_once('/')?;
    let container = document.pointer_mut(container)?;
    (container.is_object() || container.is_array()).then(|| (container, last.replace("~1", "/").replace("~0", "~")))
}

fn insert(document: &mut Value, path: &str, value: Value, operation: &str, role: &str) -> Result<(), String> {
    if path.is_empty() {
        *document = value;
        return Ok(());
    }
    let shown = if role.is_empty() { format!("\"{path}\"") } else { path.to_owned() };
    let (container, last) = parent(document, path)
        .ok_or_else(|| format!("{operation} operation does not apply: doc is missing {role}path: {shown}: missing value"))?;
    let wrong = |text: String| format!("error in {operation} for path: '{path}': {text}");
    match container {
        Value::Object(object) => {
            object.insert(last, value);
        }
        Value::Array(list) => {
            let index = if last == "-" {
                list.len()
            } else {
                position(&last, list.len() + 1).map_err(|text| wrong(improper(&last, text)))?
            };
            list.insert(index, value);
        }
        _ => return Err(wrong("missing container".to_owned())),
    }
    Ok(())
}

fn remove(document: &mut Value, path: &str, operation: &str) -> Result<Value, String> {
    let (container, last) = parent(document, path)
        .ok_or_else(|| format!("{operation} operation does not apply: doc is missing path: \"{path}\": missing value"))?;
    let wrong = |text: String| format!("error in {operation} for path: '{path}': {text}");
    match container {
        Value::Object(object) => {
            object.remove(&last).ok_or_else(|| wrong(format!("Unable to remove nonexistent key: {last}: missing value")))
        }
        Value::Array(list) => {
            let index = position(&last, list.len()).map_err(wrong)?;
            Ok(list.remove(index))
        }
        _ => Err(wrong("missing container".to_owned())),
    }
}

/// Adding says more of what is no number.
fn improper(last: &str, text: String) -> String {
    if last.parse::<i64>().is_ok() { text } else { format!("value was not a proper array index: '{last}': {text}") }
}

/// A place in a list; negative numbers count from its end.
fn position(text: &str, length: usize) -> Result<usize, String> {
    let index: i64 = text.parse().map_err(|_| format!("strconv.Atoi: parsing {text:?}: invalid syntax"))?;
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let wrong = || format!("Unable to access invalid index: {index}: invalid index referenced");
    let place = if index < 0 { index + length } else { index };
    if !(0..length).contains(&place) {
        return Err(wrong());
    }
    usize::try_from(place).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(patch: Value, expected: Result<Value, &str>) {
        let mut document = json!({"a": {"b": 1}, "l": [1, 2], "x/y": 0});
        let result = json_patch(&mut document, &patch).map(|()| document).map_err(|error| error.to_string());
        assert_eq!(result, expected.map_err(str::to_owned));
    }

    #[test]
    fn operations() {
        check(json!([{"op": "add", "path": "/a/c", "value": 2}]), Ok(json!({"a": {"b": 1, "c": 2}, "l": [1, 2], "x/y": 0})));
        check(json!([{"op": "add", "path": "/l/1", "value": 9}]), Ok(json!({"a": {"b": 1}, "l": [1, 9, 2], "x/y": 0})));
        check(json!([{"op": "add", "path": "/l/-", "value": 9}]), Ok(json!({"a": {"b": 1}, "l": [1, 2, 9], "x/y": 0})));
        check(json!([{"op": "remove", "path": "/l/0"}]), Ok(json!({"a": {"b": 1}, "l": [2], "x/y": 0})));
        check(json!([{"op": "replace", "path": "/x~1y", "value": null}]), Ok(json!({"a": {"b": 1}, "l": [1, 2], "x/y": null})));
        check(json!([{"op": "move", "from": "/a/b", "path": "/c"}]), Ok(json!({"a": {}, "c": 1, "l": [1, 2], "x/y": 0})));
        check(
            json!([{"op": "test", "path": "/a/b", "value": 1}, {"op": "copy", "from": "/a", "path": "/c"}]),
            Ok(json!({"a": {"b": 1}, "c": {"b": 1}, "l": [1, 2], "x/y": 0})),
        );
    }

    #[test]
    fn refusals() {
        check(json!({}), Err("json: cannot unmarshal object into Go value of type jsonpatch.Patch"));
        check(json!([{"op": "x", "path": "/a"}]), Err("Unexpected kind: x"));
        check(
            json!([{"op": "add", "path": "/n/c", "value": 2}]),
            Err("add operation does not apply: doc is missing path: \"/n/c\": missing value"),
        );
        check(
            json!([{"op": "remove", "path": "/n"}]),
            Err("error in remove for path: '/n': Unable to remove nonexistent key: n: missing value"),
        );
        check(
            json!([{"op": "replace", "path": "/n", "value": 1}]),
            Err("replace operation does not apply: doc is missing key: /n: missing value"),
        );
        check(json!([{"op": "test", "path": "/a/b", "value": 2}]), Err("testing value /a/b failed: test failed"));
        check(
            json!([{"op": "add", "path": "/l/7", "value": 2}]),
            Err("error in add for path: '/l/7': Unable to access invalid index: 7: invalid index referenced"),
        );
    }
}
