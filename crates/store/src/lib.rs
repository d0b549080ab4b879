//! A revisioned key-value store with watch, leases and compaction over bytes.
//!
//! [`Store`] is what the API server asks for; [`embedded::EmbeddedStore`] is the engine that lives in
//! its process. [`conformance`] holds every engine to the same behaviour.
//!
//! Invariant: the store knows no kinds.

pub mod conformance;
pub mod embedded;

use bytes::Bytes;
use futures::future::BoxFuture;

/// Why a store call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The revision is older than the history that is kept.
    #[error("revision {requested} has been compacted, the oldest is {oldest}")]
    Compacted {
        /// What was asked.
        requested: u64,
        /// The oldest revision whose successors are known.
        oldest: u64,
    },
    /// The revision has not happened yet.
    #[error("revision {requested} is in the future, the newest is {newest}")]
    Future {
        /// What was asked.
        requested: u64,
        /// The newest.
        newest: u64,
    },
    /// The disk failed; nothing was acknowledged.
    #[error("store: {0}")]
    Disk(String),
}

/// A value with its revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// Revision of its creation.
    pub create_revision: u64,
    /// Revision of its last change.
    pub mod_revision: u64,
}

/// What must hold for a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key's `mod_revision`.
    Revision(u64),
    /// Anything.
    Any,
}

/// A write to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets the value; with a time to live it is deleted after so many seconds without another write.
    Put {
        /// The new value.
        value: Bytes,
        /// Seconds to live; `None` is for ever.
        ttl_seconds: Option<u64>,
    },
    /// Deletes the key.
    Delete,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done and durable, at this revision.
    Committed {
        /// The write's revision.
        revision: u64,
    },
    /// The expectation did not hold; this is what is there.
    Conflict {
        /// The present value, if any.
        current: Option<KeyValue>,
    },
}

/// A part of the key space at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Key-values in key order.
    pub items: Vec<KeyValue>,
    /// The revision shown.
    pub revision: u64,
    /// How many keys of the prefix follow after the last item.
    pub remaining: u64,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: String,
    /// Its revision.
    pub revision: u64,
    /// The new value; `None` for a deletion.
    pub value: Option<KeyValue>,
    /// The value before; `None` for a creation.
    pub previous: Option<KeyValue>,
}

/// A revisioned key-value store. Revisions grow by one with every change and start at 1.
/// Keys are slash-separated paths; prefixes are plain string prefixes.
pub trait Store: Send + Sync {
    /// One key, as of the newest acknowledged revision.
    fn get(&self, key: &str) -> BoxFuture<'static, Result<Option<KeyValue>, StoreError>>;

    /// At most `limit` (0: all) keys of `prefix` after `start_after` (exclusive), at `revision` or now.
    ///
    /// # Errors
    /// [`StoreError::Compacted`], [`StoreError::Future`].
    fn range(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
        revision: Option<u64>,
    ) -> BoxFuture<'static, Result<Range, StoreError>>;

    /// Writes one key if `expect` holds. Completes when the write is durable.
    fn write(&self, key: &str, expect: Expect, write: Write) -> BoxFuture<'static, Result<Outcome, StoreError>>;

    /// Every change of `prefix` after `revision`, in order, without gaps, for ever; in batches.
    /// A receiver that falls too far behind is closed and has to start anew from its last revision.
    ///
    /// # Errors
    /// [`StoreError::Compacted`], [`StoreError::Future`].
    fn watch(
        &self,
        prefix: &str,
        revision: u64,
    ) -> BoxFuture<'static, Result<tokio::sync::mpsc::Receiver<Vec<Event>>, StoreError>>;

    /// The newest acknowledged revision.
    fn revision(&self) -> BoxFuture<'static, Result<u64, StoreError>>;
}
