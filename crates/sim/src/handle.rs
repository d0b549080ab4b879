//! What stands behind the traits of a scope's [`daruma_world::World`].

use std::sync::Arc;
use std::time::Duration;

use daruma_world::{Clock, Random, Task, Tasks};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::clock::{Sleep, wall_clock};
use crate::scope::{Scope, ScopeInner};

/// The traits for one scope: time, chance and tasks here, files in [`crate::disk`], sockets in
/// [`crate::network`].
pub(crate) struct Handle {
    pub(crate) scope: Arc<ScopeInner>,
}

impl Handle {
    pub(crate) fn new(scope: Arc<ScopeInner>) -> Self {
        Self { scope }
    }
}

impl Clock for Handle {
    fn now(&self) -> jiff::Timestamp {
        wall_clock(self.scope.core.now(), self.scope.place.offset_ms())
    }

    fn monotonic(&self) -> Duration {
        self.scope.core.now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Sleep::new(&self.scope, duration).boxed()
    }
}

impl Random for Handle {
    fn next_u64(&self) -> u64 {
        self.scope.next_u64()
    }
}

impl Tasks for Handle {
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        Scope { inner: self.scope.clone() }.spawn_boxed(name, future)
    }

    /// The work is done inline, after all that is ready has had its turn; then it takes the time that it
    /// has had to wait for the disk.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let scope = self.scope.clone();
        async move {
            Sleep::new(&scope, Duration::ZERO).await;
            work();
            let blocked = scope.place.disk.take_blocked();
            if blocked > Duration::ZERO {
                Sleep::new(&scope, blocked).await;
            }
        }
        .boxed()
    }
}
