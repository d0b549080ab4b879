//! Rules that hold at every moment of every run, whatever is broken on purpose.
//!
//! One file a rule, named in [`ALL`]. A rule hears of every change of the store, of every load of it, of the
//! events of a watch, and is shown the living containers; it answers with what is wrong. A [`Guard`] asks
//! them all and keeps what they say. To add one: write one file, name it in `ALL`.

mod acknowledged_writes;
mod allocatable;
mod convergence;
mod force_deleted;
mod objects;
mod one_pod_a_name;
mod replicas;
mod revisions;
mod seen;
#[cfg(test)]
mod testing;
mod watches;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use daruma_store::embedded::{Change, Loaded};

pub use objects::{Limits, Node, Owner, Pod, ReplicaSet, Workload};
pub use seen::{Active, Object, Seen};

/// `Err` says what is wrong.
pub type Verdict = Result<(), String>;

/// A change of the store.
pub struct Stored<'a> {
    /// Virtual time.
    pub at: Duration,
    /// The bare change.
    pub change: &'a Change,
    /// What was there, for the kinds that are looked at.
    pub old: Option<&'a Object>,
    /// What is there now, likewise.
    pub new: Option<&'a Object>,
}

/// An event of a watch, as a client got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// A list is asked for: what is stored from now on may come after it.
    Asked {
        /// Prefix of the keys.
        prefix: String,
    },
    /// A list: what follows is later than this revision.
    Listed {
        /// Prefix of the keys.
        prefix: String,
        /// The list's revision.
        revision: u64,
    },
    /// An object changed.
    Event {
        /// Prefix of the keys.
        prefix: String,
        /// The object's key below the prefix.
        key: String,
        /// Revision of the change.
        revision: u64,
    },
}

/// A container whose process lives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Running {
    /// Namespace of its pod.
    pub namespace: String,
    /// Name of its pod.
    pub pod: String,
    /// UID of its pod.
    pub uid: String,
    /// Its own name.
    pub container: String,
    /// The machine.
    pub machine: String,
}

/// Containers whose processes have begun or ended from one look to the next. A machine that loses its power ends all of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// What lives now.
    pub began: Vec<Running>,
    /// What lives no more.
    pub ended: Vec<Running>,
}

/// One rule.
pub trait Invariant: Send {
    /// Its name, as reports and logs show it.
    fn name(&self) -> &'static str;

    /// The store made a change durable; `seen` is what is there now.
    fn stored(&mut self, _seen: &Seen, _event: &Stored<'_>) -> Verdict {
        Ok(())
    }

    /// A store was opened on a disk.
    fn loaded(&mut self, _loaded: &Loaded) -> Verdict {
        Ok(())
    }

    /// A watching client got something.
    fn watched(&mut self, _event: &Watched) -> Verdict {
        Ok(())
    }

    /// The living containers were looked at: processes have begun and ended since the last time.
    fn running(&mut self, _seen: &Seen, _at: Duration, _changed: &Changed) -> Verdict {
        Ok(())
    }

    /// Every fault has been undone and the bound for recovery has passed.
    fn settled(&mut self, _seen: &Seen) -> Verdict {
        Ok(())
    }
}

/// All rules.
pub static ALL: &[fn() -> Box<dyn Invariant>] = &[
    || Box::new(revisions::Revisions::default()),
    || Box::new(acknowledged_writes::AcknowledgedWrites::default()),
    || Box::new(watches::Watches::default()),
    || Box::new(one_pod_a_name::OnePodAName::default()),
    || Box::new(replicas::Replicas::default()),
    || Box::new(allocatable::Allocatable),
    || Box::new(force_deleted::ForceDeleted::default()),
    || Box::new(convergence::Convergence),
];

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Virtual time.
    pub at: Duration,
    /// Name of the rule.
    pub invariant: &'static str,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s: {}: {}", self.at.as_secs_f64(), self.invariant, self.what)
    }
}

/// Most violations that are kept: the first ones tell the cause.
const KEPT: usize = 100;

/// Asks all rules. Clones share it.
#[derive(Clone)]
pub struct Guard {
    state: Arc<Mutex<State>>,
}

struct State {
    seen: Seen,
    invariants: Vec<Box<dyn Invariant>>,
    violations: Vec<Violation>,
}

impl Default for Guard {
    fn default() -> Self {
        Self::new(ALL.iter().map(|make| make()).collect())
    }
}

impl Guard {
    /// With these rules.
    pub fn new(invariants: Vec<Box<dyn Invariant>>) -> Self {
        let state = State { seen: Seen::default(), invariants, violations: Vec::new() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    /// The store made a change durable.
    pub fn stored(&self, at: Duration, change: &Change) {
        let mut state = self.lock();
        let (old, new) = state.seen.apply(change);
        let event = Stored { at, change, old: old.as_ref(), new: new.as_ref() };
        state.ask(at, |seen, one| one.stored(seen, &event));
    }

    /// A store was opened.
    pub fn loaded(&self, at: Duration, loaded: &Loaded) {
        self.lock().ask(at, |_, one| one.loaded(loaded));
    }

    /// A watching client got something.
    pub fn watched(&self, at: Duration, event: &Watched) {
        self.lock().ask(at, |_, one| one.watched(event));
    }

    /// The living containers were looked at.
    pub fn running(&self, at: Duration, changed: &Changed) {
        self.lock().ask(at, |seen, one| one.running(seen, at, changed));
    }

    /// Faults are undone and the bound has passed.
    pub fn settled(&self, at: Duration) {
        self.lock().ask(at, |seen, one| one.settled(seen));
    }

    /// Whether all is as it should be when nothing is broken any more; else what is not yet.
    pub fn converged(&self) -> Verdict {
        convergence::look(&self.lock().seen)
    }

    /// What was broken, in order; at most a hundred.
    pub fn violations(&self) -> Vec<Violation> {
        self.lock().violations.clone()
    }
}

impl State {
    fn ask(&mut self, at: Duration, question: impl Fn(&Seen, &mut dyn Invariant) -> Verdict) {
        for one in &mut self.invariants {
            if let Err(what) = question(&self.seen, &mut **one)
                && self.violations.len() < KEPT
            {
                self.violations.push(Violation { at, invariant: one.name(), what });
            }
        }
    }
}
