//! Which fields a configuration has: those that who applies it will own.
//!
//! Source: structured-merge-diff typed/tofieldset.go.

use std::collections::BTreeSet;

use serde_json::Value;

use super::element::PathElement;
use super::items::element_of;
use super::schema::{ListKind, Schema, Shape};
use super::set::Set;

/// The fields of a value.
pub(super) fn field_set<S: Schema>(value: &Value, schema: S) -> Set {
    let mut walk = Walk { path: Vec::new(), set: Set::default() };
    walk.value(value, schema);
    walk.set
}

struct Walk {
    path: Vec<PathElement>,
    set: Set,
}

impl Walk {
    fn value<S: Schema>(&mut self, value: &Value, schema: S) {
        match (schema.shape_of(Some(value)), value) {
            (
                Shape::Scalar(_) | Shape::Untyped | Shape::List { kind: ListKind::Atomic, .. } | Shape::Map { atomic: true, .. },
                _,
            ) => self.set.insert(&self.path),
            (Shape::List { of, kind }, Value::Array(items)) => self.items(items, schema, of, kind),
            (Shape::Map { of, .. }, Value::Object(members)) => {
                for (name, member) in members {
                    let declared = schema.field(name);
                    self.path.push(PathElement::field(name));
                    if let Some(below) = declared.or(of) {
                        self.value(member, below);
                    }
                    let is_empty = member.is_null() || member.as_object().is_some_and(serde_json::Map::is_empty);
                    if is_empty || declared.is_none() {
                        self.set.insert(&self.path);
                    }
                    self.path.pop();
                }
            }
            _ => {}
        }
    }

    fn items<S: Schema>(&mut self, items: &[Value], list: S, of: S, kind: ListKind) {
        let elements: Vec<(PathElement, &Value)> =
            items.iter().filter_map(|item| Some((element_of(list, kind, item).ok()?, item))).collect();
        let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
        for (element, _) in &elements {
            if !seen.insert(element) {
                twice.insert(element);
            }
        }
        for (element, item) in &elements {
            self.path.push(element.clone());
            // Of elements that appear twice only the list as a whole can be said to be owned.
            if !twice.contains(element) {
                self.value(item, of);
            }
            self.set.insert(&self.path);
            self.path.pop();
        }
    }
}
