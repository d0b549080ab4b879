//! Virtual time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use daruma_world::Clock;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::executor::Shared;

/// Wall-clock time at which every world begins: 2026-01-01T00:00:00Z, in seconds since 1970.
const EPOCH_SECS: i64 = 1_767_225_600;

/// The clock of one world.
#[derive(Clone)]
pub(crate) struct VirtualClock {
    shared: Arc<Shared>,
}

impl VirtualClock {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::constant(EPOCH_SECS, 0) + self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        self.shared.now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let deadline = self.shared.now().saturating_add(duration);
        Sleep { shared: self.shared.clone(), deadline, registered: None }.boxed()
    }
}

/// Completes when the clock has reached `deadline`; even one in the past lets the others go first.
struct Sleep {
    shared: Arc<Shared>,
    deadline: Duration,
    registered: Option<(Duration, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some(key) = self.registered.take() {
            let still_asleep = self.shared.cancel_sleep(key);
            if !still_asleep {
                return Poll::Ready(());
            }
        }
        self.registered = Some(self.shared.sleep_until(self.deadline, context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.registered.take() {
            self.shared.cancel_sleep(key);
        }
    }
}
