//! Stores on a disk: what a database has made durable there, record by record.
//!
//! A commit is durable one flush after it was made. A power cut before that loses it, or, where the
//! disk may tear writes, leaves a prefix of it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daruma_store::embedded::{BackendError, Batch, Change, Loaded, Record};
use foldhash::fast::FixedState;

use super::{SimDisk, State};
use crate::clock::nanos;

/// What a record takes beside its key and value, in bytes.
const OVERHEAD: u64 = 64;

/// One store.
#[derive(Default)]
pub(super) struct StoreFile {
    revision: u64,
    /// In no order: a large cluster has hundreds of thousands, and each write looks one up.
    records: HashMap<Arc<str>, Record, FixedState>,
    bytes: u64,
    /// On its way to the platter, and when it gets there.
    pending: Option<(u64, Batch)>,
}

fn size(key: &str, record: &Record) -> u64 {
    key.len() as u64 + record.value.len() as u64 + OVERHEAD
}

impl StoreFile {
    fn apply(&mut self, change: Change) {
        let new = change.record.as_ref().map_or(0, |record| size(&change.key, record));
        let key = change.key.clone();
        let old = match change.record {
            Some(record) => self.records.insert(change.key, record),
            None => self.records.remove(&change.key),
        };
        let old = old.map_or(0, |record| size(&key, &record));
        self.bytes = (self.bytes + new).saturating_sub(old);
        self.revision = change.revision;
    }

    /// What was on its way has arrived.
    fn settle(&mut self) {
        if let Some((_, batch)) = self.pending.take() {
            for change in batch.changes {
                self.apply(change);
            }
        }
    }

    /// What a power cut makes of it. `draw` gives a number up to its argument.
    fn cut(&mut self, now_ns: u64, torn: bool, draw: &mut dyn FnMut(usize) -> usize) {
        let Some((due, mut batch)) = self.pending.take() else { return };
        if due > now_ns {
            let kept = if torn { draw(batch.changes.len()) } else { 0 };
            batch.changes.truncate(kept);
        }
        for change in batch.changes {
            self.apply(change);
        }
    }
}

impl State {
    /// Bytes of all stores.
    pub(super) fn store_bytes(&self) -> u64 {
        self.stores.values().map(|store| store.bytes).sum()
    }

    pub(super) fn cut_stores(&mut self, now_ns: u64, torn: bool) {
        let chance = &mut self.chance;
        for store in self.stores.values_mut() {
            store.cut(now_ns, torn, &mut |most| chance.below(most as u64 + 1) as usize);
        }
    }

    pub(super) fn settle_stores(&mut self) {
        for store in self.stores.values_mut() {
            store.settle();
        }
    }

    fn store(&mut self, path: &Path) -> &mut StoreFile {
        self.stores.entry(path.to_owned()).or_default()
    }
}

/// All stores of a disk, by path.
pub(super) type Stores = BTreeMap<PathBuf, StoreFile>;

impl SimDisk {
    pub(crate) fn load_store(&self, path: &Path) -> Loaded {
        let mut state = self.state();
        let store = state.store(path);
        // The process that made it is gone, but the kernel has it.
        store.settle();
        let mut records: Vec<_> = store.records.iter().map(|(key, record)| (key.clone(), record.clone())).collect();
        records.sort_by(|(left, _), (right, _)| left.cmp(right));
        Loaded { revision: store.revision, records }
    }

    pub(crate) fn store_revision(&self, path: &Path) -> u64 {
        let mut state = self.state();
        let store = state.store(path);
        store.settle();
        store.revision
    }

    /// Takes a batch; it is durable when the time given to the blocking work that does this has passed.
    pub(crate) fn commit_store(&self, path: &Path, batch: &Batch, now_ns: u64) -> Result<(), BackendError> {
        let flush = self.flush_time();
        let mut guard = self.state();
        let state = &mut *guard;
        let more: u64 =
            batch.changes.iter().filter_map(|change| change.record.as_ref().map(|record| size(&change.key, record))).sum();
        let available = state.usage().available_bytes;
        let store = state.store(path);
        store.settle();
        if more > available {
            return Err(BackendError { what: "commit", why: "no space left on device".into() });
        }
        store.pending = Some((now_ns.saturating_add(nanos(flush)), batch.clone()));
        if flush.is_zero() {
            store.settle();
        }
        state.blocked += flush;
        state.fill();
        Ok(())
    }
}
