//! Tasks of the virtual world.

use std::sync::{Arc, Weak};
use std::time::Duration;

use daruma_world::{Clock, Task, Tasks};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::clock::VirtualClock;
use crate::executor::Shared;

/// Starts tasks on the executor. Blocking work runs inline, after all that is ready has had its turn.
pub(crate) struct SimTasks {
    shared: Arc<Shared>,
}

impl SimTasks {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Tasks for SimTasks {
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        let task = self.shared.spawn(name, Some(future));
        let shared: Weak<Shared> = Arc::downgrade(&self.shared);
        Task::new(move || {
            if let Some(shared) = shared.upgrade() {
                shared.abort(task);
            }
        })
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let clock = VirtualClock::new(self.shared.clone());
        async move {
            clock.sleep(Duration::ZERO).await;
            work();
        }
        .boxed()
    }
}
