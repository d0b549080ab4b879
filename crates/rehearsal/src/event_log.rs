//! What happened in a virtual cluster, in order: every change that the store made durable, and every act on
//! machines. The same seed and the same input give the same lines, byte for byte.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use daruma_store::embedded::{Backend, BackendError, Batch, Change, Loaded};
use daruma_world::World;

use crate::invariants::Guard;

/// What a store event did to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Nothing was there before.
    Create,
    /// Something else was there before.
    Update,
    /// Nothing is there any more.
    Delete,
}

impl Verb {
    fn of(change: &Change) -> Self {
        match (&change.record, change.replaces) {
            (None, _) => Self::Delete,
            (Some(_), None) => Self::Create,
            (Some(_), Some(_)) => Self::Update,
        }
    }
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// The store made a change durable.
    Stored {
        /// Its revision.
        revision: u64,
        /// What it did.
        verb: Verb,
        /// The key.
        key: Arc<str>,
        /// FNV-1a of the value; 0 where there is none.
        digest: u64,
    },
    /// Somebody outside did something to the machines, or it took effect.
    Act(String),
}

/// When, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Virtual time since the beginning.
    pub at: Duration,
    /// See [`Happening`].
    pub what: Happening,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.at.as_secs(), self.at.subsec_nanos());
        write!(f, "{seconds:>6}.{nanos:09} ")?;
        match &self.what {
            Happening::Stored { revision, verb, key, digest } => {
                let verb = match verb {
                    Verb::Create => "create",
                    Verb::Update => "update",
                    Verb::Delete => "delete",
                };
                write!(f, "store {revision} {verb} {key} {digest:016x}")
            }
            Happening::Act(text) => write!(f, "act {text}"),
        }
    }
}

/// The log of one virtual cluster. Clones share it.
#[derive(Clone, Default)]
pub struct EventLog {
    entries: Arc<Mutex<Vec<Entry>>>,
    keeps_nothing: bool,
}

impl EventLog {
    /// A log that stays empty: a world that goes on for days, or one of thousands of nodes, would fill the memory with it.
    pub fn that_keeps_nothing() -> Self {
        Self { keeps_nothing: true, ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().expect("no panic while held")
    }

    /// Notes an act.
    pub fn act(&self, at: Duration, text: impl Into<String>) {
        if !self.keeps_nothing {
            self.lock().push(Entry { at, what: Happening::Act(text.into()) });
        }
    }

    fn stored(&self, at: Duration, changes: &[Change]) {
        if self.keeps_nothing {
            return;
        }
        self.lock().extend(changes.iter().map(|change| Entry { at, what: stored(change) }));
    }

    /// All entries so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nothing has happened yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All lines, each with its end.
    pub fn text(&self) -> String {
        let entries = self.lock();
        let mut text = String::with_capacity(entries.len() * 100);
        for entry in &*entries {
            text.push_str(&entry.to_string());
            text.push('\n');
        }
        text
    }
}

fn stored(change: &Change) -> Happening {
    let digest = change.record.as_ref().map_or(0, |record| digest(&record.value));
    Happening::Stored { revision: change.revision, verb: Verb::of(change), key: change.key.clone(), digest }
}

/// FNV-1a, taken eight bytes at a time: it must tell two values apart, not withstand anybody.
fn digest(value: &[u8]) -> u64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    let (words, rest) = value.as_chunks::<8>();
    let hash = words.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, word| (hash ^ u64::from_le_bytes(*word)).wrapping_mul(PRIME));
    rest.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// A store's backend whose durable changes are logged, and judged by the invariants, before anybody sees them.
pub struct LoggedBackend {
    backend: Arc<dyn Backend>,
    world: World,
    log: EventLog,
    guard: Option<Guard>,
}

impl LoggedBackend {
    /// Logs what `backend` commits, at the time of `world`.
    pub fn new(backend: Arc<dyn Backend>, world: &World, log: &EventLog, guard: Option<Guard>) -> Self {
        Self { backend, world: world.clone(), log: log.clone(), guard }
    }
}

impl Backend for LoggedBackend {
    fn load(&self) -> Result<Loaded, BackendError> {
        let loaded = self.backend.load()?;
        if let Some(guard) = &self.guard {
            guard.loaded(self.world.monotonic(), &loaded);
        }
        Ok(loaded)
    }

    fn commit(&self, batch: &Batch) -> Result<(), BackendError> {
        self.backend.commit(batch)?;
        let at = self.world.monotonic();
        self.log.stored(at, &batch.changes);
        if let Some(guard) = &self.guard {
            batch.changes.iter().for_each(|change| guard.stored(at, change));
        }
        Ok(())
    }

    fn revision(&self) -> Result<u64, BackendError> {
        self.backend.revision()
    }
}

#[cfg(test)]
mod tests {
    use daruma_store::embedded::{MemoryBackend, Record};

    use super::*;

    #[test]
    fn lines() {
        let text = daruma_sim::run(1, |world| async move {
            let log = EventLog::default();
            let backend = LoggedBackend::new(Arc::new(MemoryBackend::new()), &world, &log, None);
            let record =
                |value: &'static str| Some(Record { value: value.into(), create_revision: 1, mod_revision: 1, lease: None });
            world.sleep(Duration::from_millis(1500)).await;
            log.act(world.monotonic(), "power off worker-1");
            let change = |revision, record, replaces| Change { key: "/a".into(), revision, record, replaces };
            let changes = vec![change(1, record("0123456789"), None), change(2, record("x"), Some(1)), change(3, None, Some(2))];
            backend.commit(&Batch { changes }).expect("memory takes it");
            log.text()
        });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "     1.500000000 act power off worker-1");
        assert!(lines[1].starts_with("     1.500000000 store 1 create /a ") && lines[1].len() == 51, "{}", lines[1]);
        assert!(lines[2].contains(" store 2 update /a "), "{}", lines[2]);
        assert_eq!(lines[3], "     1.500000000 store 3 delete /a 0000000000000000");
    }

    #[test]
    fn where_nobody_reads_it_nothing_is_kept() {
        let log = EventLog::that_keeps_nothing();
        log.act(Duration::ZERO, "power off worker-1");
        let record = Record { value: "a".into(), create_revision: 1, mod_revision: 1, lease: None };
        log.stored(Duration::ZERO, &[Change { revision: 1, key: "/a".into(), record: Some(record), replaces: None }]);
        assert!(log.is_empty() && log.text().is_empty());
    }
}
