//! Strategic merge patches: lists are merged by the keys that the schema names.
//!
//! Source: apimachinery pkg/util/strategicpatch/patch.go, with nulls that match nothing ignored and
//! parallel lists merged, as the API server applies patches.

use serde_json::{Map, Value};

use crate::schema::{self, Arena, Node};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

/// Applies a strategic merge patch to an object of a kind. A kind without a schema merges by members
/// and replaces lists.
///
/// # Errors
/// A patch that does not follow the format, in the real server's words.
pub fn strategic_merge(group: &str, version: &str, kind: &str, current: &Value, patch: Value) -> Result<Value, String> {
    let arena = schema::arena(group, version);
    let root = arena.and_then(|arena| arena.root(kind)).map_or(Node::Any, Node::Struct);
    let (Value::Object(original), Value::Object(patch)) = (current, patch) else {
        return Err("Invalid JSON document".to_owned());
    };
    let merger = Merger { arena };
    merger.map(original.clone(), patch, &root).map(Value::Object)
}

struct Merger {
    arena: Option<&'static Arena>,
}

/// How a member is patched.
struct Rule {
    node: Node,
    merges: bool,
    replaces: bool,
    key: &'static str,
}

impl Merger {
    fn rule(&self, node: &Node, member: &str) -> Rule {
        let any = Rule { node: Node::Any, merges: false, replaces: false, key: "" };
        match (node, self.arena) {
            (Node::Struct(index), Some(arena)) => arena.get(*index).field(member).map_or(any, |field| Rule {
                // Elements of lists are what matters below.
                node: match &field.node {
                    Node::List(of) => (**of).clone(),
                    other => other.clone(),
                },
                merges: field.merges,
                replaces: field.replaces,
                key: &field.merge_key,
            }),
            (Node::Map(of), _) => Rule { node: (**of).clone(), merges: false, replaces: false, key: "" },
            _ => any,
        }
    }

    fn map(
        &self,
        mut original: Map<String, Value>,
        mut patch: Map<String, Value>,
        node: &Node,
    ) -> Result<Map<String, Value>, String> {
        match patch.get(DIRECTIVE).map(|directive| directive.as_str().unwrap_or_default()) {
            Some("replace") => {
                patch.remove(DIRECTIVE);
                return Ok(patch);
            }
            Some("delete") => return Ok(Map::new()),
            Some("merge") => {
                patch.remove(DIRECTIVE);
            }
            Some(other) => return Err(format!("unknown patch type: {other} in map: {}", Value::Object(patch.clone()))),
            None => {}
        }
        retain_keys(&mut original, &mut patch)?;
        self.ordered_lists(&mut original, &mut patch, node)?;
        for (key, value) in patch {
            let (member, deletes) = match key.strip_prefix(DELETE_FROM) {
                Some(member) => (member, true),
                None => (key.as_str(), false),
            };
            if value.is_null() {
                original.remove(member);
                continue;
            }
            let rule = self.rule(node, member);
            let merged = match (original.get_mut(member).map(Value::take), value) {
                (Some(Value::Object(_)), Value::Object(change)) if !deletes && rule.replaces => Some(Value::Object(change)),
                (Some(Value::Object(before)), Value::Object(change)) if !deletes => {
                    Some(Value::Object(self.map(before, change, &rule.node)?))
                }
                (Some(Value::Array(before)), Value::Array(change)) if deletes => {
                    Some(Value::Array(before.into_iter().filter(|item| !change.contains(item)).collect()))
                }
                (Some(Value::Array(before)), Value::Array(change)) if rule.merges => {
                    Some(Value::Array(self.list(before, change, &rule)?))
                }
                (Some(before), _) if deletes => Some(before),
                (None, _) if deletes => None,
                (_, change) => without_directives(without_nulls(change)),
            };
            match merged {
                Some(merged) => {
                    original.insert(member.to_owned(), merged);
                }
                None => {
                    original.remove(member);
                }
            }
        }
        Ok(original)
    }

