//! The executor: ready tasks, sleepers, and the time at which they are.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::future::BoxFuture;

use crate::random::SplitMix;

/// Task number of the future that the world runs for.
const MAIN: u64 = 0;
/// Polls without the clock moving after which the tasks are taken to be waking each other for ever.
const RESTLESS: u64 = 20_000_000;

/// What executor, clock and tasks share.
pub(crate) struct Shared {
    seed: u64,
    state: Mutex<State>,
}

struct State {
    now: Duration,
    /// Draws the order of ready tasks; apart from the world's randomness, so that a task that draws
    /// once more does not shuffle everything after it.
    order: SplitMix,
    next_task: u64,
    tasks: BTreeMap<u64, Slot>,
    ready: Vec<u64>,
    next_sleeper: u64,
    /// By deadline, then in the order of going to sleep.
    sleepers: BTreeMap<(Duration, u64), Waker>,
    polls: u64,
}

struct Slot {
    name: &'static str,
    /// Taken out while it is polled.
    future: Option<BoxFuture<'static, ()>>,
    waker: Waker,
    is_ready: bool,
}

/// Puts one task on the ready list.
struct TaskWaker {
    shared: Weak<Shared>,
    task: u64,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if let Some(shared) = self.shared.upgrade() {
            shared.state().make_ready(self.task);
        }
    }
}

impl State {
    fn make_ready(&mut self, task: u64) {
        if let Some(slot) = self.tasks.get_mut(&task)
            && !slot.is_ready
        {
            slot.is_ready = true;
            self.ready.push(task);
        }
    }

    /// Takes one of the ready tasks, drawn from the seed.
    fn take_ready(&mut self) -> Option<u64> {
        if self.ready.is_empty() {
            return None;
        }
        let index = (self.order.next() % self.ready.len() as u64) as usize;
        let task = self.ready.swap_remove(index);
        if let Some(slot) = self.tasks.get_mut(&task) {
            slot.is_ready = false;
        }
        Some(task)
    }

    /// Moves the clock to the next deadline; gives all who wait for it.
    fn next_deadline(&mut self) -> Vec<Waker> {
        let Some((deadline, _)) = self.sleepers.keys().next().copied() else { return Vec::new() };
        if deadline > self.now {
            self.now = deadline;
            self.polls = 0;
        }
        let later = self.sleepers.split_off(&(deadline, u64::MAX));
        std::mem::replace(&mut self.sleepers, later).into_values().collect()
    }
}

impl Shared {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let state = State {
            now: Duration::ZERO,
            // Any constant tells the two sequences of one seed apart.
            order: SplitMix::new(seed ^ 0x6f72_6465_7221_6f72),
            next_task: MAIN + 1,
            tasks: BTreeMap::new(),
            ready: Vec::new(),
            next_sleeper: 0,
            sleepers: BTreeMap::new(),
            polls: 0,
        };
        Arc::new(Self { seed, state: Mutex::new(state) })
    }

    /// The lock is held for map operations only; a panic elsewhere leaves the state whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Duration {
        self.state().now
    }

    pub(crate) fn spawn(self: &Arc<Self>, name: &'static str, future: Option<BoxFuture<'static, ()>>) -> u64 {
        let mut state = self.state();
        let task = if future.is_some() { state.next_task } else { MAIN };
        state.next_task = state.next_task.max(task + 1);
        let waker = Waker::from(Arc::new(TaskWaker { shared: Arc::downgrade(self), task }));
        state.tasks.insert(task, Slot { name, future, waker, is_ready: false });
        state.make_ready(task);
        task
    }

    /// Drops a task. One that is just being polled is dropped when that poll ends.
    pub(crate) fn abort(&self, task: u64) {
        let slot = self.state().tasks.remove(&task);
        drop(slot);
    }

    /// Wakes `waker` at `deadline`, but never before every task that is ready now had its turn.
    pub(crate) fn sleep_until(&self, deadline: Duration, waker: Waker) -> (Duration, u64) {
        let mut state = self.state();
        state.next_sleeper += 1;
        let key = (deadline.max(state.now), state.next_sleeper);
        state.sleepers.insert(key, waker);
        key
    }

    /// Takes a sleeper out again; whether it was still asleep.
    pub(crate) fn cancel_sleep(&self, key: (Duration, u64)) -> bool {
        let waker = self.state().sleepers.remove(&key);
        waker.is_some()
    }

    fn poll(&self, task: u64) {
        let taken = {
            let mut state = self.state();
            state.polls += 1;
            state.tasks.get_mut(&task).and_then(|slot| Some((slot.future.take()?, slot.waker.clone())))
        };
        let Some((mut future, waker)) = taken else { return };
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            if let Some(slot) = self.state().tasks.get_mut(&task) {
                slot.future = Some(future);
            }
            // A task that has ended itself has no place any more and is dropped here.
        } else {
            let slot = self.state().tasks.remove(&task);
            drop(slot);
        }
    }

    /// What every task that is left is called, for the message of a deadlock.
    fn waiting(&self) -> String {
        let state = self.state();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for slot in state.tasks.values() {
            *counts.entry(slot.name).or_default() += 1;
        }
        let names: Vec<String> = counts.iter().map(|(name, count)| format!("{name} ×{count}")).collect();
        names.join(", ")
    }
}

