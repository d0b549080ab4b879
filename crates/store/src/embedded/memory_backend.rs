//! A backend for simulation: what it holds survives the store, and it can be made to fail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::backend::{Backend, BackendError, Batch, Loaded, Record};

/// How commits fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written.
    Refuse,
    /// Only so many changes of the batch are written, as in a power cut.
    Tear(usize),
    /// All is written, but the answer is an error.
    LoseAnswer,
}

/// Records in memory.
#[derive(Default)]
pub struct MemoryBackend {
    disk: Mutex<Disk>,
}

#[derive(Default)]
struct Disk {
    revision: u64,
    records: BTreeMap<Arc<str>, Record>,
    fault: Option<Fault>,
    is_dead: bool,
}

impl MemoryBackend {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes every commit from now on fail in this way, or succeed again.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.lock().fault = fault;
    }

    /// Makes every call fail, as on a disk that is gone, or succeed again.
    pub fn set_dead(&self, is_dead: bool) {
        self.lock().is_dead = is_dead;
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("no panic while held")
    }
}

impl Disk {
    fn is_alive(&self, what: &'static str) -> Result<(), BackendError> {
        if self.is_dead { Err(BackendError { what, why: "the disk is gone".into() }) } else { Ok(()) }
    }
}

impl Backend for MemoryBackend {
    fn load(&self) -> Result<Loaded, BackendError> {
        let disk = self.lock();
        disk.is_alive("load")?;
        let records = disk.records.iter().map(|(key, record)| (key.clone(), record.clone())).collect();
        Ok(Loaded { revision: disk.revision, records })
    }

    fn commit(&self, batch: &Batch) -> Result<(), BackendError> {
        let mut disk = self.lock();
        disk.is_alive("commit")?;
        let durable = match disk.fault {
            None | Some(Fault::LoseAnswer) => batch.changes.len(),
            Some(Fault::Refuse) => 0,
            Some(Fault::Tear(changes)) => changes.min(batch.changes.len()),
        };
        for change in &batch.changes[..durable] {
            match &change.record {
                Some(record) => disk.records.insert(change.key.clone(), record.clone()),
                None => disk.records.remove(&change.key),
            };
            disk.revision = change.revision;
        }
        match disk.fault {
            None => Ok(()),
            Some(fault) => Err(BackendError { what: "commit", why: format!("injected fault {fault:?}") }),
        }
    }

    fn revision(&self) -> Result<u64, BackendError> {
        let disk = self.lock();
        disk.is_alive("read the revision")?;
        Ok(disk.revision)
    }
}
