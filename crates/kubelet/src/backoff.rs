//! Waits between attempts, doubling.
//!
//! Source: client-go util/flowcontrol/backoff.go; kubernetes pkg/kubelet/kubelet.go (10 s to 300 s).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

/// The first wait.
pub const INITIAL: Duration = Duration::from_secs(10);
/// The longest wait of image pulls.
pub const LONGEST_PULL: Duration = Duration::from_secs(300);
/// A container that ran this long has its restarts forgotten (kubernetes pkg/kubelet/kubelet.go, 2 × 300 s).
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// Waits by key.
#[derive(Debug, Clone)]
pub struct Backoffs {
    initial: Duration,
    longest: Duration,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    wait: Duration,
    last: Timestamp,
}

impl Backoffs {
    /// Waits from `initial`, doubling up to `longest`.
    pub fn new(initial: Duration, longest: Duration) -> Self {
        Self { initial: initial.min(longest), longest, entries: BTreeMap::new() }
    }

    /// The rest of the wait, counted from `since` (an end or a failure), at `now`; `None` when an attempt may go.
    pub fn remaining(&self, key: &str, since: Timestamp, now: Timestamp) -> Option<Duration> {
        let entry = self.entries.get(key)?;
        if expired(since, entry.last) {
            return None;
        }
        let rest = entry.wait.saturating_sub(between(since, now));
        (!rest.is_zero()).then_some(rest)
    }

    /// The current wait of a key.
    pub fn wait(&self, key: &str) -> Duration {
        self.entries.get(key).map(|entry| entry.wait).unwrap_or_default()
    }

    /// Notes an attempt at `now`: the next one waits longer. `since` as in [`Backoffs::remaining`].
    pub fn next(&mut self, key: &str, since: Timestamp, now: Timestamp) {
        let entry = self.entries.get(key).copied().filter(|entry| !expired(since, entry.last));
        let wait = entry.map_or(self.initial, |entry| entry.wait.saturating_mul(2).min(self.longest));
        self.entries.insert(key.to_owned(), Entry { wait, last: now });
    }

    /// Forgets keys whose last attempt is long ago.
    pub fn clean(&mut self, now: Timestamp) {
        self.entries.retain(|_, entry| !expired(now, entry.last));
    }
}

fn expired(event: Timestamp, last: Timestamp) -> bool {
    between(last, event) > FORGET_AFTER
}

/// Time from `from` to `to`; zero where it would be negative.
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn doubles_and_forgets() {
        let mut backoffs = Backoffs::new(INITIAL, Duration::from_secs(300));
        assert_eq!(backoffs.remaining("a", at(0), at(0)), None, "the first start never waits");
        let mut waits = Vec::new();
        let mut now = 0;
        for _ in 0..8 {
            backoffs.next("a", at(now), at(now));
            // It fails at once.
            waits.push(backoffs.remaining("a", at(now), at(now)).expect("waits").as_secs());
            now += backoffs.wait("a").as_secs() as i64;
            assert_eq!(backoffs.remaining("a", at(now), at(now + 300)), None);
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
        // It ran for more than ten minutes before it ended.
        assert_eq!(backoffs.remaining("a", at(now + 601), at(now + 601)), None);
        backoffs.next("a", at(now + 601), at(now + 601));
        assert_eq!(backoffs.wait("a"), INITIAL);
    }

    #[test]
    fn a_lower_limit() {
        let mut backoffs = Backoffs::new(INITIAL, Duration::from_secs(1));
        backoffs.next("a", at(0), at(0));
        assert_eq!(backoffs.wait("a"), Duration::from_secs(1));
    }
}
