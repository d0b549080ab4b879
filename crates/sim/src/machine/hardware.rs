//! The machine as its operating system describes it.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use daruma_world::hardware::{Facts, Hardware, Load};
use daruma_world::machines::{Pressure, PressureId};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::Hull;
use super::hull::uuid;
use crate::containers::Strain;
use crate::scope::{Scope, ScopeInner};

/// Memory of the operating system itself, in bytes.
const SYSTEM_MEMORY_BYTES: u64 = 64 << 20;
/// CPU time of the operating system itself, in thousandths of a core.
const SYSTEM_CPU_MILLIS: u64 = 5;
/// Most processes and threads: Linux `pid_max` on small machines.
const TASKS_MAX: u64 = 32_768;
/// Processes of the operating system itself.
const SYSTEM_TASKS: u64 = 40;

/// Facts and load of one power-on.
pub(super) struct VirtualHardware {
    hull: Weak<Hull>,
    scope: Arc<ScopeInner>,
    facts: Facts,
    since_ns: u64,
    pressures: Mutex<Pressures>,
}

#[derive(Default)]
struct Pressures {
    active: BTreeMap<PressureId, Active>,
    /// CPU time of processes that have ended, in nanoseconds.
    past_cpu_ns: u64,
}

/// A pressure under way.
#[derive(Clone, Copy)]
struct Active {
    since_ns: u64,
    pressure: Pressure,
    /// Processes that it has started.
    tasks: u64,
}

impl Active {
    fn memory_bytes(&self) -> u64 {
        if let Pressure::Memory { bytes } = self.pressure { bytes } else { 0 }
    }

    fn spinning(&self) -> u64 {
        if let Pressure::Cpu { processes } = self.pressure { u64::from(processes) } else { 0 }
    }
}

impl VirtualHardware {
    pub(super) fn new(hull: &Arc<Hull>, scope: &Scope, boot_id: &str) -> Self {
        let facts = Facts {
            hostname: hull.spec.name.clone(),
            machine_id: format!("{:032x}", hull.identity("machine", 0)),
            system_uuid: uuid(hull.identity("system", 0)),
            boot_id: boot_id.to_owned(),
            kernel_version: "6.12.0-virtual".into(),
            os_image: "daruma virtual machine".into(),
            architecture: "amd64".into(),
            cpu_millis: hull.spec.cpu_millis,
            memory_bytes: hull.spec.memory_bytes,
            addresses: vec![hull.spec.address.into()],
        };
        let since_ns = hull.core.now_ns();
        Self { hull: Arc::downgrade(hull), scope: scope.inner.clone(), facts, since_ns, pressures: Mutex::default() }
    }

    fn pressures(&self) -> MutexGuard<'_, Pressures> {
        self.pressures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn press(&self, id: PressureId, pressure: Pressure) {
        let since_ns = self.scope.core.now_ns();
        let containers = self.hull.upgrade().map_or(0, |hull| hull.engine().usage().tasks);
        {
            let mut pressures = self.pressures();
            let others: u64 = SYSTEM_TASKS + containers + pressures.active.values().map(|active| active.tasks).sum::<u64>();
            let tasks = match pressure {
                Pressure::Cpu { processes } => u64::from(processes),
                Pressure::Pids { leave } => TASKS_MAX.saturating_sub(others + leave),
                _ => 0,
            };
            pressures.active.insert(id, Active { since_ns, pressure, tasks });
        }
        self.tell_engine();
    }

    /// What others use is not there for containers.
    fn tell_engine(&self) {
        let (memory, tasks, spinning) = {
            let pressures = self.pressures();
            let sum = |of: fn(&Active) -> u64| pressures.active.values().map(of).sum::<u64>();
            (sum(Active::memory_bytes), sum(|active| active.tasks), sum(Active::spinning))
        };
        // One process beside those that spin gets its share of the CPUs, one of them at most.
        let percent = (spinning + 1) * 100_000 / self.facts.cpu_millis.max(1);
        if let Some(hull) = self.hull.upgrade() {
            hull.engine().set_strain(Strain {
                memory_bytes: memory + self.system_memory(),
                tasks_free: TASKS_MAX.saturating_sub(SYSTEM_TASKS + tasks),
                slowness_percent: if spinning == 0 { 100 } else { u32::try_from(percent).unwrap_or(u32::MAX).max(100) },
            });
        }
    }

    /// Whether one more process can be started.
    pub(super) fn can_fork(&self) -> bool {
        let held: u64 = self.pressures().active.values().map(|active| active.tasks).sum();
        if held == 0 {
            return true;
        }
        let containers = self.hull.upgrade().map_or(0, |hull| hull.engine().usage().tasks);
        SYSTEM_TASKS + containers + held < TASKS_MAX
    }

    fn system_memory(&self) -> u64 {
        SYSTEM_MEMORY_BYTES.min(self.facts.memory_bytes / 8)
    }

    pub(super) fn release(&self, id: PressureId) {
        let now = self.scope.core.now_ns();
        {
            let mut pressures = self.pressures();
            let Some(active) = pressures.active.remove(&id) else { return };
            pressures.past_cpu_ns += self.cpu_of(active.since_ns, now, active.pressure);
        }
        self.tell_engine();
    }

    pub(super) fn release_all(&self) {
        self.pressures().active.clear();
    }

    /// CPU time that a pressure has used, in nanoseconds: at most what the machine has.
    fn cpu_of(&self, since: u64, now: u64, pressure: Pressure) -> u64 {
        match pressure {
            Pressure::Cpu { processes } => (now - since) / 1000 * (u64::from(processes) * 1000).min(self.facts.cpu_millis),
            _ => 0,
        }
    }
}

impl Hardware for VirtualHardware {
    fn facts(&self) -> Facts {
        self.facts.clone()
    }

    fn load(&self) -> BoxFuture<'static, io::Result<Load>> {
        let Some(hull) = self.hull.upgrade().filter(|_| !self.scope.is_dead()) else {
            return std::future::pending().boxed();
        };
        let now = self.scope.core.now_ns();
        let uptime_ns = now - self.since_ns;
        let mut load = Load {
            cpu_ns: uptime_ns / 1000 * SYSTEM_CPU_MILLIS,
            memory_working_set_bytes: self.system_memory(),
            network_rx_bytes: hull.place.rx_bytes.load(Ordering::Relaxed),
            network_tx_bytes: hull.place.tx_bytes.load(Ordering::Relaxed),
            tasks: SYSTEM_TASKS,
            tasks_max: TASKS_MAX,
            ..Load::default()
        };
        {
            let pressures = self.pressures();
            load.cpu_ns += pressures.past_cpu_ns;
            for active in pressures.active.values() {
                load.cpu_ns += self.cpu_of(active.since_ns, now, active.pressure);
                load.memory_working_set_bytes += active.memory_bytes();
                load.tasks += active.tasks;
            }
        }
        let used = hull.engine().usage();
        load.cpu_ns += used.cpu_ns;
        load.memory_working_set_bytes += used.memory_bytes;
        load.memory_rss_bytes = load.memory_working_set_bytes;
        load.memory_usage_bytes = load.memory_working_set_bytes;
        load.tasks = (load.tasks + used.tasks).min(load.tasks_max);
        std::future::ready(Ok(load)).boxed()
    }
}
