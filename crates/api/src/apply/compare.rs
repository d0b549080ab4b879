//! What differs between two values of a type.
//!
//! Source: structured-merge-diff typed/compare.go.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::element::PathElement;
use super::items::element_of;
use super::literal::equal;
use super::schema::{ListKind, Schema, Shape};
use super::set::Set;

/// The differing fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    /// In the left value alone.
    pub removed: Set,
    /// In both, with other values.
    pub modified: Set,
    /// In the right value alone.
    pub added: Set,
}

impl Comparison {
    /// The comparison but for `ignored` fields and what is below them.
    pub fn without(self, ignored: &Set) -> Self {
        Self {
            removed: self.removed.without_subtrees(ignored),
            modified: self.modified.without_subtrees(ignored),
            added: self.added.without_subtrees(ignored),
        }
    }
}

/// Compares two values.
///
/// # Errors
/// An element of a list that cannot be identified, with the path of the list.
pub(super) fn compare<S: Schema>(left: &Value, right: &Value, schema: S) -> Result<Comparison, String> {
    let mut walk = Walk { path: Vec::new(), found: Comparison::default() };
    walk.value(Some(left), Some(right), schema)?;
    Ok(walk.found)
}

static EMPTY: LazyLock<Value> = LazyLock::new(|| Value::Object(serde_json::Map::new()));

struct Walk {
    path: Vec<PathElement>,
    found: Comparison,
}

impl Walk {
    fn value<S: Schema>(&mut self, left: Option<&Value>, right: Option<&Value>, schema: S) -> Result<(), String> {
        if left.is_none() && right.is_none() {
            return Ok(());
        }
        let telling = [right, left].into_iter().flatten().find(|side| !side.is_null());
        if let (Some(left), Some(right), Shape::Deduced) = (left, right, schema.shape())
            && left.is_object() != right.is_object()
            && !left.is_null()
            && !right.is_null()
        {
            // Members come or go with the object that they are of, and this place has another value.
            self.leaf(Some(left), Some(right));
            return self.map(Some(left), Some(right), schema, Some(schema));
        }
        match schema.shape_of(telling) {
            Shape::List { of, kind } if kind != ListKind::Atomic => {
                let (lefts, rights) = (items(left), items(right));
                if lefts.is_empty() && rights.is_empty() {
                    self.leaf(left, right);
                    return Ok(());
                }
                self.list(lefts, rights, schema, of, kind)?;
            }
            Shape::Map { of, atomic: false } => {
                if is_empty_map(left) && is_empty_map(right) {
                    self.leaf(left, right);
                    return Ok(());
                }
                self.map(left, right, schema, of)?;
            }
            _ => {
                self.leaf(left, right);
                return Ok(());
            }
        }
        match (left, right) {
            (None, _) => self.found.added.insert(&self.path),
            (_, None) => self.found.removed.insert(&self.path),
            _ => {}
        }
        Ok(())
    }

    fn leaf(&mut self, left: Option<&Value>, right: Option<&Value>) {
        match (left, right) {
            (None, _) => self.found.added.insert(&self.path),
            (_, None) => self.found.removed.insert(&self.path),
            (Some(left), Some(right)) if !equal(left, right) => self.found.modified.insert(&self.path),
            _ => {}
        }
    }

    fn below<S: Schema>(
        &mut self,
        element: PathElement,
        left: Option<&Value>,
        right: Option<&Value>,
        schema: S,
    ) -> Result<(), String> {
        self.path.push(element);
        let outcome = self.value(left, right, schema);
        self.path.pop();
        outcome
    }

    fn map<S: Schema>(&mut self, left: Option<&Value>, right: Option<&Value>, schema: S, of: Option<S>) -> Result<(), String> {
        let (lefts, rights) = (left.and_then(Value::as_object), right.and_then(Value::as_object));
        let only_right = rights.into_iter().flatten().filter(|(name, _)| lefts.is_none_or(|lefts| !lefts.contains_key(*name)));
        for name in lefts.into_iter().flatten().map(|(name, _)| name).chain(only_right.map(|(name, _)| name)) {
            let Some(below) = schema.field(name).or(of) else { continue };
            let (left, right) = (member(lefts, name, below), member(rights, name, below));
            self.below(PathElement::field(name), left, right, below)?;
        }
        Ok(())
    }

    fn list<S: Schema>(&mut self, lefts: &[Value], rights: &[Value], list: S, of: S, kind: ListKind) -> Result<(), String> {
        let mut places: BTreeMap<PathElement, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for (items, is_left) in [(lefts, true), (rights, false)] {
            for (index, item) in items.iter().enumerate() {
                let element = element_of(list, kind, item).map_err(|why| self.unidentified(index, &why))?;
                let place = places.entry(element).or_default();
                if is_left { place.0.push(item) } else { place.1.push(item) }
            }
        }
        for (element, (lefts, rights)) in places {
            let here = || [self.path.as_slice(), std::slice::from_ref(&element)].concat();
            match (lefts.as_slice(), rights.as_slice()) {
                ([_, _, ..], [_, _, ..]) => {
                    let same = lefts.len() == rights.len() && lefts.iter().zip(&rights).all(|(left, right)| equal(left, right));
                    if !same {
                        let path = here();
                        self.found.modified.insert(&path);
                    }
                }
                ([_, _, ..], right) => {
                    let path = here();
                    if let Some(right) = right.first() {
                        self.below(element, None, Some(right), of)?;
                    }
                    self.found.removed.insert(&path);
                }
                (left, [_, _, ..]) => {
                    let path = here();
                    if let Some(left) = left.first() {
                        self.below(element, Some(left), None, of)?;
                    }
                    self.found.added.insert(&path);
                }
                (left, right) => self.below(element, left.first().copied(), right.first().copied(), of)?,
            }
        }
        Ok(())
    }

    fn unidentified(&self, index: usize, why: &str) -> String {
        match super::element::Path(self.path.clone()).to_string() {
            path if path.is_empty() => format!("element {index}: {why}"),
            path => format!("{path}: element {index}: {why}"),
        }
    }
}

/// A member of a side that is there; structs that are there with their parent are empty where they are not written.
fn member<'a, S: Schema>(side: Option<&'a serde_json::Map<String, Value>>, name: &str, below: S) -> Option<&'a Value> {
    match side?.get(name) {
        None if below.is_always_there() => Some(&EMPTY),
        found => found,
    }
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn is_empty_map(value: Option<&Value>) -> bool {
    value.and_then(Value::as_object).is_none_or(serde_json::Map::is_empty)
}
