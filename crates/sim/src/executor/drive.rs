//! Running: all that is ready, in an order drawn from the seed, then the jump to the next deadline.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use super::{Body, Core, State, TaskId, TaskWaker};

/// Polls without the clock moving after which the tasks are taken to be waking each other for ever.
const RESTLESS: u64 = 20_000_000;

/// Says which seed it was when a test fails inside of a world.
struct SeedNote(u64);

impl Drop for SeedNote {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed of this run is {}", self.0);
        }
    }
}

/// Marks the world as not being driven any more, whatever ended it.
struct Driven<'a>(&'a Core);

impl Drop for Driven<'_> {
    fn drop(&mut self) {
        self.0.state().is_driven = false;
    }
}

enum Next {
    Task(TaskId, Body),
    Main,
    /// Of a scope that is paused or of a task that has ended.
    Stale,
    Nothing,
}

impl State {
    /// Takes one of the ready tasks, drawn from the seed.
    fn take_ready(&mut self) -> Next {
        if self.ready.is_empty() {
            return Next::Nothing;
        }
        let index = (self.order.next() % self.ready.len() as u64) as usize;
        let task = self.ready.swap_remove(index);
        let Some(slot) = self.slot(task) else { return Next::Stale };
        let scope = slot.scope as usize;
        if self.scopes[scope].paused > 0 {
            self.scopes[scope].held.push(task);
            return Next::Stale;
        }
        self.polls += 1;
        self.all_polls += 1;
        let slot = &mut self.tasks[task.index as usize];
        slot.is_ready = false;
        match slot.body.take() {
            Some(body) => Next::Task(task, body),
            None => Next::Main,
        }
    }
}

impl Core {
    /// Runs until `main` completes.
    ///
    /// # Panics
    /// As [`crate::run`] says.
    pub(crate) fn run<F: Future>(self: &Arc<Self>, main: F) -> F::Output {
        let _note = SeedNote(self.seed);
        let _driven = self.begin();
        let mut main = pin!(main);
        let task = self.state().add_task("main", 0);
        let waker = Waker::from(Arc::new(TaskWaker { core: self.clone(), task }));
        loop {
            match self.take() {
                Next::Main => {
                    if let Poll::Ready(output) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                        self.state().remove_task(task);
                        return output;
                    }
                }
                Next::Task(task, body) => self.poll(task, body),
                Next::Stale => {}
                Next::Nothing => {
                    assert!(
                        self.advance(u64::MAX),
                        "deadlock at {:?}: nothing can proceed and nobody sleeps (seed {}; waiting: {})",
                        self.now(),
                        self.seed,
                        self.waiting(),
                    );
                }
            }
        }
    }

    /// Runs all that is due up to a time; the clock stands at it then.
    pub(crate) fn run_until(self: &Arc<Self>, limit_ns: u64) {
        let _note = SeedNote(self.seed);
        let _driven = self.begin();
        loop {
            match self.take() {
                Next::Task(task, body) => self.poll(task, body),
                // The main future of a run that is over has no task.
                Next::Main | Next::Stale => {}
                Next::Nothing => {
                    if !self.advance(limit_ns) {
                        let now = self.now_ns();
                        self.now_ns.store(now.max(limit_ns), Ordering::Relaxed);
                        return;
                    }
                }
            }
        }
    }

    /// The time of the next thing that happens by itself; now, where something is ready.
    pub(crate) fn next_deadline_ns(&self) -> Option<u64> {
        if self.has_injected.load(Ordering::Acquire) {
            return Some(self.now_ns());
        }
        let state = self.state();
        if state.ready.is_empty() { state.timers.next() } else { Some(self.now_ns()) }
    }

    fn begin(&self) -> Driven<'_> {
        let mut state = self.state();
        assert!(!state.is_driven, "the world is being run already");
        state.is_driven = true;
        Driven(self)
    }

    fn take(self: &Arc<Self>) -> Next {
        if self.has_injected.swap(false, Ordering::AcqRel) {
            let futures = std::mem::take(&mut *self.injected.lock().unwrap_or_else(PoisonError::into_inner));
            for future in futures {
                if let Some(outside) = self.outside() {
                    self.spawn(&outside, "injected", future);
                }
            }
        }
        let mut state = self.state();
        let next = state.take_ready();
        let polls = state.polls;
        drop(state);
        assert!(
            polls < RESTLESS,
            "the tasks wake each other for ever at {:?} (seed {}; running: {})",
            self.now(),
            self.seed,
            self.waiting(),
        );
        next
    }

    fn poll(&self, task: TaskId, mut body: Body) {
        let is_pending = body.future.as_mut().poll(&mut Context::from_waker(&body.waker)).is_pending();
        let left = {
            let mut state = self.state();
            match state.slot(task) {
                Some(slot) if is_pending => {
                    slot.body = Some(body);
                    None
                }
                Some(_) => {
                    state.remove_task(task);
                    Some(body)
                }
                // A task that has ended itself has no place any more and is dropped here.
                None => Some(body),
            }
        };
        drop(left);
    }

    /// Moves the clock to the next deadline up to a limit and wakes all who wait for it.
    fn advance(&self, limit_ns: u64) -> bool {
        let mut state = self.state();
        let Some(deadline) = state.timers.next().filter(|deadline| *deadline <= limit_ns) else {
            return self.has_injected.load(Ordering::Acquire);
        };
        if deadline > self.now_ns() {
            self.now_ns.store(deadline, Ordering::Relaxed);
            state.polls = 0;
        }
        // Who goes to sleep until now while the others are woken waits for the next round.
        let mut due = std::mem::take(&mut state.due);
        while let Some(waker) = state.timers.pop_due(deadline) {
            due.push(waker);
        }
        drop(state);
        for waker in due.drain(..) {
            waker.wake();
        }
        self.state().due = due;
        true
    }
}
