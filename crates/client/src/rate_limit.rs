//! The client-side rate limit that real components carry (a token bucket).

use std::sync::Mutex;
use std::time::Duration;

use daruma_world::World;

/// Queries a second and burst, as `--kube-api-qps` and `--kube-api-burst` give them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// Sustained queries a second; zero or less is unlimited.
    pub qps: f64,
    /// Queries that may go at once.
    pub burst: u32,
}

impl RateLimit {
    /// No limit.
    pub const NONE: Self = Self { qps: 0.0, burst: 0 };
}

/// A token bucket that hands out start times.
pub(crate) struct TokenBucket {
    limit: RateLimit,
    /// Tokens at `at`; below zero when callers wait already.
    state: Mutex<(f64, Duration)>,
}

impl TokenBucket {
    pub(crate) fn new(limit: RateLimit, now: Duration) -> Self {
        Self { limit, state: Mutex::new((f64::from(limit.burst), now)) }
    }

    /// Completes when the caller may go.
    pub(crate) async fn acquire(&self, world: &World) {
        let wait = self.reserve(world.monotonic());
        if !wait.is_zero() {
            world.sleep(wait).await;
        }
    }

    /// Takes a token; gives how long the caller has to wait for it.
    pub(crate) fn reserve(&self, now: Duration) -> Duration {
        if self.limit.qps <= 0.0 {
            return Duration::ZERO;
        }
        let mut state = self.state.lock().expect("no panic while held");
        let earned = now.saturating_sub(state.1).as_secs_f64() * self.limit.qps;
        *state = ((state.0 + earned).min(f64::from(self.limit.burst)) - 1.0, now);
        Duration::try_from_secs_f64(-state.0 / self.limit.qps).unwrap_or_default()
    }
}
