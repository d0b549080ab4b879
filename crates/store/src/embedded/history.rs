//! The recent changes, bounded in bytes.

use imbl::Vector;
use std::sync::Arc;

use super::backend::Record;
use crate::{Event, KeyValue};

/// What one item takes besides the value that only it keeps alive: itself and its share of the map
/// nodes that old snapshots may hold.
const ITEM_BYTES: usize = 256;

/// One visible change.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) key: Arc<str>,
    pub(super) revision: u64,
    pub(super) record: Option<Record>,
    pub(super) previous: Option<Record>,
}

impl Item {
    /// The bytes that this item keeps alive: its new value is the present one or the next item's previous.
    fn bytes(&self) -> usize {
        ITEM_BYTES + self.key.len() + self.previous.as_ref().map_or(0, |previous| previous.value.len())
    }

    pub(super) fn to_event(&self) -> Event {
        let value_of = |record: &Record| key_value(&self.key, record);
        Event {
            key: self.key.to_string(),
            revision: self.revision,
            value: self.record.as_ref().map(value_of),
            previous: self.previous.as_ref().map(value_of),
        }
    }
}

pub(super) fn key_value(key: &str, record: &Record) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: record.value.clone(),
        create_revision: record.create_revision,
        mod_revision: record.mod_revision,
    }
}

/// Items by revision, without gaps up to the newest.
pub(super) struct History {
    items: Vector<Item>,
    bytes: usize,
    limit_bytes: usize,
    /// The revision before the first item.
    oldest: u64,
}

impl History {
    /// An empty history that begins after `revision`.
    pub(super) fn new(revision: u64, limit_bytes: usize) -> Self {
        Self { items: Vector::new(), bytes: 0, limit_bytes, oldest: revision }
    }

    pub(super) fn push(&mut self, item: Item) {
        self.bytes += item.bytes();
        self.items.push_back(item);
        while self.bytes > self.limit_bytes {
            let Some(item) = self.items.pop_front() else { break };
            self.bytes -= item.bytes();
            self.oldest = item.revision;
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn items(&self) -> &Vector<Item> {
        &self.items
    }

    /// The oldest revision that can still be shown.
    pub(super) fn oldest(&self) -> u64 {
        self.oldest
    }
}
