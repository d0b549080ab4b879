//! What a controller still expects its watches to show before it acts again.
//!
//! Source: kubernetes pkg/controller/controller_utils.go (ControllerExpectations).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

/// After this long an expectation counts no more: an event may have been missed.
pub const TIMEOUT: Duration = Duration::from_secs(300);

/// Expected creations and deletions by the key of the object that owns them.
#[derive(Debug, Default)]
pub struct Expectations {
    by_key: Mutex<BTreeMap<String, Expectation>>,
}

#[derive(Debug, Default)]
struct Expectation {
    creations: i64,
    deletions: BTreeSet<String>,
    since: Duration,
}

impl Expectations {
    /// From now (monotonic time) on, `creations` new pods and the end of `deletions` (keys) are expected.
    pub fn expect(&self, key: &str, creations: usize, deletions: BTreeSet<String>, now: Duration) {
        let expectation = Expectation { creations: creations as i64, deletions, since: now };
        self.by_key.lock().expect("no panic while held").insert(key.to_owned(), expectation);
    }

    /// A pod was created, or will not be.
    pub fn created(&self, key: &str) {
        if let Some(expectation) = self.by_key.lock().expect("no panic while held").get_mut(key) {
            expectation.creations -= 1;
        }
    }

    /// A pod is going, or will not go.
    pub fn deleted(&self, key: &str, pod: &str) {
        if let Some(expectation) = self.by_key.lock().expect("no panic while held").get_mut(key) {
            expectation.deletions.remove(pod);
        }
    }

    /// Whether everything expected has been seen, or has been waited for too long.
    pub fn satisfied(&self, key: &str, now: Duration) -> bool {
        self.by_key.lock().expect("no panic while held").get(key).is_none_or(|expectation| {
            (expectation.creations <= 0 && expectation.deletions.is_empty()) || now.saturating_sub(expectation.since) > TIMEOUT
        })
    }

    /// Expects nothing of this key any more.
    pub fn forget(&self, key: &str) {
        self.by_key.lock().expect("no panic while held").remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_back_until_seen_or_expired() {
        let expectations = Expectations::default();
        let second = Duration::from_secs(1);
        assert!(expectations.satisfied("a", second));
        expectations.expect("a", 2, BTreeSet::from(["x".to_owned()]), second);
        expectations.created("a");
        expectations.created("a");
        assert!(!expectations.satisfied("a", second));
        expectations.deleted("a", "other");
        assert!(!expectations.satisfied("a", second));
        assert!(expectations.satisfied("a", second + TIMEOUT + second));
        expectations.deleted("a", "x");
        assert!(expectations.satisfied("a", second));
    }
}
