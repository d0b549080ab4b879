//! Whom the kernel ends first when a machine runs out of memory.
//!
//! The order is that of a real node (`pkg/kubelet/qos/policy.go`): containers that ask for nothing (1000), those that ask
//! for little, whatever else holds much memory, containers that are guaranteed theirs or that the node needs (-997), the
//! kubelet (-999), and never PID 1. Scores below 0 need `CAP_SYS_RESOURCE`; without it the same order begins at 0, which
//! PID 1 alone keeps, and `runtime` gives no container less than its own floor.

use std::fs;

const FILE: &str = "/proc/self/oom_score_adj";
/// The kubelet's own (`KubeletOOMScoreAdj`), and what it has where the kernel refuses that.
const COMMAND: [&str; 2] = ["-999", "10"];
/// A process outside of all pods that holds most of a machine's memory: the kernel counts a thousandth of the memory as
/// a point, so a greedy one of score 0 has about as many.
const GREEDY: &str = "900";

/// PID 1 is spared altogether; where that is not to be had, everybody else is worse.
pub(super) fn protect_init() {
    let _ = fs::write(FILE, "-1000");
}

/// The machine's command, and all that inherits its score.
pub(super) fn protect_command() {
    let _ = COMMAND.iter().any(|score| fs::write(FILE, score).is_ok());
}

/// Goes before everything but containers.
pub(super) fn offer() {
    // Raising a score is always allowed.
    let _ = fs::write(FILE, GREEDY);
}