    /// Lists whose order the patch gives.
    fn ordered_lists(
        &self,
        original: &mut Map<String, Value>,
        patch: &mut Map<String, Value>,
        node: &Node,
    ) -> Result<(), String> {
        let orders: Vec<String> = patch.keys().filter(|key| key.starts_with(ELEMENT_ORDER)).cloned().collect();
        for name in orders {
            let member = name.strip_prefix(ELEMENT_ORDER).unwrap_or_default().to_owned();
            let Some(Value::Array(order)) = patch.remove(&name) else {
                return Err("invalid patch format of setElementOrder list".to_owned());
            };
            let rule = self.rule(node, &member);
            let as_list = |value: Option<Value>| match value {
                None | Some(Value::Null) => Ok(None),
                Some(Value::Array(list)) => Ok(Some(list)),
                Some(_) => Err("invalid patch format of setElementOrder list".to_owned()),
            };
            let change = as_list(patch.remove(&member))?;
            let before = as_list(original.remove(&member))?;
            if let Some(change) = &change {
                follows(change, &order, rule.key)?;
            }
            let deletions = patch.remove(&format!("{DELETE_FROM}{member}"));
            let order = Order::of(&order, rule.key);
            let server_order = Order::of(before.as_deref().unwrap_or_default(), rule.key);
            let mut merged = match (before, change) {
                (None, None) => continue,
                (Some(before), None) => before,
                (None, Some(change)) => match without_directives(Value::Array(change)) {
                    Some(Value::Array(change)) => change,
                    _ => continue,
                },
                (Some(before), Some(change)) if rule.merges => self.list(before, change, &rule)?,
                (Some(_), Some(change)) => change,
            };
            if let Some(Value::Array(deletions)) = deletions {
                merged.retain(|item| !deletions.contains(item));
            }
            original.insert(member, Value::Array(interleave(merged, &order, &server_order)));
        }
        Ok(())
    }

    fn list(&self, mut original: Vec<Value>, patch: Vec<Value>, rule: &Rule) -> Result<Vec<Value>, String> {
        if original.is_empty() && patch.is_empty() {
            return Ok(original);
        }
        if !original.iter().chain(&patch).any(Value::is_object) {
            let (order, server_order) = (Order::of(&patch, ""), Order::of(&original, ""));
            for item in patch {
                if !original.contains(&item) {
                    original.push(item);
                }
            }
            return Ok(interleave(original, &order, &server_order));
        }
        if rule.key.is_empty() {
            return Err("cannot merge lists without merge key".to_owned());
        }
        let (mut plain, mut replaces) = (Vec::new(), false);
        for item in patch {
            match item.get(DIRECTIVE).map(|directive| directive.as_str().unwrap_or_default()) {
                None => plain.push(item),
                Some("delete") => {
                    let wanted = key_of(&item, rule.key)?.clone();
                    original.retain(|item| item.get(rule.key) != Some(&wanted));
                }
                Some("replace") => replaces = true,
                Some("merge") => return Err("merging lists cannot yet be specified in the patch".to_owned()),
                Some(other) => return Err(format!("unknown patch type: {other} in map: {item}")),
            }
        }
        if replaces {
            return Ok(plain);
        }
        let (order, server_order) = (Order::of(&plain, rule.key), Order::of(&original, rule.key));
        for item in plain {
            let wanted = key_of(&item, rule.key)?.clone();
            let Value::Object(change) = item else { return Err("expected a map in a list of maps".to_owned()) };
            match original.iter_mut().find(|item| item.get(rule.key) == Some(&wanted)) {
                Some(found) => {
                    let Value::Object(before) = found.take() else { return Err("expected a map in a list of maps".to_owned()) };
                    *found = Value::Object(self.map(before, change, &rule.node)?);
                }
                None => original.extend(without_directives(without_nulls(Value::Object(change)))),
            }
        }
        Ok(interleave(original, &order, &server_order))
    }
}

/// Members that the patch does not name in `$retainKeys` go.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), String> {
    let Some(kept) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(kept) = kept else { return Err("invalid patch format of retainKeys".to_owned()) };
    let is_kept = |key: &str| kept.iter().any(|one| one == key);
    let stray = patch.iter().any(|(key, value)| {
        !value.is_null() && !key.starts_with(DELETE_FROM) && !key.starts_with(ELEMENT_ORDER) && !is_kept(key)
    });
    if stray {
        return Err("invalid patch format of retainKeys".to_owned());
    }
    original.retain(|key, _| is_kept(key));
    Ok(())
}

/// A patch's list must keep to the order that it gives.
fn follows(patch: &[Value], order: &[Value], key: &str) -> Result<(), String> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut places = order.iter();
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let same = |other: &Value| if key.is_empty() { other == item } else { other.get(key) == item.get(key) };
        if !places.any(same) {
            return Err(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                Value::from(patch.to_vec()),
                Value::from(order.to_vec())
            ));
        }
    }
    Ok(())
}

fn key_of<'a>(item: &'a Value, key: &str) -> Result<&'a Value, String> {
    item.get(key).ok_or_else(|| format!("map: {item} does not contain declared merge key: {key}"))
}

/// The order of a list's elements, which are known by the value of a key, or as they are where the key is empty.
struct Order<'a> {
    key: &'a str,
    places: Vec<Option<Value>>,
}

impl<'a> Order<'a> {
    fn of(list: &[Value], key: &'a str) -> Self {
        Self { key, places: list.iter().map(|item| mark(item, key).cloned()).collect() }
    }