/// Says which seed it was when a test fails inside of [`run`].
struct SeedNote(u64);

impl Drop for SeedNote {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed of this run is {}", self.0);
        }
    }
}

/// Drops the tasks at the end, which breaks the circles between them and the world they hold.
struct Cleanup<'a>(&'a Shared);

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        // Tasks may spawn others as they are dropped.
        loop {
            let tasks = std::mem::take(&mut self.0.state().tasks);
            if tasks.is_empty() {
                break;
            }
            drop(tasks);
        }
        let sleepers = std::mem::take(&mut self.0.state().sleepers);
        drop(sleepers);
    }
}

pub(crate) fn run<F: Future>(shared: &Arc<Shared>, main: F) -> F::Output {
    let _note = SeedNote(shared.seed);
    let _cleanup = Cleanup(shared);
    let mut main = pin!(main);
    shared.spawn("main", None);
    let waker = shared.state().tasks[&MAIN].waker.clone();
    loop {
        let next = shared.state().take_ready();
        match next {
            Some(MAIN) => {
                shared.state().polls += 1;
                if let Poll::Ready(output) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return output;
                }
            }
            Some(task) => shared.poll(task),
            None => {
                let due = shared.state().next_deadline();
                assert!(
                    !due.is_empty(),
                    "deadlock at {:?}: nothing can proceed and nobody sleeps (seed {}; waiting: {})",
                    shared.now(),
                    shared.seed,
                    shared.waiting(),
                );
                for sleeper in due {
                    sleeper.wake();
                }
            }
        }
        let polls = shared.state().polls;
        assert!(
            polls < RESTLESS,
            "the tasks wake each other for ever at {:?} (seed {}; running: {})",
            shared.now(),
            shared.seed,
            shared.waiting(),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use daruma_world::World;
    use tokio::sync::{Notify, mpsc};

    /// What three tasks do, in order, under one seed.
    fn trace(seed: u64) -> Vec<String> {
        crate::run(seed, |world: World| async move {
            let (sender, mut receiver) = mpsc::channel(100);
            for number in 0..3 {
                let (world2, sender) = (world.clone(), sender.clone());
                world.spawn("talker", async move {
                    for step in 0..4 {
                        world2.sleep(Duration::from_millis(10 * world2.random.below(3))).await;
                        let at = world2.monotonic();
                        let _ = sender.send(format!("{number}.{step} at {at:?}")).await;
                    }
                });
            }
            drop(sender);
            let mut lines = Vec::new();
            while let Some(line) = receiver.recv().await {
                lines.push(line);
            }
            lines
        })
    }

    #[test]
    fn a_seed_decides_everything() {
        let traces: Vec<_> = (0..8).map(trace).collect();
        for (seed, first) in traces.iter().enumerate() {
            assert_eq!(*first, trace(seed as u64), "seed {seed}");
        }
        assert!(traces.iter().any(|other| *other != traces[0]), "every seed gives the same order");
    }

    #[test]
    fn the_clock_jumps_and_zero_sleeps_yield() {
        crate::run(1, |world| async move {
            let before = world.now();
            world.sleep(Duration::from_secs(3600)).await;
            assert_eq!(world.monotonic(), Duration::from_secs(3600));
            assert_eq!(world.now().duration_since(before).as_secs(), 3600);
            let order = Arc::new(Mutex::new(Vec::new()));
            let other = order.clone();
            world.spawn("other", async move { other.lock().unwrap().push("other") });
            world.sleep(Duration::ZERO).await;
            order.lock().unwrap().push("main");
            assert_eq!(*order.lock().unwrap(), ["other", "main"]);
        });
    }

    #[test]
    fn aborted_tasks_are_dropped() {
        crate::run(1, |world| async move {
            let (sender, mut receiver) = mpsc::channel::<()>(1);
            let world2 = world.clone();
            let task = world.spawn("sleeper", async move {
                world2.sleep(Duration::from_secs(1)).await;
                let _ = sender.send(()).await;
            });
            task.abort();
            assert_eq!(receiver.recv().await, None);
            assert!(world.timeout(Duration::from_secs(5), std::future::pending::<()>()).await.is_err());
            assert_eq!(world.blocking(|| 7).await, 7);
        });
    }

    #[test]
    #[should_panic(expected = "deadlock at 2s: nothing can proceed and nobody sleeps (seed 5; waiting: main ×1, stuck ×1)")]
    fn a_deadlock_is_told() {
        crate::run(5, |world| async move {
            let notify = Arc::new(Notify::new());
            let never = notify.clone();
            world.spawn("stuck", async move { never.notified().await });
            world.sleep(Duration::from_secs(2)).await;
            notify.notified().await;
        });
    }
}
