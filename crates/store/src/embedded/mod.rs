//! The engine in the API server's own process: state and recent history in memory, durability by a
//! [`Backend`] with group commit.
//!
//! A write is checked against all writes before it, queued, made durable together with all that
//! wait ([`committer`]), and only then visible: to readers, to watchers and to its writer. So a
//! reader never sees what a crash could take back, and two writers never both win.
//!
//! Invariant: locks are held for map operations only, never over an await or the disk.

mod backend;
mod committer;
mod expiries;
mod history;
mod leases;
mod memory_backend;
mod redb_backend;
mod snapshot;
mod state;
mod watchers;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use daruma_world::World;
use daruma_world::tasks::AbortOnDrop;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use crate::{Event, Expect, KeyValue, Outcome, Range, Store, StoreError, Write};

pub use backend::{Backend, BackendError, Batch, Change, Lease, Loaded, Record};
pub use memory_backend::{Fault, MemoryBackend};
pub use redb_backend::RedbBackend;

use snapshot::Snapshot;
use state::{State, Submitted};
use watchers::Watchers;

/// Bounds of one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Memory of the history in bytes: what old values and their bookkeeping take.
    pub history_bytes: usize,
    /// Most writes in one commit.
    pub batch: usize,
    /// Most writes that wait or are being committed; further writers wait before they are checked.
    pub queue: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { history_bytes: 32 << 20, batch: 512, queue: 4096 }
    }
}

/// The embedded engine. Dropping it drops what is not yet committed; see [`EmbeddedStore::close`].
pub struct EmbeddedStore {
    inner: Arc<Inner>,
    _tasks: [AbortOnDrop; 2],
}

/// What the store, its tasks and pending calls share.
struct Inner {
    world: World,
    options: Options,
    state: RwLock<State>,
    watchers: Mutex<Watchers>,
    slots: Arc<Semaphore>,
    /// The queue has something, or the store is closed.
    queued: Notify,
    /// The next lease to expire is another one, or the store is closed.
    leases_changed: Notify,
    ended: AtomicBool,
    ended_notify: Notify,
}

impl EmbeddedStore {
    /// Loads what `backend` holds and starts the tasks that commit and expire.
    ///
    /// # Errors
    /// [`StoreError::Disk`] where the backend cannot be read.
    pub async fn open(world: &World, backend: Arc<dyn Backend>, options: Options) -> Result<Arc<Self>, StoreError> {
        let reader = backend.clone();
        let loaded = world.blocking(move || reader.load()).await.map_err(|error| StoreError::Disk(error.to_string()))?;
        let state = State::new(loaded, options.history_bytes, world.monotonic(), world.now().as_millisecond());
        let inner = Arc::new(Inner {
            world: world.clone(),
            options,
            state: RwLock::new(state),
            watchers: Mutex::default(),
            slots: Arc::new(Semaphore::new(options.queue)),
            queued: Notify::new(),
            leases_changed: Notify::new(),
            ended: AtomicBool::new(false),
            ended_notify: Notify::new(),
        });
        let committer = world.spawn("store-commit", committer::run(inner.clone(), backend)).abort_on_drop();
        let leases = world.spawn("store-leases", leases::run(inner.clone())).abort_on_drop();
        Ok(Arc::new(Self { inner, _tasks: [committer, leases] }))
    }

    /// Refuses further writes, waits until all accepted ones are durable and lets go of the backend.
    /// Reads still work; watches end.
    pub async fn close(&self) {
        self.inner.write_state().close();
        self.inner.queued.notify_one();
        self.inner.leases_changed.notify_one();
        loop {
            let ended = self.inner.ended_notify.notified();
            if self.inner.ended.load(Ordering::Acquire) {
                // Passes the wake-up on to the next that waits.
                self.inner.ended_notify.notify_one();
                return;
            }
            ended.await;
        }
    }

    /// Bytes that the history takes.
    pub fn history_bytes(&self) -> usize {
        self.inner.read_state().history_bytes()
    }

    /// Changes that the history holds.
    pub fn history_len(&self) -> usize {
        self.inner.read_state().history_len()
    }

    /// Keys that exist.
    pub fn key_count(&self) -> usize {
        self.inner.read_state().key_count()
    }

    /// Watches that are open.
    pub fn watch_count(&self) -> usize {
        self.inner.lock_watchers().len()
    }
}

impl Inner {
    fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect("no panic while held")
    }

    fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().expect("no panic while held")
    }

    fn lock_watchers(&self) -> MutexGuard<'_, Watchers> {
        self.watchers.lock().expect("no panic while held")
    }

    async fn write(self: Arc<Self>, key: Arc<str>, expect: Expect, write: Write) -> Result<Outcome, StoreError> {
        let closed = || StoreError::Disk("the store is closed".into());
        let slot = self.slots.clone().acquire_owned().await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        let now_ms = self.world.now().as_millisecond();
        let submitted = self.write_state().submit(key, expect, write, now_ms, state::Reply { sender: reply, _slot: slot })?;
        match submitted {
            Submitted::Answered(outcome) => Ok(outcome),
            Submitted::Queued => {
                self.queued.notify_one();
                answer.await.unwrap_or_else(|_| Err(closed()))
            }
        }
    }

    fn watch(&self, prefix: &str, revision: u64) -> Result<mpsc::Receiver<Vec<Event>>, StoreError> {
        // Holding the watchers holds off the delivery of what is committed from here on.
        let mut watchers = self.lock_watchers();
        let snapshot = self.read_state().snapshot();
        let missed = snapshot.events(prefix, revision)?;
        Ok(watchers.add(prefix, snapshot.revision, missed))
    }
}

impl Store for EmbeddedStore {
    fn get(&self, key: &str) -> BoxFuture<'static, Result<Option<KeyValue>, StoreError>> {
        let found = self.inner.read_state().get(key);
        std::future::ready(Ok(found)).boxed()
    }

    fn range(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
        revision: Option<u64>,
    ) -> BoxFuture<'static, Result<Range, StoreError>> {
        let snapshot: Snapshot = match revision {
            None => self.inner.read_state().present(),
            Some(_) => self.inner.read_state().snapshot(),
        };
        std::future::ready(snapshot.range(prefix, start_after, limit, revision)).boxed()
    }

    fn write(&self, key: &str, expect: Expect, write: Write) -> BoxFuture<'static, Result<Outcome, StoreError>> {
        self.inner.clone().write(key.into(), expect, write).boxed()
    }

    fn watch(&self, prefix: &str, revision: u64) -> BoxFuture<'static, Result<mpsc::Receiver<Vec<Event>>, StoreError>> {
        std::future::ready(self.inner.watch(prefix, revision)).boxed()
    }

    fn revision(&self) -> BoxFuture<'static, Result<u64, StoreError>> {
        let revision = self.inner.read_state().revision();
        std::future::ready(Ok(revision)).boxed()
    }
}
