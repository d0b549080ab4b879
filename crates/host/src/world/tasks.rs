//! Tasks on tokio.

use daruma_world::{Task, Tasks};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;

/// Starts tasks on one tokio runtime.
pub struct TokioTasks {
    handle: Handle,
}

impl TokioTasks {
    /// Tasks of the runtime that this is called in.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn current() -> Self {
        Self { handle: Handle::current() }
    }
}

impl Tasks for TokioTasks {
    fn spawn(&self, _name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        let task = self.handle.spawn(future);
        Task::new(move || task.abort())
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let task = self.handle.spawn_blocking(work);
        async move {
            // A panic in the work has been reported by the panic hook; the caller sees no result.
            let _ = task.await;
        }
        .boxed()
    }
}
