//! What sandboxes, containers and all of them together use.

use daruma_world::containers::{ContainerStats, SandboxStats};

use super::records::{ContainerRecord, State};
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

impl SimRuntime {
    /// What all containers use together now.
    pub fn usage(&self) -> MachineUse {
        let now = self.inner.age_clock();
        let state = self.inner.state();
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
