//! The executor: one thread, ready tasks, sleepers, and the time at which they are.
//!
//! Invariant: the lock of [`State`] is the innermost of all; nothing that could call out (a future, a
//! drop of one, a foreign waker) happens while it is held.

mod drive;
mod scopes;
mod timers;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::time::Duration;

use futures::future::BoxFuture;

use crate::random::SplitMix;
use crate::scope::ScopeInner;
use scopes::ScopeSlot;
pub(crate) use timers::TimerKey;
use timers::Timers;

/// No task.
const NONE: u32 = u32::MAX;
/// Deadlines from here on (500 years) are never reached.
const NEVER: u64 = 500 * 365 * 86_400 * 1_000_000_000;

/// Names a task; worthless once the task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskId {
    index: u32,
    generation: u32,
}

/// What executor, clocks and scopes of one universe share.
pub(crate) struct Core {
    pub(crate) seed: u64,
    now_ns: AtomicU64,
    has_injected: AtomicBool,
    injected: Mutex<Vec<BoxFuture<'static, ()>>>,
    on_ready: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
    state: Mutex<State>,
}

struct State {
    /// Draws the order of ready tasks; apart from the world's randomness, so that a task that draws
    /// once more does not shuffle everything after it.
    order: SplitMix,
    tasks: Vec<Slot>,
    free_tasks: Vec<u32>,
    ready: Vec<TaskId>,
    timers: Timers,
    /// Room for those who are woken together.
    due: Vec<Waker>,
    scopes: Vec<ScopeSlot>,
    free_scopes: Vec<u32>,
    /// Since the clock last moved.
    polls: u64,
    all_polls: u64,
    /// Some thread runs tasks now, and will see what becomes ready.
    is_driven: bool,
}

struct Slot {
    generation: u32,
    name: &'static str,
    scope: u32,
    /// Neighbours in the scope's list of tasks.
    next: u32,
    previous: u32,
    is_used: bool,
    is_ready: bool,
    /// Taken out while it is polled; the main future has none.
    body: Option<Body>,
}

struct Body {
    future: BoxFuture<'static, ()>,
    waker: Waker,
}

/// Puts one task on the ready list.
struct TaskWaker {
    core: Arc<Core>,
    task: TaskId,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.core.make_ready(self.task);
    }
}

impl State {
    fn slot(&mut self, task: TaskId) -> Option<&mut Slot> {
        let slot = self.tasks.get_mut(task.index as usize)?;
        (slot.is_used && slot.generation == task.generation).then_some(slot)
    }

    fn add_task(&mut self, name: &'static str, scope: u32) -> TaskId {
        let head = self.scopes[scope as usize].tasks;
        let new =
            |generation| Slot { generation, name, scope, next: head, previous: NONE, is_used: true, is_ready: true, body: None };
        let index = if let Some(index) = self.free_tasks.pop() {
            let generation = self.tasks[index as usize].generation.wrapping_add(1);
            self.tasks[index as usize] = new(generation);
            index
        } else {
            self.tasks.push(new(0));
            self.tasks.len() as u32 - 1
        };
        if head != NONE {
            self.tasks[head as usize].previous = index;
        }
        self.scopes[scope as usize].tasks = index;
        let task = TaskId { index, generation: self.tasks[index as usize].generation };
        self.ready.push(task);
        task
    }

    /// Takes a task out of all lists. Its entry among the ready ones goes stale.
    fn remove_task(&mut self, task: TaskId) -> Option<Body> {
        let slot = self.slot(task)?;
        slot.is_used = false;
        let body = slot.body.take();
        let (next, previous, scope) = (slot.next, slot.previous, slot.scope);
        if next != NONE {
            self.tasks[next as usize].previous = previous;
        }
        if previous == NONE {
            self.scopes[scope as usize].tasks = next;
        } else {
            self.tasks[previous as usize].next = next;
        }
        self.free_tasks.push(task.index);
        body
    }
}

