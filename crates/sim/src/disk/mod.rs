//! A machine's disk: files in memory, what a power cut takes back, what fills it and what slows it down.

mod calls;
mod files;
mod node;
mod past;
mod stores;
mod walk;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daruma_world::disk::{Usage, WriteOptions};

use crate::random::SplitMix;
use files::Files;
use past::{Durable, Past};
use stores::Stores;

/// Shortest time of a durable write on a machine: a solid-state disk's flush.
const FLUSH: Duration = Duration::from_micros(300);
/// By how much it varies.
const FLUSH_JITTER_NS: u64 = 700_000;

/// What one pressure does to a disk.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Burden {
    /// Uses bytes and inodes.
    Fill(u64, u64),
    /// Every durable write takes so much longer.
    Slow(Duration),
}

/// The disk of one machine, or of the outside. It survives the machine's power.
pub(crate) struct SimDisk {
    /// Outside, writes take no time.
    takes_time: bool,
    state: Mutex<State>,
}

struct State {
    files: Files,
    past: Past,
    chance: SplitMix,
    burdens: BTreeMap<u64, Burden>,
    stores: Stores,
    /// What blocking work that is going on has to wait for the disk, once it is through.
    blocked: Duration,
    /// How often something may have changed.
    changes: u64,
}

impl SimDisk {
    pub(crate) fn new(capacity: u64, seed: u64, takes_time: bool, now: jiff::Timestamp) -> Self {
        let state = State {
            files: Files::new(capacity, now),
            past: Past::default(),
            chance: SplitMix::new(seed),
            burdens: BTreeMap::new(),
            stores: Stores::new(),
            blocked: Duration::ZERO,
            changes: 0,
        };
        Self { takes_time, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a durable write takes now.
    pub(crate) fn flush_time(&self) -> Duration {
        if !self.takes_time {
            return Duration::ZERO;
        }
        let mut state = self.state();
        let jitter = Duration::from_nanos(state.chance.below(FLUSH_JITTER_NS));
        let slow: Duration =
            state.burdens.values().map(|burden| if let Burden::Slow(delay) = burden { *delay } else { Duration::ZERO }).sum();
        FLUSH + jitter + slow
    }

    /// How long the blocking work that has just been done has to wait.
    pub(crate) fn take_blocked(&self) -> Duration {
        std::mem::take(&mut self.state().blocked)
    }

    /// A number that grows with every change: what was read at the same number is what is there still.
    pub(crate) fn changes(&self) -> u64 {
        self.state().changes
    }

    fn change<T>(&self, now_ns: u64, work: impl FnOnce(&mut Files) -> io::Result<T>) -> io::Result<T> {
        let mut guard = self.state();
        let state = &mut *guard;
        state.changes += 1;
        if self.takes_time {
            state.past.remember(now_ns, state.files.disk_top());
        }
        work(&mut state.files)
    }

    fn write(&self, path: &Path, content: Vec<u8>, options: WriteOptions, now_ns: u64, now: jiff::Timestamp) -> io::Result<()> {
        let (system, way, node) = self.change(now_ns, |files| files.write(path, content, options.mode, now))?;
        if options.durable && system == 0 && self.takes_time {
            self.state().past.remember_durable(Durable { at_ns: now_ns, way, node });
        }
        Ok(())
    }

    /// Makes directories and a mount for what every Linux machine has.
    pub(crate) fn lay_out(&self, now_ns: u64, now: jiff::Timestamp) {
        let made = self.change(now_ns, |files| {
            for directory in ["/etc", "/run", "/tmp", "/var/lib", "/var/log"] {
                files.create_dir_all(Path::new(directory), 0o755, now)?;
            }
            files.mount(Path::new("/run"), None, now)
        });
        if let Err(error) = made {
            // A full disk keeps what it had; /run may be missing then, as on a real one.
            debug_assert!(error.kind() == io::ErrorKind::StorageFull, "{error}");
        }
    }

    /// The power is gone: memory is empty, and some of what was not synced is lost; see [`past`].
    pub(crate) fn power_cut(&self, now_ns: u64, torn: bool) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.blocked = Duration::ZERO;
        state.changes += 1;
        state.cut_stores(now_ns, torn);
        let (top, durable) = state.past.cut(now_ns, state.files.disk_top(), &mut state.chance);
        let now = durable.last().map(|write| write.node.modified);
        state.files.restart(top);
        for Durable { way, node, .. } in durable {
            // What cannot be put back was under something that is a file again; fsck would say so.
            if state.files.create_dir_all(&way.above(), 0o755, now.unwrap_or(node.modified)).is_ok() {
                state.files.put(0, &way, node);
            }
        }
        state.fill();
    }

    /// The power is off after everything was synced.
    pub(crate) fn power_down(&self) {
        let mut state = self.state();
        state.past.clear();
        state.blocked = Duration::ZERO;
        state.changes += 1;
        state.settle_stores();
        let top = state.files.disk_top().clone();
        state.files.restart(top);
    }

    /// Space of the disk itself.
    pub(crate) fn usage(&self) -> Usage {
        self.state().usage()
    }

    pub(crate) fn press(&self, id: u64, burden: Burden) {
        let mut state = self.state();
        state.burdens.insert(id, burden);
        state.fill();
    }

    /// Ends all burdens but these and what the container engine keeps.
    pub(crate) fn retain_burdens(&self, kept: &[u64]) {
        let mut state = self.state();
        state.burdens.retain(|id, _| kept.contains(id) || *id == u64::MAX);
        state.fill();
    }

    pub(crate) fn release(&self, id: u64) {
        let mut state = self.state();
        state.burdens.remove(&id);
        state.fill();
    }
}

impl State {
    fn usage(&self) -> Usage {
        self.files.usage(Path::new("/")).unwrap_or_default()
    }

    /// Counts what is on the disk beside files.
    fn fill(&mut self) {
        let fill = |burden: &Burden| if let Burden::Fill(bytes, inodes) = burden { (*bytes, *inodes) } else { (0, 0) };
        let stores = (self.store_bytes(), self.stores.len() as u64);
        let filler = self.burdens.values().map(fill).fold(stores, |sum, one| (sum.0 + one.0, sum.1 + one.1));
        if filler != self.files.filler {
            self.files.filler = filler;
            self.changes += 1;
        }
    }
}
