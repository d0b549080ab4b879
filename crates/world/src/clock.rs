//! Time.

use std::time::Duration;

use futures::future::BoxFuture;

/// A machine's clock. Skew, where simulated, is an offset on this handle.
pub trait Clock: Send + Sync {
    /// Wall-clock time.
    fn now(&self) -> jiff::Timestamp;

    /// Time since an arbitrary fixed point; never goes back.
    fn monotonic(&self) -> Duration;

    /// Completes once [`Clock::monotonic`] has advanced by `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}
