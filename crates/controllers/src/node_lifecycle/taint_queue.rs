//! Nodes that wait for their NoExecute taint, at the zone's rate.
//!
//! Source: kubernetes pkg/controller/nodelifecycle/scheduler/rate_limited_queue.go.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::pods::since;

/// A token bucket of one token.
#[derive(Debug, Clone, Copy)]
struct Limiter {
    rate: f64,
    tokens: f64,
    at: Timestamp,
}

impl Limiter {
    fn accept(&mut self, now: Timestamp) -> bool {
        if self.rate <= 0.0 {
            return false;
        }
        // A rounding error must not cost a whole round.
        let earned = since(self.at, now).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + earned + 1e-9).min(1.0);
        self.at = now;
        let accepted = self.tokens >= 1.0;
        if accepted {
            self.tokens -= 1.0;
        }
        accepted
    }
}

/// The queue of one zone.
#[derive(Debug)]
pub struct TaintQueue {
    /// Time to process and name.
    waiting: BTreeSet<(Timestamp, String)>,
    /// Names that are in the queue or have been handled and not removed since.
    known: BTreeSet<String>,
    limiter: Limiter,
}

impl TaintQueue {
    /// An empty queue at `rate` nodes a second.
    pub fn new(rate: f64, now: Timestamp) -> Self {
        Self { waiting: BTreeSet::new(), known: BTreeSet::new(), limiter: Limiter { rate, tokens: 1.0, at: now } }
    }

    /// Adds a node, unless it is known.
    pub fn add(&mut self, node: &str, now: Timestamp) -> bool {
        let new = self.known.insert(node.to_owned());
        if new {
            self.waiting.insert((now, node.to_owned()));
        }
        new
    }

    /// Forgets a node.
    pub fn remove(&mut self, node: &str) -> bool {
        self.waiting.retain(|(_, name)| name != node);
        self.known.remove(node)
    }

    /// The next node to taint now, where the rate allows one. It must be [`TaintQueue::handled`] or
    /// [`TaintQueue::failed`] before the next call.
    pub fn next(&mut self, now: Timestamp) -> Option<String> {
        let (due, node) = self.waiting.first()?.clone();
        // As in the real queue, asking costs a token also when the node is not due.
        (self.limiter.accept(now) && due <= now).then_some(node)
    }

    /// The node is tainted or needs no taint.
    pub fn handled(&mut self, node: &str) {
        self.waiting.retain(|(_, name)| name != node);
    }

    /// The node comes again after `wait`.
    pub fn failed(&mut self, node: &str, wait: Duration, now: Timestamp) {
        if self.known.contains(node) {
            self.handled(node);
            self.waiting.insert((now + wait, node.to_owned()));
        }
    }

    /// Whether no node waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Changes the rate; 0 stops the queue. A queue that is waiting for its rate goes on waiting.
    pub fn set_rate(&mut self, rate: f64, now: Timestamp) {
        if self.limiter.rate.to_bits() == rate.to_bits() {
            return;
        }
        let waits = !self.limiter.accept(now);
        let tokens = if waits && rate > 0.0 { 0.0 } else { 1.0 };
        self.limiter = Limiter { rate, tokens, at: now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::at;

    fn drain(queue: &mut TaintQueue, from: i64, to: i64) -> Vec<(i64, String)> {
        let mut tainted = Vec::new();
        // Every 100 ms, as the controller looks.
        for tenth in from * 10..to * 10 {
            let now = Timestamp::from_millisecond(tenth * 100).expect("in range");
            while let Some(node) = queue.next(now) {
                queue.handled(&node);
                tainted.push((tenth / 10, node));
            }
        }
        tainted
    }

    #[test]
    fn two_nodes_lost_at_once_are_tainted_ten_seconds_apart() {
        let mut queue = TaintQueue::new(0.1, at(0));
        queue.add("a", at(100));
        queue.add("b", at(100));
        assert_eq!(drain(&mut queue, 100, 130), [(100, "a".to_owned()), (110, "b".to_owned())]);
    }

    #[test]
    fn a_handled_node_comes_again_only_after_removal() {
        let mut queue = TaintQueue::new(0.1, at(0));
        assert!(queue.add("a", at(100)));
        drain(&mut queue, 100, 101);
        assert!(!queue.add("a", at(105)));
        assert!(queue.remove("a"));
        assert!(queue.add("a", at(106)));
    }

    #[test]
    fn a_stopped_queue_waits_a_whole_period_when_it_starts_again() {
        let mut queue = TaintQueue::new(0.1, at(0));
        queue.set_rate(0.0, at(90));
        queue.add("a", at(100));
        assert!(drain(&mut queue, 100, 200).is_empty());
        queue.set_rate(0.1, at(200));
        assert_eq!(drain(&mut queue, 200, 300), [(210, "a".to_owned())]);
    }
}
