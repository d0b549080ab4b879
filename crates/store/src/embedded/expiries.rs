//! Which leased key ends when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Deadlines on the monotonic clock, in whole seconds so that keys end in groups.
#[derive(Default)]
pub(super) struct Expiries {
    order: BTreeSet<(Duration, Arc<str>)>,
    deadlines: BTreeMap<Arc<str>, Duration>,
}

impl Expiries {
    /// Sets a key's deadline, or takes it away.
    pub(super) fn set(&mut self, key: &Arc<str>, deadline: Option<Duration>) {
        if let Some(old) = self.deadlines.remove(key) {
            self.order.remove(&(old, key.clone()));
        }
        if let Some(deadline) = deadline {
            let deadline = Duration::from_secs(deadline.as_secs() + u64::from(deadline.subsec_nanos() > 0));
            self.deadlines.insert(key.clone(), deadline);
            self.order.insert((deadline, key.clone()));
        }
    }

    /// The next deadline.
    pub(super) fn next(&self) -> Option<Duration> {
        self.order.first().map(|(deadline, _)| *deadline)
    }

    /// At most `limit` keys whose deadline has come.
    pub(super) fn due(&self, now: Duration, limit: usize) -> impl Iterator<Item = &Arc<str>> {
        self.order.iter().take(limit).take_while(move |(deadline, _)| *deadline <= now).map(|(_, key)| key)
    }
}
