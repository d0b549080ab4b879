//! What others than containers use of a machine, and what containers feel of it.
//!
//! CPU time is shared fairly: beside so many spinning processes everything takes so many times as long (Linux'
//! scheduler, all weights equal). Only what takes time at all in this world is slowed: engine, commands, answers, start-up.

use std::time::Duration;

use daruma_world::containers::{ContainerError, Result};

use super::{Inner, SimRuntime};

/// CPU work of an answer on a port; only a machine without CPU time to spare shows it.
const ANSWER_WORK: Duration = Duration::from_millis(2);
/// The same of a command in a container: runc enters it with a few processes.
const EXEC_WORK: Duration = Duration::from_millis(30);
/// What runc starts as a container's process: itself, from a sealed copy.
pub(super) const RUNC: &str = "/proc/self/fd/6";
/// As usual, in percent.
const USUAL: u32 = 100;

/// What others use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strain {
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Processes that could be started if no container had one.
    pub tasks_free: u64,
    /// How long things take, in percent of the usual.
    pub slowness_percent: u32,
}

impl Default for Strain {
    fn default() -> Self {
        Self { memory_bytes: 0, tasks_free: u64::MAX, slowness_percent: USUAL }
    }
}

impl SimRuntime {
    /// Says what of the machine others than containers use. Where their memory is too much, the kernel kills
    /// containers, as its out-of-memory killer chooses them.
    pub fn set_strain(&self, strain: Strain) {
        self.inner.state().strain = strain;
        self.inner.relieve_machine();
    }
}

impl Inner {
    /// Starts a process: `what` is run by `program`.
    ///
    /// # Errors
    /// The machine has no process id left; the kernel's fork fails with EAGAIN.
    pub(super) fn fork(&self, what: &str, program: &str) -> std::result::Result<(), String> {
        let state = self.state();
        let running = state.containers.values().filter(|record| record.is_running()).count() as u64;
        if running < state.strain.tasks_free {
            return Ok(());
        }
        Err(format!("{what}: fork/exec {program}: resource temporarily unavailable: unknown"))
    }

    /// A sandbox's own process: containerd's shim.
    pub(super) fn fork_sandbox(&self) -> Result<()> {
        self.fork(
            "rpc error: code = Unknown desc = failed to create containerd task: failed to start shim: start failed: ",
            "/usr/bin/containerd-shim-runc-v2",
        )
        .map_err(ContainerError::Other)
    }

    /// What takes `time` at other times takes so long now.
    pub(super) fn slowed(&self, time: Duration) -> Duration {
        slow(time, self.state().strain.slowness_percent)
    }

    /// The time before an answer on a port.
    pub(super) fn answer_time(&self, time: Duration) -> Duration {
        self.with_work(time, ANSWER_WORK)
    }

    /// The time that a command takes.
    pub(super) fn exec_time(&self, time: Duration) -> Duration {
        self.with_work(time, EXEC_WORK)
    }

    fn with_work(&self, time: Duration, work: Duration) -> Duration {
        let percent = self.state().strain.slowness_percent;
        if percent <= USUAL { time } else { slow(time + work, percent) }
    }
}

pub(super) fn slow(time: Duration, percent: u32) -> Duration {
    if percent <= USUAL { time } else { time.saturating_mul(percent) / USUAL }
}
