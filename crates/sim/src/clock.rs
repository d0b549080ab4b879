//! Virtual time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::executor::TimerKey;
use crate::scope::ScopeInner;

/// Wall-clock time at which every world begins: 2026-01-01T00:00:00Z, in seconds since 1970.
const EPOCH_SECS: i64 = 1_767_225_600;

/// The wall-clock time of a machine whose clock is wrong by `offset_ms`.
pub(crate) fn wall_clock(monotonic: Duration, offset_ms: i64) -> jiff::Timestamp {
    let true_time = jiff::Timestamp::constant(EPOCH_SECS, 0) + monotonic;
    if offset_ms == 0 {
        true_time
    } else {
        true_time.saturating_add(jiff::SignedDuration::from_millis(offset_ms)).unwrap_or(true_time)
    }
}

/// Nanoseconds, as many as there can be.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Completes when the clock has reached a deadline; even one in the past lets the others go first.
/// In a dead scope it never completes.
pub(crate) struct Sleep {
    scope: Arc<ScopeInner>,
    deadline_ns: u64,
    key: Option<TimerKey>,
}

impl Sleep {
    pub(crate) fn new(scope: &Arc<ScopeInner>, duration: Duration) -> Self {
        Self::until(scope, scope.core.now_ns().saturating_add(nanos(duration)))
    }

    pub(crate) fn until(scope: &Arc<ScopeInner>, deadline_ns: u64) -> Self {
        Self { scope: scope.clone(), deadline_ns, key: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.scope.is_dead() {
            return Poll::Pending;
        }
        match self.key {
            None => {
                self.key = self.scope.core.sleep_until(self.deadline_ns, context.waker());
                Poll::Pending
            }
            Some(key) if self.scope.core.has_fired(key, context.waker()) => Poll::Ready(()),
            Some(_) => Poll::Pending,
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.scope.core.cancel_sleep(key);
        }
    }
}
