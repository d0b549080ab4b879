//! One object as the watch cache holds it: the store's own bytes and what selectors ask for.

use std::sync::Arc;

use bytes::Bytes;

use super::Extractor;

/// A stored object at one revision.
#[derive(Debug)]
pub struct Item {
    /// `namespace/name`, or the bare name in cluster scope.
    pub key: Arc<str>,
    /// Its revision.
    pub revision: u64,
    /// The stored form, shared with the store.
    pub value: Bytes,
    labels: Box<[(Box<str>, Box<str>)]>,
    fields: Box<[Box<str>]>,
}

impl Item {
    /// Reads a stored object.
    pub fn new(key: impl Into<Arc<str>>, revision: u64, value: Bytes, extractor: &Extractor) -> Self {
        let found = extractor.extract(&value);
        Self { key: key.into(), revision, value, labels: found.labels.into(), fields: found.fields.into() }
    }

    /// Namespace; empty in cluster scope.
    pub fn namespace(&self) -> &str {
        self.key.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// Name.
    pub fn name(&self) -> &str {
        self.key.split_once('/').map_or(&self.key, |(_, name)| name)
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(one, _)| one.as_ref().cmp(key)).ok()?;
        Some(&self.labels[at].1)
    }

    /// All labels, by key.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(key, value)| (key.as_ref(), value.as_ref()))
    }

    /// The value of the kind's selectable field number `index`.
    pub fn field(&self, index: usize) -> &str {
        self.fields.get(index).map_or("", AsRef::as_ref)
    }
}

impl Item {
    /// The values of all selectable fields, in the kind's order.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(AsRef::as_ref)
    }
}
