//! What identifies the elements of a list.

use serde_json::Value;

use super::element::PathElement;
use super::literal::{Literal, quoted};
use super::schema::{ListKind, Schema};

/// The path element of a list's element.
///
/// # Errors
/// What cannot be identified, in the original's words.
pub(super) fn element_of<S: Schema>(list: S, kind: ListKind, item: &Value) -> Result<PathElement, String> {
    match kind {
        ListKind::Atomic => Err("invalid indexing of non-associative list".to_owned()),
        ListKind::Map => keyed(list, item),
        ListKind::Set => match item {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
            plain => Ok(PathElement::Value(Literal(plain.clone()))),
        },
    }
}

fn keyed<S: Schema>(list: S, item: &Value) -> Result<PathElement, String> {
    let members = match item {
        Value::Object(members) => members,
        Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
        _ => return Err("associative list with keys may not have non-map elements".to_owned()),
    };
    let mut keys: Vec<(Box<str>, Literal)> = Vec::with_capacity(list.keys().len());
    for key in list.keys() {
        if let Some(value) = members.get(&*key.name).or(key.default.as_ref()) {
            keys.push((key.name.clone(), Literal(value.clone())));
        }
    }
    if keys.is_empty() {
        let names: Vec<String> = list.keys().iter().map(|key| quoted(&key.name)).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            names.join(" ")
        ));
    }
    keys.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(PathElement::Key(keys.into()))
}
