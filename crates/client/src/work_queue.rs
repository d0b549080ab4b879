//! The queue between watchers and workers.
//!
//! Source of the semantics: client-go util/workqueue (queue, delaying queue, default rate limiters).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_world::World;
use tokio::sync::Notify;

use crate::RateLimit;
use crate::rate_limit::TokenBucket;

/// All keys together are added with back-off at most this often (client-go
/// util/workqueue/default_rate_limiters.go DefaultTypedControllerRateLimiter).
const OVERALL: RateLimit = RateLimit { qps: 10.0, burst: 100 };

/// First and last delay of [`WorkQueue::add_rate_limited`].
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// After the first failure.
    pub base: Duration,
    /// The most.
    pub max: Duration,
}

impl Default for Backoff {
    /// 5 ms doubling to 1000 s, as controllers have it.
    fn default() -> Self {
        Self { base: Duration::from_millis(5), max: Duration::from_secs(1000) }
    }
}

/// A set of keys to be worked on. A key is handed out to one worker at a time; a key added while it
/// is worked on comes again after [`WorkQueue::done`]. Clones share the queue.
#[derive(Clone)]
pub struct WorkQueue {
    world: World,
    backoff: Backoff,
    overall: Arc<TokenBucket>,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct State {
    ready: VecDeque<String>,
    dirty: BTreeSet<String>,
    processing: BTreeSet<String>,
    failures: BTreeMap<String, u32>,
    /// Due time (monotonic) and key; a key waits at most once, at its earliest time.
    waiting: BTreeSet<(Duration, String)>,
    waiting_keys: BTreeMap<String, Duration>,
    closed: bool,
}

impl WorkQueue {
    /// An empty queue. Beside each key's back-off, all keys together are retried at most ten times a
    /// second after a burst of a hundred, as with the queues of real controllers.
    pub fn new(world: &World, backoff: Backoff) -> Self {
        Self {
            world: world.clone(),
            backoff,
            overall: Arc::new(TokenBucket::new(OVERALL, world.monotonic())),
            state: Arc::default(),
            changed: Arc::new(Notify::new()),
        }
    }

    /// The same without the limit on all keys together. Before the queue is shared only.
    pub fn without_overall_limit(mut self) -> Self {
        self.overall = Arc::new(TokenBucket::new(RateLimit::NONE, Duration::ZERO));
        self
    }

    /// Adds a key, unless it waits already.
    pub fn add(&self, key: &str) {
        let mut state = self.state.lock().expect("no panic while held");
        if state.closed || !state.dirty.insert(key.to_owned()) {
            return;
        }
        if !state.processing.contains(key) {
            state.ready.push_back(key.to_owned());
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Adds a key after `delay`; the earliest of several delays counts.
    pub fn add_after(&self, key: &str, delay: Duration) {
        if delay.is_zero() {
            self.add(key);
            return;
        }
        let due = self.world.monotonic() + delay;
        let mut state = self.state.lock().expect("no panic while held");
        if state.closed {
            return;
        }
        if let Some(earlier) = state.waiting_keys.get(key).copied() {
            if earlier <= due {
                return;
            }
            state.waiting.remove(&(earlier, key.to_owned()));
        }
        state.waiting.insert((due, key.to_owned()));
        state.waiting_keys.insert(key.to_owned(), due);
        drop(state);
        self.changed.notify_one();
    }

    /// Adds a key after its back-off, which doubles with every call until [`WorkQueue::forget`].
    pub fn add_rate_limited(&self, key: &str) {
        let failures = {
            let mut state = self.state.lock().expect("no panic while held");
            let failures = state.failures.entry(key.to_owned()).or_default();
            *failures += 1;
            *failures - 1
        };
        let delay = self.backoff.base.saturating_mul(1u32 << failures.min(30)).min(self.backoff.max);
        self.add_after(key, delay.max(self.overall.reserve(self.world.monotonic())));
    }

    /// How often the key was added with back-off since it was forgotten.
    pub fn failures(&self, key: &str) -> u32 {
        self.state.lock().expect("no panic while held").failures.get(key).copied().unwrap_or_default()
    }

    /// Ends the key's back-off.
    pub fn forget(&self, key: &str) {
        self.state.lock().expect("no panic while held").failures.remove(key);
    }

    /// Waits for a key and hands it out; `None` once the queue is closed. Call [`WorkQueue::done`] after.
    pub async fn get(&self) -> Option<String> {
        loop {
            let notified = self.changed.notified();
            let wait = {
                let mut state = self.state.lock().expect("no panic while held");
                state.promote(self.world.monotonic());
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.processing.insert(key.clone());
                    // The wake-up that led here may have been meant for more than one worker, and
                    // somebody has to watch over the keys that wait.
                    let more = state.closed || !state.ready.is_empty() || !state.waiting.is_empty();
                    drop(state);
                    if more {
                        self.changed.notify_one();
                    }
                    return Some(key);
                }
                if state.closed {
                    drop(state);
                    self.changed.notify_one();
                    return None;
                }
                state.waiting.first().map(|(due, _)| due.saturating_sub(self.world.monotonic()))
            };
            match wait {
                Some(wait) => {
                    let sleep = self.world.sleep(wait);
                    futures::pin_mut!(notified);
                    futures::future::select(notified, sleep).await;
                }
                None => notified.await,
            }
        }
    }

    /// Says that a key's work is finished.
    pub fn done(&self, key: &str) {
        let mut state = self.state.lock().expect("no panic while held");
        state.processing.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.to_owned());
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Keys ready to be handed out.
    pub fn len(&self) -> usize {
        self.state.lock().expect("no panic while held").ready.len()
    }

    /// Whether no key is ready.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets every worker end once the ready keys are handed out.
    pub fn close(&self) {
        self.state.lock().expect("no panic while held").closed = true;
        self.changed.notify_one();
    }
}

impl State {
    fn promote(&mut self, now: Duration) {
        while let Some((due, _)) = self.waiting.first() {
            if *due > now {
                break;
            }
            let Some((_, key)) = self.waiting.pop_first() else { break };
            self.waiting_keys.remove(&key);
            if self.dirty.insert(key.clone()) && !self.processing.contains(&key) {
                self.ready.push_back(key);
            }
        }
    }
}
