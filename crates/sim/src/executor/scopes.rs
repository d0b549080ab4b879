//! Scopes as the executor sees them: a tree of lists of tasks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use super::{Body, Core, NONE, State, TaskId};
use crate::scope::ScopeInner;

/// One scope.
pub(super) struct ScopeSlot {
    /// `None` where the slot is free.
    inner: Option<Arc<ScopeInner>>,
    parent: u32,
    children: BTreeSet<u32>,
    /// First of the list of its tasks.
    pub(super) tasks: u32,
    /// Pauses of its own and of those above it.
    pub(super) paused: u32,
    /// Ready tasks that wait for the end of the pause.
    pub(super) held: Vec<TaskId>,
    /// Who waits for its end.
    ended: Vec<Waker>,
}

/// What is left of scopes that have died; to be dropped once everybody knows of their death.
pub(crate) struct Remains {
    /// Those that died, each after the one above it.
    pub(crate) scopes: Vec<Arc<ScopeInner>>,
    bodies: Vec<Body>,
    wakers: Vec<Waker>,
}

impl Remains {
    /// Drops the futures, then wakes who waited for the end.
    pub(crate) fn bury(self) {
        drop(self.bodies);
        for waker in self.wakers {
            waker.wake();
        }
    }
}

impl State {
    /// A scope and all below it, each after the one above it.
    fn subtree(&self, top: u32) -> Vec<u32> {
        let mut found = vec![top];
        let mut looked_at = 0;
        while let Some(scope) = found.get(looked_at).copied() {
            found.extend(&self.scopes[scope as usize].children);
            looked_at += 1;
        }
        found
    }
}

impl Core {
    /// Makes room for a scope, below `parent` where there is one. `make` gets its slot. Below a dead
    /// scope one is born dead and without a slot of its own.
    pub(crate) fn add_scope(
        &self,
        parent: Option<&ScopeInner>,
        make: impl FnOnce(u32, bool) -> Arc<ScopeInner>,
    ) -> Arc<ScopeInner> {
        let mut state = self.state();
        if parent.is_some_and(ScopeInner::is_dead) {
            return make(NONE, true);
        }
        let slot = state.free_scopes.pop().unwrap_or(state.scopes.len() as u32);
        let inner = make(slot, false);
        let paused = parent.map_or(0, |parent| state.scopes[parent.slot as usize].paused);
        let new = ScopeSlot {
            inner: Some(inner.clone()),
            parent: parent.map_or(NONE, |parent| parent.slot),
            children: BTreeSet::new(),
            tasks: NONE,
            paused,
            held: Vec::new(),
            ended: Vec::new(),
        };
        if slot as usize == state.scopes.len() {
            state.scopes.push(new);
        } else {
            state.scopes[slot as usize] = new;
        }
        if let Some(parent) = parent {
            state.scopes[parent.slot as usize].children.insert(slot);
        }
        inner
    }

    /// The outermost scope; `None` once the world has ended.
    pub(crate) fn outside(&self) -> Option<Arc<ScopeInner>> {
        self.state().scopes.first()?.inner.clone()
    }

    /// Makes a scope and all below it dead and takes them out. Nothing where it is dead already.
    pub(crate) fn kill(&self, scope: &ScopeInner) -> Remains {
        let mut remains = Remains { scopes: Vec::new(), bodies: Vec::new(), wakers: Vec::new() };
        let mut guard = self.state();
        let state = &mut *guard;
        if scope.is_dead() {
            return remains;
        }
        let parent = state.scopes[scope.slot as usize].parent;
        if parent != NONE {
            state.scopes[parent as usize].children.remove(&scope.slot);
        }
        for slot in state.subtree(scope.slot) {
            let mut task = state.scopes[slot as usize].tasks;
            while task != NONE {
                let id = TaskId { index: task, generation: state.tasks[task as usize].generation };
                task = state.tasks[task as usize].next;
                remains.bodies.extend(state.remove_task(id));
            }
            let gone = &mut state.scopes[slot as usize];
            gone.held.clear();
            remains.wakers.append(&mut gone.ended);
            if let Some(inner) = gone.inner.take() {
                inner.dead.store(true, Ordering::Release);
                remains.scopes.push(inner);
            }
            state.free_scopes.push(slot);
        }
        remains
    }

    /// Adds a pause to a scope and all below it, or takes one away.
    pub(crate) fn pause(&self, scope: &ScopeInner, pauses: bool) {
        let is_driven = {
            let mut guard = self.state();
            let state = &mut *guard;
            if scope.is_dead() {
                return;
            }
            for slot in state.subtree(scope.slot) {
                let slot = &mut state.scopes[slot as usize];
                if pauses {
                    slot.paused += 1;
                } else {
                    slot.paused = slot.paused.saturating_sub(1);
                    if slot.paused == 0 {
                        state.ready.append(&mut slot.held);
                    }
                }
            }
            state.is_driven
        };
        if !is_driven {
            self.tell_driver();
        }
    }

    /// Whether the scope or one above it is paused.
    pub(crate) fn is_paused(&self, scope: &ScopeInner) -> bool {
        let state = self.state();
        !scope.is_dead() && state.scopes[scope.slot as usize].paused > 0
    }

    /// The scope and all that live below it.
    pub(crate) fn living(&self, scope: &ScopeInner) -> Vec<Arc<ScopeInner>> {
        let state = self.state();
        if scope.is_dead() {
            return Vec::new();
        }
        state.subtree(scope.slot).into_iter().filter_map(|slot| state.scopes[slot as usize].inner.clone()).collect()
    }

    /// Tasks of a scope and of all below it.
    pub(crate) fn task_count(&self, scope: &ScopeInner) -> usize {
        let state = self.state();
        if scope.is_dead() {
            return 0;
        }
        let count = |slot: u32| {
            let mut count = 0;
            let mut task = state.scopes[slot as usize].tasks;
            while task != NONE {
                count += 1;
                task = state.tasks[task as usize].next;
            }
            count
        };
        state.subtree(scope.slot).into_iter().map(count).sum()
    }

    /// Wakes `waker` when the scope ends; whether it lives.
    pub(crate) fn when_ended(&self, scope: &ScopeInner, waker: &Waker) -> bool {
        let mut state = self.state();
        if scope.is_dead() {
            return false;
        }
        let waiting = &mut state.scopes[scope.slot as usize].ended;
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
        true
    }
}
