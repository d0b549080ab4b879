//! Laying a configuration over an object.
//!
//! Source: structured-merge-diff typed/merge.go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::element::PathElement;
use super::items::element_of;
use super::schema::{ListKind, Schema, Shape};

/// `over` laid over `under`. What both have is taken from `over`, by the rules of its type; elements of lists stand in the
/// order of `over`, those that only `under` has where they stood between them.
///
/// # Errors
/// An element of a list that cannot be identified, or that `over` has twice.
pub(super) fn merge<S: Schema>(under: &Value, over: &Value, schema: S) -> Result<Value, String> {
    Ok(both(under, over, schema)?.unwrap_or(Value::Null))
}

fn either<S: Schema>(under: Option<&Value>, over: Option<&Value>, schema: S) -> Result<Option<Value>, String> {
    match (under, over) {
        (Some(under), Some(over)) => both(under, over, schema),
        (one, other) => Ok(other.or(one).cloned()),
    }
}

fn both<S: Schema>(under: &Value, over: &Value, schema: S) -> Result<Option<Value>, String> {
    let telling = if over.is_null() { under } else { over };
    match schema.shape_of(Some(telling)) {
        Shape::List { of, kind } if kind != ListKind::Atomic => {
            let (under_items, over_items) = (items(under), items(over));
            if under_items.is_empty() && over_items.is_empty() {
                return Ok(Some(over.clone()));
            }
            let merged = list(under_items, over_items, schema, of, kind)?;
            Ok((!merged.is_empty()).then_some(Value::Array(merged)))
        }
        Shape::Map { of, atomic: false } => {
            let nothing = Map::new();
            let (under_members, over_members) = (under.as_object().unwrap_or(&nothing), over.as_object().unwrap_or(&nothing));
            if under_members.is_empty() && over_members.is_empty() {
                return Ok(Some(over.clone()));
            }
            let mut merged = Map::new();
            let only_over = over_members.keys().filter(|name| !under_members.contains_key(*name));
            for name in under_members.keys().chain(only_over) {
                let Some(below) = schema.field(name).or(of) else { continue };
                if let Some(value) = either(under_members.get(name), over_members.get(name), below)? {
                    merged.insert(name.clone(), value);
                }
            }
            Ok((!merged.is_empty()).then_some(Value::Object(merged)))
        }
        _ => Ok(Some(over.clone())),
    }
}

/// Elements by what identifies them; those that appear twice have no value.
struct Indexed<'a> {
    order: Vec<PathElement>,
    values: BTreeMap<PathElement, Option<&'a Value>>,
}

impl<'a> Indexed<'a> {
    fn new<S: Schema>(items: &'a [Value], list: S, kind: ListKind, may_repeat: bool) -> Result<Self, String> {
        let mut indexed = Self { order: Vec::with_capacity(items.len()), values: BTreeMap::new() };
        for (index, item) in items.iter().enumerate() {
            let element = element_of(list, kind, item).map_err(|why| format!("element {index}: {why}"))?;
            if indexed.values.contains_key(&element) {
                if !may_repeat {
                    return Err(format!("duplicate entries for key {element}"));
                }
                indexed.values.insert(element.clone(), None);
            } else {
                indexed.values.insert(element.clone(), Some(item));
            }
            indexed.order.push(element);
        }
        Ok(indexed)
    }

    fn get(&self, element: &PathElement) -> Option<&'a Value> {
        self.values.get(element).copied().flatten()
    }

    fn has(&self, element: &PathElement) -> bool {
        self.values.contains_key(element)
    }
}