    fn place(&self, item: &Value) -> Option<usize> {
        let wanted = mark(item, self.key);
        self.places.iter().position(|place| place.as_ref() == wanted)
    }
}

/// What an element is known by.
fn mark<'a>(item: &'a Value, key: &str) -> Option<&'a Value> {
    if key.is_empty() { Some(item) } else { item.get(key) }
}

/// Elements that the patch knows in the patch's order, between the others in the server's order.
fn interleave(merged: Vec<Value>, order: &Order<'_>, server_order: &Order<'_>) -> Vec<Value> {
    let (mut known, mut server_only) = (Vec::with_capacity(merged.len()), Vec::new());
    for item in merged {
        let place = server_order.place(&item);
        match order.place(&item) {
            Some(wanted) => known.push((wanted, place, item)),
            None => server_only.push((place, item)),
        }
    }
    known.sort_by_key(|(wanted, _, _)| *wanted);
    // Elements that the server does not have come last.
    server_only.sort_by_key(|(place, _)| (place.is_none(), *place));
    let mut merged = Vec::with_capacity(known.len() + server_only.len());
    let (mut left, mut right) = (server_only.into_iter().peekable(), known.into_iter().peekable());
    loop {
        let take_left = match (left.peek(), right.peek()) {
            (None, None) => return merged,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some((left, _)), Some((_, right, _))) => matches!((left, right), (Some(left), Some(right)) if left < right),
        };
        merged.extend(if take_left { left.next().map(|(_, item)| item) } else { right.next().map(|(_, _, item)| item) });
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(
            object.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key, without_nulls(value))).collect(),
        ),
        Value::Array(list) => Value::Array(list.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// A part of the patch as it enters the object; `None` for a directive.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(object) if object.contains_key(DIRECTIVE) => None,
        Value::Object(object) => Some(Value::Object(
            object
                .into_iter()
                .filter(|(key, _)| key != RETAIN_KEYS && !key.starts_with(DELETE_FROM) && !key.starts_with(ELEMENT_ORDER))
                .filter_map(|(key, value)| Some((key, without_directives(value)?)))
                .collect(),
        )),
        Value::Array(list) => Some(Value::Array(list.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(kind: &str, current: Value, patch: Value, expected: Value) {
        let group = if kind == "Deployment" { "apps" } else { "" };
        assert_eq!(strategic_merge(group, "v1", kind, &current, patch), Ok(expected));
    }

    #[test]
    fn maps_and_lists() {
        check(
            "ConfigMap",
            json!({"data": {"a": "1", "b": "2"}}),
            json!({"data": {"a": null, "c": "3"}}),
            json!({"data": {"b": "2", "c": "3"}}),
        );
        check(
            "Pod",
            json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}}),
            json!({"spec": {"containers": [{"name": "b", "image": "2"}, {"name": "c", "image": "3", "command": null}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c", "image": "3"}]}}),
        );
        check(
            "Pod",
            json!({"spec": {"tolerations": [{"key": "a"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
        );
        check(
            "Pod",
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}),
            // Elements that the server does not know yet come first, as the real one has it.
            json!({"metadata": {"finalizers": ["c", "b"]}}),
        );
    }

    #[test]
    fn directives() {
        let containers = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
        check(
            "Pod",
            containers.clone(),
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
            json!({"spec": {"containers": [{"name": "b"}]}}),
        );
        check(
            "Pod",
            containers.clone(),
            json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "c"}]}}),
            json!({"spec": {"containers": [{"name": "c"}]}}),
        );
        check(
            "Pod",
            containers.clone(),
            json!({"spec": {"$patch": "replace", "nodeName": "n"}}),
            json!({"spec": {"nodeName": "n"}}),
        );
        check(
            "Pod",
            containers,
            json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}], "containers": [{"name": "c"}]}}),
            json!({"spec": {"containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}]}}),
        );
        check(
            "Deployment",
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
            json!({"spec": {"strategy": {"type": "Recreate"}}}),
        );
    }

    #[test]
    fn refusals() {
        for (patch, expected) in [
            (
                json!({"spec": {"containers": [{"image": "x"}]}}),
                "map: {\"image\":\"x\"} does not contain declared merge key: name",
            ),
            (json!({"spec": {"$patch": "x"}}), "unknown patch type: x in map: {\"$patch\":\"x\"}"),
            (json!({"spec": {"$retainKeys": "x"}}), "invalid patch format of retainKeys"),
        ] {
            let current = json!({"spec": {"containers": [{"name": "a"}]}});
            assert_eq!(strategic_merge("", "v1", "Pod", &current, patch), Err(expected.to_owned()));
        }
    }
}
