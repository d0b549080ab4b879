//! Elements of lists of type `set` and `map`: those that appear twice, and those that are one and the same before and after.
//!
//! Source: apiextensions-apiserver pkg/apiserver/schema/listtype/validation.go.

use std::collections::BTreeMap;

use daruma_api::apply::ListKind;
use daruma_api::status::FieldError;
use serde_json::{Map, Value};

use super::schema::Schema;

/// All that appear twice in an object.
pub(super) fn errors(schema: &Schema, object: &Value) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    walk(schema, object, "", &mut wrong);
    wrong
}

/// The element of the old list that is the same one: lists of type `map` tell by their keys, others not at all.
pub(super) fn same_element<'a>(schema: &Schema, item: &Value, old: &'a Value) -> Option<&'a Value> {
    if schema.list != Some(ListKind::Map) {
        return None;
    }
    let same = |one: &&Value| schema.keys.iter().all(|key| one.get(&*key.name) == item.get(&*key.name));
    old.as_array()?.iter().find(same)
}

fn walk(schema: &Schema, value: &Value, path: &str, wrong: &mut Vec<FieldError>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let declared = schema.properties.get(name.as_str());
                let path = match declared {
                    Some(_) if path.is_empty() => name.clone(),
                    Some(_) => format!("{path}.{name}"),
                    None => format!("{path}[{name}]"),
                };
                if let Some(of) = schema.member(name) {
                    walk(of, member, &path, wrong);
                }
            }
        }
        Value::Array(items) => {
            match schema.list {
                Some(ListKind::Set) => {
                    for index in repeated(items.iter()) {
                        wrong.push(FieldError::duplicate(format!("{path}[{index}]"), items[index].to_string()));
                    }
                }
                Some(ListKind::Map) => map(schema, items, path, wrong),
                _ => {}
            }
            if let Some(of) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    walk(of, item, &format!("{path}[{index}]"), wrong);
                }
            }
        }
        _ => {}
    }
}

fn map(schema: &Schema, items: &[Value], path: &str, wrong: &mut Vec<FieldError>) {
    if let Some((index, item)) = items.iter().enumerate().find(|(_, item)| !item.is_null() && !item.is_object()) {
        let detail = "must be an object for an array of list-type map";
        wrong.push(FieldError::invalid(format!("{path}[{index}]"), item.to_string(), detail));
        return;
    }
    let keys: Vec<Value> = items
        .iter()
        .map(|item| {
            let named = schema.keys.iter().filter_map(|key| Some((key.name.to_string(), item.get(&*key.name)?.clone())));
            Value::Object(named.collect::<Map<_, _>>())
        })
        .collect();
    for index in repeated(keys.iter()) {
        wrong.push(FieldError::duplicate(format!("{path}[{index}]"), keys[index].to_string()));
    }
}

/// Where values appear for the second time; later ones are not told.
fn repeated<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<usize> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut twice = Vec::new();
    for (index, value) in values.enumerate() {
        let count = seen.entry(value.to_string()).or_default();
        *count += 1;
        if *count == 2 {
            twice.push(index);
        }
    }
    twice
}
