//! Who has to go first.
//!
//! Source: kubernetes pkg/kubelet/eviction/helpers.go (rankMemoryPressure, rankDiskPressureFunc, rankPIDPressure).
//!
//! Invariant: pure.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::threshold::Signal;

/// What one container uses, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContainerUse {
    /// Working set.
    pub memory: i64,
    /// Writable layer and logs.
    pub disk: i64,
}

/// What a pod uses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Used {
    /// Working set in bytes.
    pub memory: i64,
    /// Writable layers, logs and `emptyDir` volumes on the node's disk, in bytes.
    pub disk: i64,
    /// The same in inodes.
    pub inodes: i64,
    /// Tasks.
    pub tasks: i64,
    /// By container.
    pub containers: BTreeMap<String, ContainerUse>,
    /// Bytes of `emptyDir` volumes, those in memory too.
    pub empty_dirs: BTreeMap<String, i64>,
}

/// What of a pod counts when one is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Candidate {
    /// Its UID.
    pub uid: String,
    /// Its priority.
    pub priority: i32,
    /// Never chosen.
    pub critical: bool,
    /// What it uses; `None` where nobody knows.
    pub used: Option<Used>,
    /// Memory that it asked for, in bytes.
    pub memory_request: i64,
    /// Disk that it asked for, in bytes.
    pub disk_request: i64,
}

/// Orders pods so that the first has to go first: unknown usage, usage above the request, lower priority, the largest usage
/// above the request. For process ids only priority and the number of tasks count.
pub fn rank(signal: Signal, pods: &mut [Candidate]) {
    pods.sort_by(|a, b| compare(signal, a, b).then_with(|| a.uid.cmp(&b.uid)));
}

fn compare(signal: Signal, a: &Candidate, b: &Candidate) -> Ordering {
    let exceeds = |pod: &Candidate| amounts(signal, pod).map(|(used, own, _)| used > own);
    let above = |pod: &Candidate| amounts(signal, pod).map(|(used, _, subtracted)| used - subtracted);
    let priority = a.priority.cmp(&b.priority);
    if signal == Signal::PidAvailable {
        return priority.then_with(|| larger_first(above(a), above(b)));
    }
    larger_first(exceeds(a), exceeds(b)).then(priority).then_with(|| larger_first(above(a), above(b)))
}

/// Unknown ones first.
fn larger_first<T: Ord>(a: Option<T>, b: Option<T>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => b.cmp(&a),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

/// What is used, what that is compared with, and what is taken off it. Nobody asks for inodes, but the request for bytes is
/// taken off them all the same (helpers.go, disk).
fn amounts(signal: Signal, pod: &Candidate) -> Option<(i64, i64, i64)> {
    let used = pod.used.as_ref()?;
    Some(match signal {
        Signal::MemoryAvailable => (used.memory, pod.memory_request, pod.memory_request),
        Signal::NodefsAvailable | Signal::ImagefsAvailable => (used.disk, pod.disk_request, pod.disk_request),
        Signal::NodefsInodesFree | Signal::ImagefsInodesFree => (used.inodes, 0, pod.disk_request),
        Signal::PidAvailable => (used.tasks, 0, 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, priority: i32, used: i64, request: i64) -> Candidate {
        let used = Used { memory: used, disk: used, inodes: used, tasks: used, ..Used::default() };
        Candidate {
            uid: uid.into(),
            priority,
            used: Some(used),
            memory_request: request,
            disk_request: request,
            ..Candidate::default()
        }
    }

    #[track_caller]
    fn check(signal: Signal, mut pods: Vec<Candidate>, expected: &str) {
        rank(signal, &mut pods);
        let order: Vec<&str> = pods.iter().map(|pod| pod.uid.as_str()).collect();
        assert_eq!(order.join(" "), expected, "{}", signal.as_str());
    }

    #[test]
    fn memory() {
        // A class of low priority goes before one of high priority, if both use more than they asked for.
        let pods = vec![
            pod("modest", 0, 50, 100),
            pod("important", 1_000_000, 900, 10),
            pod("small", 0, 60, 50),
            pod("large", 0, 300, 50),
            pod("below-zero", -5, 55, 50),
            Candidate { uid: "unknown".into(), priority: 2_000, ..Candidate::default() },
        ];
        check(Signal::MemoryAvailable, pods.clone(), "unknown below-zero large small important modest");
        check(Signal::NodefsAvailable, pods.clone(), "unknown below-zero large small important modest");
    }

    #[test]
    fn inodes_and_process_ids() {
        let pods = vec![pod("a", 0, 50, 100), pod("b", 0, 70, 0), pod("c", 9, 500, 0), pod("idle", 0, 0, 0)];
        check(Signal::NodefsInodesFree, pods.clone(), "b a c idle");
        check(Signal::PidAvailable, pods, "b a idle c");
    }
}