fn list<S: Schema>(under_items: &[Value], over_items: &[Value], list: S, of: S, kind: ListKind) -> Result<Vec<Value>, String> {
    let over = Indexed::new(over_items, list, kind, false)?;
    let under = Indexed::new(under_items, list, kind, true)?;
    let mut shared: VecDeque<&PathElement> = over.order.iter().filter(|element| under.has(element)).collect();
    let mut next_shared = shared.pop_front();
    let mut done: BTreeSet<&PathElement> = BTreeSet::new();
    let mut merged = Vec::with_capacity(under_items.len().max(over_items.len()));
    let (mut at_under, mut at_over) = (0, 0);
    while at_under < under.order.len() || at_over < over.order.len() {
        if let (Some(element), Some(other)) = (under.order.get(at_under), over.order.get(at_over)) {
            if element == other {
                done.insert(element);
                merged.extend(either(under.get(element), over.get(element), of)?);
                at_under += 1;
                at_over += 1;
                next_shared = shared.pop_front();
                continue;
            }
            // It comes later, where the configuration has it.
            if over.has(element) && next_shared.is_some_and(|next| next != element) {
                at_under += 1;
                continue;
            }
        }
        if let Some(element) = under.order.get(at_under) {
            if !over.has(element) {
                merged.push(under_items[at_under].clone());
                at_under += 1;
                continue;
            }
            if done.contains(element) {
                at_under += 1;
            }
        }
        if let Some(element) = over.order.get(at_over) {
            done.insert(element);
            merged.extend(either(under.get(element), over.get(element), of)?);
            at_over += 1;
            if next_shared == Some(element) {
                next_shared = shared.pop_front();
            }
        }
    }
    Ok(merged)
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::test_schema::thing;
    use super::*;
    use serde_json::json;

    /// Lists of type `set`, an element a letter.
    #[test]
    fn elements_stand_where_the_configuration_has_them() {
        for (under, over, expected) in [
            ("abc", "ab", "abc"),
            ("ab", "abc", "abc"),
            ("abc", "", "abc"),
            ("", "abc", "abc"),
            ("ab", "ba", "ba"),
            ("abc", "def", "abcdef"),
            ("abcgf", "cdef", "abcgdef"),
            ("cdef", "ace", "acdef"),
            ("abcxyz", "def", "abcxyzdef"),
            ("abcxyz", "defxyz", "abcdefxyz"),
            ("cagf", "cfag", "cfag"),
            ("abcd", "defa", "bcdefa"),
            ("cdefghij", "2h3e4kl", "cdfg2hij3e4kl"),
            ("abcdefghij", "1b2h3e4kl", "a1bcdfg2hij3e4kl"),
            // What the object has twice stays, but for what the configuration has as well.
            ("abb", "c", "abbc"),
            ("abb", "b", "ab"),
            ("abb", "a", "abb"),
            ("abcdec", "1b2ed", "a1bc2ecd"),
            ("abcdec", "1b2ced", "a1b2ced"),
            ("aabb", "bcd", "aabcd"),
            ("aabb", "", "aabb"),
            ("cagfca", "cfag", "cfag"),
        ] {
            let object = |letters: &str| {
                let letters: Vec<String> = letters.chars().map(String::from).collect();
                json!({"metadata": {"finalizers": letters}})
            };
            let merged = merge(&object(under), &object(over), &thing()).expect("merges");
            assert_eq!(merged, object(expected), "{under} + {over}");
        }
    }

    #[test]
    fn members_and_nulls() {
        for (under, over, expected) in [
            (
                json!({"spec": {"replicas": 1}}),
                json!({"spec": {"selector": {"a": "b"}}}),
                json!({"spec": {"replicas": 1, "selector": {"a": "b"}}}),
            ),
            (
                json!({"spec": {"selector": {"a": "b"}}}),
                json!({"spec": {"selector": {"c": "d"}}}),
                json!({"spec": {"selector": {"c": "d"}}}),
            ),
            (json!({"spec": {"replicas": 1}}), json!({"spec": null}), json!({"spec": {"replicas": 1}})),
            (json!({"spec": {"replicas": 1}}), json!({"spec": {"replicas": null}}), json!({"spec": {"replicas": null}})),
            (
                json!({"metadata": {"labels": {"a": "b"}}}),
                json!({"metadata": {"labels": {}}}),
                json!({"metadata": {"labels": {"a": "b"}}}),
            ),
            (json!({}), json!({"metadata": {"labels": {}}}), json!({"metadata": {"labels": {}}})),
        ] {
            assert_eq!(merge(&under, &over, &thing()), Ok(expected), "{under} + {over}");
        }
        let twice = merge(&json!({}), &json!({"metadata": {"finalizers": ["a", "a"]}}), &thing());
        assert_eq!(twice, Ok(json!({"metadata": {"finalizers": ["a", "a"]}})), "what is new is checked before");
    }
}
