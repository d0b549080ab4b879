//! What the engine asks of whatever keeps its writes.

use std::sync::Arc;

use bytes::Bytes;

/// Why a backend call failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}: {why}")]
pub struct BackendError {
    /// What was being done.
    pub what: &'static str,
    /// Why it did not work.
    pub why: String,
}

/// When a key is deleted by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Seconds to live after a write.
    pub ttl_seconds: u64,
    /// Wall-clock time at which it ends, in milliseconds since 1970.
    pub expires_ms: i64,
}

/// A key's value and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The value.
    pub value: Bytes,
    /// Revision of its creation.
    pub create_revision: u64,
    /// Revision of its last change.
    pub mod_revision: u64,
    /// Its end, where it has one.
    pub lease: Option<Lease>,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Arc<str>,
    /// The change's revision.
    pub revision: u64,
    /// What is there now; `None` where it was deleted.
    pub record: Option<Record>,
    /// Revision of what was there before; `None` where nothing was.
    pub replaces: Option<u64>,
}

/// Changes to be made durable together, by revision. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// The changes; a key may appear several times.
    pub changes: Vec<Change>,
}

impl Batch {
    /// The revision of the last change.
    pub fn revision(&self) -> u64 {
        self.changes.last().map_or(0, |change| change.revision)
    }
}

/// All that a backend holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// The revision of the last change; 0 where there never was one.
    pub revision: u64,
    /// The keys, in any order.
    pub records: Vec<(Arc<str>, Record)>,
}

/// Keeps changes over restarts. All calls may block; they come one at a time.
pub trait Backend: Send + Sync {
    /// Reads all that is there.
    fn load(&self) -> Result<Loaded, BackendError>;

    /// Makes a batch durable. On success all of it survives a power cut. On failure a prefix of the
    /// changes may have become durable; [`Backend::revision`] tells how long a prefix.
    fn commit(&self, batch: &Batch) -> Result<(), BackendError>;

    /// The revision of the last durable change, read anew. Called after a failed commit, it makes
    /// the backend usable again where that is possible.
    fn revision(&self) -> Result<u64, BackendError>;
}
