//! Concurrent tasks.

use futures::future::BoxFuture;

/// Starts tasks. Every task belongs to the process (scope) that this handle stands for.
pub trait Tasks: Send + Sync {
    /// Starts `future` concurrently. `name` appears in traces.
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task;

    /// Runs blocking `work`; completes when it is done.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
}

/// A handle on a started task. Dropping it leaves the task running.
pub struct Task {
    abort: Box<dyn Fn() + Send + Sync>,
}

impl Task {
    /// Wraps the world's way of ending the task.
    pub fn new(abort: impl Fn() + Send + Sync + 'static) -> Self {
        Self { abort: Box::new(abort) }
    }

    /// Ends the task at its next suspension point. Does nothing once it has finished.
    pub fn abort(&self) {
        (self.abort)();
    }

    /// Ends the task when the guard is dropped.
    pub fn abort_on_drop(self) -> AbortOnDrop {
        AbortOnDrop(self)
    }
}

/// Ends its task when dropped.
pub struct AbortOnDrop(Task);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
