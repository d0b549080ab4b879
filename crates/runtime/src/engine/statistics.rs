//! What pods and containers use.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use daruma_world::containers::{ContainerStats, SandboxStats};

use super::Inner;
use super::state::{ContainerRecord, SandboxRecord};

/// A writable layer is measured at most this often.
const LAYER_USAGE_AGE: Duration = Duration::from_secs(10);

impl Inner {
    /// Usage of every running sandbox. Blocks.
    pub(super) fn statistics(&self) -> Vec<SandboxStats> {
        let (sandboxes, containers): (Vec<SandboxRecord>, Vec<ContainerRecord>) = {
            let state = self.state();
            let running = state.containers.values().filter(|container| container.is_running()).cloned().collect();
            (state.sandboxes.values().filter(|sandbox| sandbox.ready).cloned().collect(), running)
        };
        sandboxes
            .iter()
            .map(|sandbox| {
                let (rx, tx) = if sandbox.config.shared.network { (0, 0) } else { self.network_counters(&sandbox.id) };
                SandboxStats {
                    sandbox_id: sandbox.id.clone(),
                    network_rx_bytes: rx,
                    network_tx_bytes: tx,
                    tasks: self.cgroups.tasks(&sandbox.config.cgroup_parent),
                    containers: containers
                        .iter()
                        .filter(|container| container.sandbox_id == sandbox.id)
                        .filter_map(|container| self.container_statistics(sandbox, container))
                        .collect(),
                }
            })
            .collect()
    }

    fn container_statistics(&self, sandbox: &SandboxRecord, container: &ContainerRecord) -> Option<ContainerStats> {
        // A container that has just ended has no usage.
        let usage = self.cgroups.usage(&Self::cgroup(&sandbox.config.cgroup_parent, &container.id)).ok()?;
        let (bytes, inodes) = self.layer_usage(&container.id);
        Some(ContainerStats {
            container_id: container.id.clone(),
            at: self.world.now(),
            cpu_ns: usage.cpu_ns,
            memory_usage_bytes: usage.memory,
            memory_working_set_bytes: usage.memory.saturating_sub(usage.inactive_file),
            memory_rss_bytes: usage.rss,
            page_faults: usage.faults,
            major_page_faults: usage.major_faults,
            root_fs_used_bytes: bytes,
            root_fs_inodes_used: inodes,
        })
    }

    fn layer_usage(&self, id: &str) -> (u64, u64) {
        let now = self.world.monotonic();
        let known = self.layer_usage.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(id).copied();
        if let Some((at, bytes, inodes)) = known
            && now.saturating_sub(at) < LAYER_USAGE_AGE
        {
            return (bytes, inodes);
        }
        let (bytes, inodes) = tree_usage(&self.container_dir(id).join("upper"));
        self.layer_usage.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(id.to_owned(), (now, bytes, inodes));
        (bytes, inodes)
    }

    /// Bytes received and sent on the pod's cards, loopback aside, as the shim's `/proc` shows them.
    fn network_counters(&self, sandbox_id: &str) -> (u64, u64) {
        let pid = fs::read_to_string(self.shim_dir(sandbox_id).join(crate::shim::PID)).unwrap_or_default();
        let table = fs::read_to_string(format!("/proc/{}/net/dev", pid.trim())).unwrap_or_default();
        counters(&table)
    }
}

fn counters(table: &str) -> (u64, u64) {
    let mut sum = (0, 0);
    for line in table.lines().skip(2) {
        let Some((name, numbers)) = line.split_once(':') else { continue };
        if name.trim() == "lo" {
            continue;
        }
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        sum.0 += numbers.first().copied().unwrap_or(0);
        sum.1 += numbers.get(8).copied().unwrap_or(0);
    }
    sum
}

/// Bytes and inodes below a directory, as `du` counts them.
fn tree_usage(directory: &Path) -> (u64, u64) {
    let (mut bytes, mut inodes) = (0, 0);
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(facts) = entry.metadata() else { continue };
            bytes += facts.blocks() * 512;
            inodes += 1;
            if facts.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    (bytes, inodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn net_dev() {
        let table = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n\
                     lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n  eth0: 100 2 0 0 0 0 0 0 70 1 0 0 0 0 0 0\n";
        assert_eq!(counters(table), (100, 70));
    }
}
