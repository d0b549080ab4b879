//! Pods that wait for a node.
//!
//! Three places, as in kubernetes pkg/scheduler/backend/queue: active (by priority, then age), backing
//! off (1 s doubling to 10 s), and unschedulable until something changes in the cluster.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// First and last back-off after a failed attempt.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// After so long an unschedulable pod is tried again, whatever happened.
const UNSCHEDULABLE_LIMIT: Duration = Duration::from_secs(300);

#[derive(Debug, Clone)]
struct Entry {
    priority: i32,
    /// When it came to the active queue first.
    since: Duration,
    attempts: u32,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Active,
    /// Until then.
    Backoff(Duration),
    /// Since then.
    Unschedulable(Duration),
    /// Taken out by [`Queue::pop`] when the cluster had changed so many times.
    InFlight(u64),
}

/// The queue. Times are monotonic.
#[derive(Debug, Default)]
pub struct Queue {
    entries: BTreeMap<String, Entry>,
    active: BTreeSet<(Reverse<i32>, Duration, String)>,
    backoff: BTreeSet<(Duration, String)>,
    unschedulable: BTreeSet<(Duration, String)>,
    changes: u64,
}

impl Queue {
    /// Adds a pod; one that waits after a failure is tried again, because it was changed.
    pub fn add(&mut self, key: &str, priority: i32, now: Duration) {
        match self.entries.get(key).map(|entry| entry.place) {
            None => {
                let entry = Entry { priority, since: now, attempts: 0, place: Place::Active };
                self.active.insert((Reverse(priority), now, key.to_owned()));
                self.entries.insert(key.to_owned(), entry);
            }
            Some(Place::Unschedulable(_)) => self.requeue(key, now),
            Some(_) => {}
        }
    }

    /// Forgets a pod.
    pub fn remove(&mut self, key: &str) {
        if let Some(entry) = self.entries.remove(key) {
            self.take_out(key, &entry);
        }
    }

    /// Hands out the first active pod.
    pub fn pop(&mut self, now: Duration) -> Option<String> {
        self.wake(now);
        let key = self.active.first()?.2.clone();
        self.put(&key, Place::InFlight(self.changes));
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.attempts += 1;
        }
        Some(key)
    }

    /// A pod that was handed out did not find a node. It waits for a change, unless there was one meanwhile.
    pub fn unschedulable(&mut self, key: &str, now: Duration) {
        let Some(entry) = self.entries.get(key) else { return };
        let unchanged = matches!(entry.place, Place::InFlight(then) if then == self.changes);
        self.put(key, Place::Unschedulable(now));
        if !unchanged {
            self.requeue(key, now);
        }
    }

    /// Lets one pod be tried again if it waits for a change.
    pub fn try_again(&mut self, key: &str, now: Duration) {
        self.requeue(key, now);
    }

    /// A pod that was handed out failed for a reason that may pass by itself (a bind that was refused).
    pub fn retry(&mut self, key: &str, now: Duration) {
        self.put(key, Place::Unschedulable(now));
        self.requeue(key, now);
    }

    /// Something changed that may make pods schedulable.
    pub fn cluster_changed(&mut self, now: Duration) {
        self.changes += 1;
        let waiting: Vec<String> = self.unschedulable.iter().map(|(_, key)| key.clone()).collect();
        for key in waiting {
            self.requeue(&key, now);
        }
    }

    /// When [`Queue::pop`] may have something that it has not now.
    pub fn next_wake(&self) -> Option<Duration> {
        let stale = self.unschedulable.first().map(|(since, _)| *since + UNSCHEDULABLE_LIMIT);
        self.backoff.first().map(|(until, _)| *until).into_iter().chain(stale).min()
    }

    /// Pods in the active, back-off and unschedulable places.
    pub fn lengths(&self) -> (usize, usize, usize) {
        (self.active.len(), self.backoff.len(), self.unschedulable.len())
    }

    fn wake(&mut self, now: Duration) {
        while let Some((until, key)) = self.backoff.first().cloned()
            && until <= now
        {
            self.put(&key, Place::Active);
        }
        while let Some((since, key)) = self.unschedulable.first().cloned()
            && since + UNSCHEDULABLE_LIMIT <= now
        {
            self.requeue(&key, now);
        }
    }

    /// Moves an unschedulable pod to the back-off queue, or on to the active one.
    fn requeue(&mut self, key: &str, now: Duration) {
        let Some(entry) = self.entries.get(key) else { return };
        let Place::Unschedulable(since) = entry.place else { return };
        let delay = BACKOFF.0.saturating_mul(1 << entry.attempts.saturating_sub(1).min(10)).min(BACKOFF.1);
        let until = since + delay;
        self.put(key, if until > now { Place::Backoff(until) } else { Place::Active });
    }

    fn put(&mut self, key: &str, place: Place) {
        let Some(mut entry) = self.entries.remove(key) else { return };
        self.take_out(key, &entry);
        entry.place = place;
        match place {
            Place::Active => {
                self.active.insert((Reverse(entry.priority), entry.since, key.to_owned()));
            }
            Place::Backoff(until) => {
                self.backoff.insert((until, key.to_owned()));
            }
            Place::Unschedulable(since) => {
                self.unschedulable.insert((since, key.to_owned()));
            }
            Place::InFlight(_) => {}
        }
        self.entries.insert(key.to_owned(), entry);
    }

    fn take_out(&mut self, key: &str, entry: &Entry) {
        match entry.place {
            Place::Active => {
                self.active.remove(&(Reverse(entry.priority), entry.since, key.to_owned()));
            }
            Place::Backoff(until) => {
                self.backoff.remove(&(until, key.to_owned()));
            }
            Place::Unschedulable(since) => {
                self.unschedulable.remove(&(since, key.to_owned()));
            }
            Place::InFlight(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn priority_then_age() {
        let mut queue = Queue::default();
        queue.add("old", 0, s(1));
        queue.add("new", 0, s(2));
        queue.add("urgent", 5, s(3));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(s(4))).collect();
        assert_eq!(order, ["urgent", "old", "new"]);
    }

    #[test]
    fn waits_for_a_change_and_backs_off() {
        let mut queue = Queue::default();
        queue.add("a", 0, s(0));
        assert_eq!(queue.pop(s(0)).as_deref(), Some("a"));
        queue.unschedulable("a", s(0));
        assert_eq!(queue.pop(s(100)), None);
        queue.cluster_changed(s(100));
        assert_eq!(queue.pop(s(100)).as_deref(), Some("a"));
        queue.unschedulable("a", s(100));
        queue.cluster_changed(s(100));
        assert_eq!(queue.next_wake(), Some(s(102)));
        assert_eq!(queue.pop(s(101)), None);
        assert_eq!(queue.pop(s(102)).as_deref(), Some("a"));
    }

    #[test]
    fn a_change_during_the_attempt_is_not_missed() {
        let mut queue = Queue::default();
        queue.add("a", 0, s(0));
        queue.pop(s(0));
        queue.cluster_changed(s(0));
        queue.unschedulable("a", s(0));
        assert_eq!(queue.pop(s(1)).as_deref(), Some("a"));
    }

    #[test]
    fn tried_again_after_five_minutes() {
        let mut queue = Queue::default();
        queue.add("a", 0, s(0));
        queue.pop(s(0));
        queue.unschedulable("a", s(0));
        assert_eq!(queue.next_wake(), Some(s(300)));
        assert_eq!(queue.pop(s(300)).as_deref(), Some("a"));
    }
}
