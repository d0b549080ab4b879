//! Narrow traits for everything outside the program: time, chance, tasks, disk, sockets,
//! links, packet rules, containers and the machine itself.
//!
//! Components take a [`World`] and touch nothing else. `host` implements these traits on Linux,
//! `sim` under a virtual clock.
//!
//! Invariant: this crate knows no Kubernetes and performs no I/O.

pub mod clock;
pub mod containers;
pub mod disk;
pub mod hardware;
pub mod links;
pub mod machines;
pub mod net;
pub mod packet_rules;
pub mod random;
pub mod tasks;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

pub use clock::Clock;
pub use disk::Disk;
pub use net::Net;
pub use random::Random;
pub use tasks::{Task, Tasks};

/// All that a component may use of its surroundings. Cheap to clone.
#[derive(Clone)]
pub struct World {
    /// Wall and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// The only source of randomness.
    pub random: Arc<dyn Random>,
    /// Concurrent tasks and blocking work.
    pub tasks: Arc<dyn Tasks>,
    /// The machine's file system.
    pub disk: Arc<dyn Disk>,
    /// The machine's sockets.
    pub net: Arc<dyn Net>,
}

impl World {
    /// Current wall-clock time of this machine.
    pub fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    /// Time since an arbitrary fixed point; never goes back.
    pub fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Completes after `duration`.
    pub fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.clock.sleep(duration)
    }

    /// Starts a concurrent task. Dropping the returned [`Task`] does not stop it.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(name, Box::pin(future))
    }

    /// Runs `future` for at most `limit`.
    ///
    /// # Errors
    /// [`Elapsed`] when the limit passes first; the future is dropped.
    pub async fn timeout<F>(&self, limit: Duration, future: F) -> Result<F::Output, Elapsed>
    where
        F: Future + Send,
    {
        let sleep = self.clock.sleep(limit);
        futures::pin_mut!(future);
        match futures::future::select(future, sleep).await {
            futures::future::Either::Left((output, _)) => Ok(output),
            futures::future::Either::Right(((), _)) => Err(Elapsed),
        }
    }

    /// Runs work that blocks its thread (fsync, exec) where the world allows it, and returns its result.
    ///
    /// A result that is never delivered (the world dropped the work) leaves the caller pending.
    pub async fn blocking<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.tasks
            .blocking(Box::new(move || {
                // The receiver is gone when the caller was dropped; nobody waits then.
                let _ = sender.send(work());
            }))
            .await;
        match receiver.await {
            Ok(output) => output,
            Err(_) => futures::future::pending().await,
        }
    }
}

/// A time limit passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the time limit passed")]
pub struct Elapsed;
