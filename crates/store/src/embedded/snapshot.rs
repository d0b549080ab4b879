//! State and history at one moment, shared with the store and read without its lock. Pure.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use imbl::{OrdMap, Vector};

use super::backend::Record;
use super::history::{Item, key_value};
use crate::{Event, Range, StoreError};

/// What was visible at [`Snapshot::revision`].
pub(super) struct Snapshot {
    pub(super) objects: OrdMap<Arc<str>, Record>,
    pub(super) history: Vector<Item>,
    pub(super) oldest: u64,
    pub(super) revision: u64,
}

impl Snapshot {
    /// Every change of `prefix` after `revision`.
    pub(super) fn events(&self, prefix: &str, revision: u64) -> Result<Vec<Event>, StoreError> {
        let items = self.since(revision)?;
        Ok(items.filter(|item| item.key.starts_with(prefix)).map(Item::to_event).collect())
    }

    /// See [`crate::Store::range`].
    pub(super) fn range(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
        revision: Option<u64>,
    ) -> Result<Range, StoreError> {
        let undone = match revision {
            None => BTreeMap::new(),
            Some(revision) => self.undone(prefix, revision)?,
        };
        let start = match start_after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let limit = if limit == 0 { usize::MAX } else { limit };
        let mut range = Range { items: Vec::new(), revision: revision.unwrap_or(self.revision), remaining: 0 };
        let mut take = |key: &str, record: &Record| {
            if range.items.len() < limit {
                range.items.push(key_value(key, record));
            } else {
                range.remaining += 1;
            }
        };
        let present = self.objects.range::<_, str>((start, Bound::Unbounded));
        let mut present = present.take_while(|(key, _)| key.starts_with(prefix)).peekable();
        for (key, then) in undone.range::<str, _>((start, Bound::Unbounded)) {
            while let Some((other, record)) = present.next_if(|(other, _)| &***other < *key) {
                take(other, record);
            }
            present.next_if(|(other, _)| &***other == *key);
            if let Some(record) = then {
                take(key, record);
            }
        }
        for (key, record) in present {
            take(key, record);
        }
        Ok(range)
    }

    /// What the keys that have changed after `revision` held then.
    fn undone(&self, prefix: &str, revision: u64) -> Result<BTreeMap<&str, Option<&Record>>, StoreError> {
        let mut undone = BTreeMap::new();
        for item in self.since(revision)?.filter(|item| item.key.starts_with(prefix)) {
            undone.entry(&*item.key).or_insert(item.previous.as_ref());
        }
        Ok(undone)
    }

    fn since(&self, revision: u64) -> Result<impl Iterator<Item = &Item>, StoreError> {
        if revision > self.revision {
            return Err(StoreError::Future { requested: revision, newest: self.revision });
        }
        let Some(skipped) = revision.checked_sub(self.oldest) else {
            return Err(StoreError::Compacted { requested: revision, oldest: self.oldest });
        };
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX).min(self.history.len());
        Ok(self.history.focus().narrow(skipped..).into_iter())
    }
}
