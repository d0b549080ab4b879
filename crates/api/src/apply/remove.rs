//! Taking fields out of a value.
//!
//! Source: structured-merge-diff typed/remove.go.

use serde_json::{Map, Value};

use super::element::PathElement;
use super::items::element_of;
use super::schema::{ListKind, Schema, Shape};
use super::set::Set;

/// `value` without the fields of `set`. What is emptied stays as an empty object or list.
pub(super) fn remove<S: Schema>(value: &Value, set: &Set, schema: S) -> Value {
    below(value, set, schema).unwrap_or_else(|| empty_like(value))
}

fn below<S: Schema>(value: &Value, set: &Set, schema: S) -> Option<Value> {
    match (schema.shape_of(Some(value)), value) {
        (Shape::Scalar(_), value) => Some(value.clone()),
        (Shape::List { of, kind }, Value::Array(items)) if kind != ListKind::Atomic => {
            let mut kept = Vec::with_capacity(items.len());
            let mut matched = false;
            for item in items {
                let element = element_of(schema, kind, item).ok();
                if element.as_ref().is_some_and(|element| set.members.contains(element)) {
                    continue;
                }
                match element.and_then(|element| set.below(&element)) {
                    Some(rest) => {
                        matched = true;
                        kept.push(remove(item, rest, of));
                    }
                    None => kept.push(item.clone()),
                }
            }
            (!kept.is_empty() || matched).then_some(Value::Array(kept))
        }
        (Shape::Map { of, atomic: false }, Value::Object(members)) => {
            let mut kept = Map::new();
            let mut matched = false;
            for (name, member) in members {
                let element = PathElement::field(name);
                if set.members.contains(&element) {
                    continue;
                }
                let value = match (set.below(&element), schema.field(name).or(of)) {
                    (Some(rest), Some(schema)) => {
                        matched = true;
                        remove(member, rest, schema)
                    }
                    _ => member.clone(),
                };
                kept.insert(name.clone(), value);
            }
            (!kept.is_empty() || matched).then_some(Value::Object(kept))
        }
        _ => None,
    }
}

fn empty_like(value: &Value) -> Value {
    match value {
        Value::Object(_) => Value::Object(Map::new()),
        Value::Array(_) => Value::Array(Vec::new()),
        _ => Value::Null,
    }
}

/// Drops free maps and lists that became empty: Go leaves them out of what it writes. Those that were empty before stay.
pub(super) fn drop_emptied<S: Schema>(value: &mut Value, before: Option<&Value>, schema: S) {
    match (schema.shape_of(Some(value)), value) {
        (Shape::Map { of, .. }, Value::Object(members)) => members.retain(|name, member| {
            let Some(below) = schema.field(name).or(of) else { return true };
            let before = before.and_then(|before| before.get(name));
            drop_emptied(member, before, below);
            let free = below.is_left_out_when_empty()
                && match below.shape_of(Some(member)) {
                    Shape::List { .. } => member.as_array().is_some_and(Vec::is_empty),
                    Shape::Map { of: Some(_), .. } => member.as_object().is_some_and(Map::is_empty),
                    _ => false,
                };
            !free || before == Some(member)
        }),
        (Shape::List { of, kind }, Value::Array(items)) if kind != ListKind::Atomic => {
            let old = before.and_then(Value::as_array);
            for item in items {
                let element = element_of(schema, kind, item).ok();
                let before = old.into_iter().flatten().find(|old| element_of(schema, kind, old).ok() == element);
                drop_emptied(item, before, of);
            }
        }
        _ => {}
    }
}
