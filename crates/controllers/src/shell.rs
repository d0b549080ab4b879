//! The one shell: queues, workers, retries, the tasks' lifetime.
//!
//! Source of the retry rules: client-go util/workqueue default rate limiters.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_client::work_queue::{Backoff, WorkQueue};
use daruma_client::{Client, ClientError};
use daruma_world::World;
use daruma_world::tasks::Task;
use futures::future::BoxFuture;

use crate::ControllerManagerConfig;
use crate::events::Recorder;
use crate::metrics::Metrics;
use crate::shared::Shared;

/// Why a sync failed. Every failure is retried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncError {
    /// A call failed.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// The local copy or the object is not such that the work can go on.
    #[error("{0}")]
    Blocked(String),
}

impl SyncError {
    /// Whether the namespace is going away, so that nothing can be created in it.
    pub(crate) fn is_namespace_terminating(&self) -> bool {
        matches!(self, Self::Client(error) if namespace_terminating(error))
    }
}

/// Whether a create failed because its namespace is going away.
pub(crate) fn namespace_terminating(error: &ClientError) -> bool {
    error.api().is_some_and(daruma_api::status::ApiError::is_namespace_terminating)
}

/// The end of a sync: done, or to be looked at again after a while.
pub(crate) type Synced = Result<Option<Duration>, SyncError>;

/// What one controller gets.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) world: World,
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) name: &'static str,
    pub(crate) workers: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) config: Arc<ControllerManagerConfig>,
    pub(crate) metrics: Metrics,
    pub(crate) scope: Scope,
}

/// A work queue with its figures. Clones share it.
#[derive(Clone)]
pub(crate) struct Queue {
    inner: WorkQueue,
    name: &'static str,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    adds: AtomicU64,
    retries: AtomicU64,
}

impl Queue {
    pub(crate) fn add(&self, key: &str) {
        self.counts.adds.fetch_add(1, Ordering::Relaxed);
        self.inner.add(key);
    }

    pub(crate) fn add_after(&self, key: &str, delay: Duration) {
        self.counts.adds.fetch_add(1, Ordering::Relaxed);
        self.inner.add_after(key, delay);
    }

    pub(crate) fn add_rate_limited(&self, key: &str) {
        self.counts.retries.fetch_add(1, Ordering::Relaxed);
        self.inner.add_rate_limited(key);
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn adds(&self) -> u64 {
        self.counts.adds.load(Ordering::Relaxed)
    }

    pub(crate) fn retries(&self) -> u64 {
        self.counts.retries.load(Ordering::Relaxed)
    }

    pub(crate) fn depth(&self) -> u64 {
        self.inner.len() as u64
    }
}

impl Context {
    /// A queue of this controller, shown in the metrics under `name`.
    pub(crate) fn queue(&self, name: &'static str) -> Queue {
        self.queue_with(name, Backoff::default())
    }

    /// The same with another back-off.
    pub(crate) fn queue_with(&self, name: &'static str, backoff: Backoff) -> Queue {
        let queue = Queue { inner: WorkQueue::new(&self.world, backoff), name, counts: Arc::default() };
        self.metrics.register(&queue);
        queue
    }

    /// Starts `workers` tasks that hand keys to `sync` once `ready` completes. A failed key comes again
    /// with back-off, for ever: the API may be away for long.
    pub(crate) fn work<R, S>(&self, queue: &Queue, workers: usize, ready: R, sync: S)
    where
        R: Future<Output = ()> + Send + 'static,
        S: Fn(String) -> BoxFuture<'static, Synced> + Send + Sync + 'static,
    {
        let (context, queue, sync) = (self.clone(), queue.clone(), Arc::new(sync));
        self.spawn(async move {
            ready.await;
            tracing::debug!(controller = context.name, queue = queue.name, "caches are filled, starting workers");
            for _ in 0..workers {
                let (name, queue, sync) = (context.name, queue.clone(), sync.clone());
                context.spawn(async move {
                    while let Some(key) = queue.inner.get().await {
                        let outcome = sync(key.clone()).await;
                        settle(name, &queue, &key, outcome);
                        queue.inner.done(&key);
                    }
                });
            }
        });
    }

    /// Calls `step` every `period`, the period starting when it has finished.
    pub(crate) fn every<R, S>(&self, period: Duration, ready: R, step: S)
    where
        R: Future<Output = ()> + Send + 'static,
        S: Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
    {
        let world = self.world.clone();
        self.spawn(async move {
            ready.await;
            loop {
                step().await;
                world.sleep(period).await;
            }
        });
    }

    /// Starts a task that ends with the controllers.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.scope.spawn(&self.world, self.name, future);
    }
}

fn settle(controller: &str, queue: &Queue, key: &str, outcome: Synced) {
    match outcome {
        Ok(again) => {
            queue.inner.forget(key);
            if let Some(delay) = again {
                queue.add_after(key, delay);
            }
        }
        Err(error) if error.is_namespace_terminating() => queue.inner.forget(key),
        Err(error) => {
            // Conflicts and stale copies are everyday life.
            tracing::debug!(controller, key, %error, "sync failed, trying again");
            queue.add_rate_limited(key);
        }
    }
}

/// The tasks of one run of the controllers. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Scope {
    state: Arc<Mutex<ScopeState>>,
}

#[derive(Default)]
struct ScopeState {
    next: u64,
    /// Long-lived tasks by number; a finished one takes itself out.
    running: std::collections::BTreeMap<u64, Task>,
    /// Tasks that finished before their handle was stored.
    early: std::collections::BTreeSet<u64>,
    ended: bool,
}

impl Scope {
    pub(crate) fn spawn(&self, world: &World, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let number = {
            let mut state = self.state.lock().expect("no panic while held");
            if state.ended {
                return;
            }
            state.next += 1;
            state.next
        };
        let scope = self.clone();
        let task = world.spawn(name, async move {
            future.await;
            let mut state = scope.state.lock().expect("no panic while held");
            if state.running.remove(&number).is_none() {
                state.early.insert(number);
            }
        });
        let mut state = self.state.lock().expect("no panic while held");
        if state.ended {
            drop(state);
            task.abort();
        } else if !state.early.remove(&number) {
            state.running.insert(number, task);
        }
    }

    /// Ends all tasks when the guard is dropped.
    pub(crate) fn end_on_drop(self) -> EndOnDrop {
        EndOnDrop(self)
    }
}

/// Ends the scope's tasks when dropped.
pub(crate) struct EndOnDrop(Scope);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let running = {
            let mut state = self.0.state.lock().expect("no panic while held");
            state.ended = true;
            std::mem::take(&mut state.running)
        };
        for task in running.values() {
            task.abort();
        }
    }
}
