//! What sandboxes, containers and all of them together use.

use std::time::Duration;

use daruma_world::containers::{ContainerStats, SandboxStats};

use super::records::{ContainerRecord, State, cpu_ns};
use super::{Inner, SimRuntime};

/// What all containers of a machine use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MachineUse {
    /// CPU time used since power-on, in nanoseconds, by those that have ended too.
    pub cpu_ns: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Processes.
    pub tasks: u64,
}

/// What is enough to say what all containers use at any time, for as long as none begins, ends, is paused or changes its
/// ways: a kubelet asks every 10 s, and there is little else to do on a node where nothing happens.
pub(super) struct Steady {
    /// Of [`State::turns`].
    turns: u64,
    memory_bytes: u64,
    /// Of each process: the moment from which its age counts, and thousandths of a core.
    processes: Vec<(Duration, u64)>,
}

impl Steady {
    /// `None` where a program runs, which may do as it likes, or where use of memory changes with time.
    fn of(state: &State) -> Option<Self> {
        let mut steady = Self { turns: state.turns, memory_bytes: 0, processes: Vec::new() };
        for record in state.containers.values().filter(|record| record.is_running()) {
            steady.processes.push(record.steady_cpu()?);
            steady.memory_bytes = steady.memory_bytes.saturating_add(record.memory(Duration::ZERO));
        }
        Some(steady)
    }

    fn at(&self, now: Duration, ended_cpu_ns: u64) -> MachineUse {
        let cpu = self.processes.iter().map(|(zero, millis)| cpu_ns(now.saturating_sub(*zero), *millis));
        MachineUse {
            cpu_ns: cpu.fold(ended_cpu_ns, u64::saturating_add),
            memory_bytes: self.memory_bytes,
            tasks: self.processes.len() as u64,
        }
    }
}

impl SimRuntime {
    /// What all containers use together now.
    pub fn usage(&self) -> MachineUse {
        let now = self.inner.age_clock();
        let mut state = self.inner.state();
        if state.steady.as_ref().is_none_or(|steady| steady.turns != state.turns) {
            state.steady = Steady::of(&state);
        }
        if let Some(steady) = &state.steady {
            return steady.at(now, state.ended_cpu_ns);
        }
        let mut sum = MachineUse { cpu_ns: state.ended_cpu_ns, ..MachineUse::default() };
        for record in state.containers.values().filter(|record| record.is_running()) {
            sum.cpu_ns = sum.cpu_ns.saturating_add(record.cpu_ns(now));
            sum.memory_bytes = sum.memory_bytes.saturating_add(record.memory(now));
            sum.tasks += 1;
        }
        sum
    }
}

impl Inner {
    /// Usage of every running sandbox.
    pub(super) fn statistics(&self) -> Vec<SandboxStats> {
        let (now, at) = (self.age_clock(), self.world().now());
        let state = self.state();
        let of = |record: &ContainerRecord| {
            let memory = record.memory(now);
            ContainerStats {
                container_id: record.container.id.clone(),
                at,
                cpu_ns: record.cpu_ns(now),
                memory_usage_bytes: memory,
                memory_working_set_bytes: memory,
                memory_rss_bytes: memory,
                root_fs_used_bytes: record.layer(now),
                root_fs_inodes_used: 1,
                ..ContainerStats::default()
            }
        };
        let ready = state.sandboxes.iter().filter(|(_, record)| record.sandbox.ready);
        ready.map(|(id, _)| sandbox_statistics(&state, id, of)).collect()
    }
}

fn sandbox_statistics(state: &State, id: &str, of: impl Fn(&ContainerRecord) -> ContainerStats) -> SandboxStats {
    let inside = state.containers.values().filter(|record| record.is_running() && record.container.sandbox_id == id);
    let containers: Vec<ContainerStats> = inside.map(of).collect();
    SandboxStats { sandbox_id: id.to_owned(), tasks: containers.len() as u64, containers, ..SandboxStats::default() }
}
