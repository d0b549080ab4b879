//! Sets of field paths.
//!
//! Source: structured-merge-diff fieldpath/set.go.

use std::collections::{BTreeMap, BTreeSet};

use super::element::{Path, PathElement};
use super::schema::{ListKind, Schema, Shape};

/// A set of paths as a tree: what belongs to the set at this place, and what does below.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    pub(super) members: BTreeSet<PathElement>,
    /// Invariant: no child is empty, but for those of [`Set::with_named_fields`], which keeps what it is given.
    pub(super) children: BTreeMap<PathElement, Set>,
}

impl Set {
    /// A set of paths of members.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(&Path::fields(path).0);
        }
        set
    }

    /// Adds a path; the root is no path.
    pub fn insert(&mut self, path: &[PathElement]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    /// Whether the set has nothing.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.values().all(Self::is_empty)
    }

    /// Whether the path itself belongs to the set.
    pub fn has(&self, path: &[PathElement]) -> bool {
        match path {
            [] => false,
            [last] => self.members.contains(last),
            [first, rest @ ..] => self.children.get(first).is_some_and(|child| child.has(rest)),
        }
    }

    /// What belongs to the set below an element.
    pub(super) fn below(&self, element: &PathElement) -> Option<&Self> {
        self.children.get(element).filter(|child| !child.is_empty())
    }

    /// Paths of either set.
    pub fn union(mut self, other: &Self) -> Self {
        self.members.extend(other.members.iter().cloned());
        for (element, child) in &other.children {
            let own = self.children.entry(element.clone()).or_default();
            *own = std::mem::take(own).union(child);
        }
        self
    }

    /// Paths of both sets.
    pub fn intersection(&self, other: &Self) -> Self {
        let children = self.children.iter().filter_map(|(element, child)| {
            let both = child.intersection(other.children.get(element)?);
            (!both.is_empty()).then(|| (element.clone(), both))
        });
        Self { members: self.members.intersection(&other.members).cloned().collect(), children: children.collect() }
    }

    /// Paths of this set that the other has not.
    pub fn difference(&self, other: &Self) -> Self {
        let children = self.children.iter().filter_map(|(element, child)| {
            let left = match other.children.get(element) {
                Some(theirs) => child.difference(theirs),
                None => child.clone(),
            };
            (!left.is_empty()).then(|| (element.clone(), left))
        });
        Self { members: self.members.difference(&other.members).cloned().collect(), children: children.collect() }
    }

    /// Paths of this set that are neither in the other nor below one of its paths.
    pub fn without_subtrees(&self, other: &Self) -> Self {
        let children = self.children.iter().filter(|(element, _)| !other.members.contains(*element));
        let children = children.filter_map(|(element, child)| {
            let left = match other.children.get(element) {
                Some(theirs) => child.without_subtrees(theirs),
                None => child.clone(),
            };
            (!left.is_empty()).then(|| (element.clone(), left))
        });
        Self { members: self.members.difference(&other.members).cloned().collect(), children: children.collect() }
    }

    /// The set with each member of a struct on the way to one of its paths (`EnsureNamedFieldsAreMembers`).
    pub(super) fn with_named_fields<S: Schema>(&self, schema: Option<S>) -> Self {
        let shape = schema.map(Schema::shape);
        let mut members = self.members.clone();
        let mut children = BTreeMap::new();
        for (element, child) in &self.children {
            let below = match (element, shape) {
                (PathElement::Field(name), Some(Shape::Map { of, .. })) => {
                    let declared = schema.and_then(|schema| schema.field(name));
                    if declared.is_some() {
                        members.insert(element.clone());
                    }
                    declared.or(of)
                }
                (PathElement::Field(_), Some(Shape::Deduced)) => schema,
                (PathElement::Key(_), Some(Shape::List { of, .. })) => Some(of),
                _ => None,
            };
            children.insert(element.clone(), child.with_named_fields(below));
        }
        Self { members, children }
    }

    /// The set in which what is below a field that is replaced as a whole is that field: its type may have been a granular
    /// one where the set was written (`ReconcileFieldSetWithSchema`).
    pub(super) fn with_whole_fields<S: Schema>(self, schema: S) -> Self {
        let shape = schema.shape();
        if matches!(shape, Shape::Deduced) {
            return self;
        }
        let mut out = Self { members: self.members, children: BTreeMap::new() };
        for (element, child) in self.children {
            let below = match (&element, shape) {
                (PathElement::Field(name), Shape::Map { of, .. }) => schema.field(name).or(of),
                (_, Shape::List { of, .. }) => Some(of),
                _ => None,
            };
            match below.map(|below| (below, below.shape())) {
                Some((_, Shape::Untyped | Shape::List { kind: ListKind::Atomic, .. } | Shape::Map { atomic: true, .. })) => {
                    out.members.insert(element);
                }
                Some((below, _)) => {
                    out.children.insert(element, child.with_whole_fields(below));
                }
                None => {
                    out.children.insert(element, child);
                }
            }
        }
        out
    }

    /// All paths: those of a place before those below it, each in order.
    pub fn paths(&self) -> Vec<Path> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, prefix: &mut Vec<PathElement>, out: &mut Vec<Path>) {
        for member in &self.members {
            prefix.push(member.clone());
            out.push(Path(prefix.clone()));
            prefix.pop();
        }
        for (element, child) in &self.children {
            prefix.push(element.clone());
            child.collect(prefix, out);
            prefix.pop();
        }
    }
}

impl FromIterator<Path> for Set {
    fn from_iter<I: IntoIterator<Item = Path>>(paths: I) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(&path.0);
        }
        set
    }
}