impl Core {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let state = State {
            // Any constant tells the two sequences of one seed apart.
            order: SplitMix::new(seed ^ 0x6f72_6465_7221_6f72),
            tasks: Vec::new(),
            free_tasks: Vec::new(),
            ready: Vec::new(),
            timers: Timers::default(),
            due: Vec::new(),
            scopes: Vec::new(),
            free_scopes: Vec::new(),
            polls: 0,
            all_polls: 0,
            is_driven: false,
        };
        Arc::new(Self {
            seed,
            now_ns: AtomicU64::new(0),
            has_injected: AtomicBool::new(false),
            injected: Mutex::default(),
            on_ready: Mutex::default(),
            state: Mutex::new(state),
        })
    }

    /// The lock is held for list operations only; a panic elsewhere leaves the state whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.now_ns.load(Ordering::Relaxed)
    }

    pub(crate) fn now(&self) -> Duration {
        Duration::from_nanos(self.now_ns())
    }

    /// Polls made since the world began.
    pub(crate) fn all_polls(&self) -> u64 {
        self.state().all_polls
    }

    fn make_ready(&self, task: TaskId) {
        let is_driven = {
            let mut state = self.state();
            let Some(slot) = state.slot(task).filter(|slot| !slot.is_ready) else { return };
            slot.is_ready = true;
            state.ready.push(task);
            state.is_driven
        };
        if !is_driven {
            self.tell_driver();
        }
    }

    fn tell_driver(&self) {
        let callback = self.on_ready.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(callback) = callback {
            callback();
        }
    }

    pub(crate) fn set_on_ready(&self, callback: Arc<dyn Fn() + Send + Sync>) {
        let old = self.on_ready.lock().unwrap_or_else(PoisonError::into_inner).replace(callback);
        drop(old);
    }

    /// Hands a future in from any thread.
    pub(crate) fn inject(&self, future: BoxFuture<'static, ()>) {
        self.injected.lock().unwrap_or_else(PoisonError::into_inner).push(future);
        self.has_injected.store(true, Ordering::Release);
        self.tell_driver();
    }

    /// Starts a task in a living scope; in a dead one the future is dropped.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        scope: &ScopeInner,
        name: &'static str,
        future: BoxFuture<'static, ()>,
    ) -> Option<TaskId> {
        let (task, is_driven) = {
            let mut state = self.state();
            if scope.is_dead() {
                drop(state);
                drop(future);
                return None;
            }
            let task = state.add_task(name, scope.slot);
            let waker = Waker::from(Arc::new(TaskWaker { core: self.clone(), task }));
            state.tasks[task.index as usize].body = Some(Body { future, waker });
            (task, state.is_driven)
        };
        if !is_driven {
            self.tell_driver();
        }
        Some(task)
    }

    /// Drops a task. One that is just being polled is dropped when that poll ends.
    pub(crate) fn abort(&self, task: TaskId) {
        let body = self.state().remove_task(task);
        drop(body);
    }

    /// Wakes `waker` at `deadline`, but never before every task that is ready now had its turn.
    pub(crate) fn sleep_until(&self, deadline_ns: u64, waker: &Waker) -> Option<TimerKey> {
        if deadline_ns >= NEVER {
            return None;
        }
        let deadline = deadline_ns.max(self.now_ns());
        Some(self.state().timers.insert(deadline, waker.clone()))
    }

    /// Whether the sleeper has fired; one that has not gets this waker.
    pub(crate) fn has_fired(&self, key: TimerKey, waker: &Waker) -> bool {
        let mut state = self.state();
        if !state.timers.is_asleep(key) {
            return true;
        }
        let old = state.timers.set_waker(key, waker);
        drop(state);
        drop(old);
        false
    }

    /// Takes a sleeper out again.
    pub(crate) fn cancel_sleep(&self, key: TimerKey) {
        let waker = self.state().timers.remove(key);
        drop(waker);
    }

    /// What every task that is left is called, for the message of a deadlock.
    fn waiting(&self) -> String {
        let state = self.state();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for slot in state.tasks.iter().filter(|slot| slot.is_used) {
            *counts.entry(slot.name).or_default() += 1;
        }
        let names: Vec<String> = counts.iter().map(|(name, count)| format!("{name} ×{count}")).collect();
        names.join(", ")
    }
}
