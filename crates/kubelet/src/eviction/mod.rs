//! Ends pods before the node runs out of memory, disk or process ids.
//!
//! Source: kubernetes pkg/kubelet/eviction. Decisions are pure (`pressure`, `rank`, `limits`); [`look`] carries them out.

mod limits;
mod pressure;
mod rank;
pub mod threshold;
mod usage;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::Pod;
use daruma_api::quantity::Quantity;
use daruma_api::resources::pod_requests;

pub use limits::has_limits;
pub use pressure::{Condition, Pressure};

use crate::cell::{Forced, PodCell};
use crate::shared::Shared;
use pressure::{Observation, Observations, is_met};
use rank::{Candidate, Used, rank};
use threshold::{Signal, Threshold};

/// How often it is looked (kubernetes pkg/kubelet/kubelet.go, evictionMonitoringPeriod).
pub const PERIOD: Duration = Duration::from_secs(10);
/// How long an ended pod is waited for before the next one is chosen, and how often it is looked for
/// (kubernetes pkg/kubelet/eviction/eviction_manager.go, podCleanupTimeout, podCleanupPollFreq).
const CLEANUP: (Duration, u32) = (Duration::from_secs(1), 30);
/// System critical priority (kubernetes pkg/apis/scheduling/types.go).
const CRITICAL: i32 = 2_000_000_000;
/// Reason of an evicted pod.
pub const REASON: &str = "Evicted";
/// Grace of a pod that has to go at once, in seconds.
const AT_ONCE: i64 = 1;

/// Whether the pod stays whatever the node is short of (kubernetes pkg/kubelet/types/pod_update.go, IsCriticalPod).
pub fn is_critical(pod: &Pod, is_static: bool) -> bool {
    is_static || pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default() >= CRITICAL
}

/// Looks once: measures, sets conditions, ends pods. Gives those that were asked to end.
pub async fn look(shared: &Arc<Shared>) -> Vec<Arc<PodCell>> {
    let config = &shared.config;
    let seen = measure(shared).await;
    let met = {
        let mut pressure = shared.pressure.lock().expect("no panic while held");
        let before = pressure.conditions.clone();
        let met = pressure.observe(&config.eviction, &seen, shared.now(), config.eviction_pressure_transition_period);
        if before != pressure.conditions {
            shared.node_due.notify_one();
        }
        met
    };
    let over_limit = enforce_limits(shared).await;
    if !over_limit.is_empty() {
        return over_limit;
    }
    let Some(first) = met.first() else { return Vec::new() };
    shared.recorder.node_warning("EvictionThresholdMet", format!("Attempting to reclaim {}", first.signal.resource()));
    if first.signal.condition() == Condition::Disk {
        // What the dead hold goes before the living do.
        crate::gc::remove_dead(shared).await;
        crate::gc::remove_unused_images(shared).await;
        let seen = measure(shared).await;
        if !config.eviction.iter().any(|threshold| is_met(threshold, &seen)) {
            return Vec::new();
        }
    }
    evict(shared, first, &met, &seen).await.into_iter().collect()
}

/// Completes when the pods are cleaned up, or after half a minute.
pub async fn wait_for_end(shared: &Shared, pods: &[Arc<PodCell>]) {
    for _ in 0..CLEANUP.1 {
        shared.world.sleep(CLEANUP.0).await;
        if pods.iter().all(|cell| cell.lock().finished) {
            return;
        }
    }
}

async fn measure(shared: &Shared) -> Observations {
    let mut seen = Observations::new();
    let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    if let Ok(load) = shared.hardware.load().await {
        let capacity = shared.facts.memory_bytes;
        let available = Quantity::bytes(whole(capacity.saturating_sub(load.memory_working_set_bytes)));
        seen.insert(Signal::MemoryAvailable, Observation { available, capacity: whole(capacity) });
        if load.tasks_max > 0 {
            let available = Quantity::units(whole(load.tasks_max.saturating_sub(load.tasks)));
            seen.insert(Signal::PidAvailable, Observation { available, capacity: whole(load.tasks_max) });
        }
    }
    let disk = shared.space().await;
    if disk.capacity_bytes > 0 {
        let bytes = Observation { available: Quantity::bytes(whole(disk.available_bytes)), capacity: whole(disk.capacity_bytes) };
        seen.extend([(Signal::NodefsAvailable, bytes), (Signal::ImagefsAvailable, bytes)]);
    }
    if disk.inodes > 0 {
        let inodes = Observation { available: Quantity::units(whole(disk.inodes_free)), capacity: whole(disk.inodes) };
        seen.extend([(Signal::NodefsInodesFree, inodes), (Signal::ImagefsInodesFree, inodes)]);
    }
    seen
}

/// Whether the pod runs and is not ending.
fn is_active(cell: &PodCell) -> bool {
    let state = cell.lock();
    !state.finished && state.grace_seconds.is_none() && state.view.ready_sandbox().is_some()
}

/// Ends the one pod that has to go first.
async fn evict(shared: &Arc<Shared>, first: &Threshold, met: &[Threshold], seen: &Observations) -> Option<Arc<PodCell>> {
    let resource = first.signal.resource();
    let stats = shared.runtime.stats().await.unwrap_or_default();
    let (mut candidates, mut cells) = (Vec::new(), BTreeMap::new());
    for cell in shared.pods.list().into_iter().filter(|cell| is_active(cell)) {
        let pod = cell.pod();
        let Some(spec) = &pod.spec else { continue };
        let used = usage::of(shared, &cell, &pod, &stats, first.signal.condition() == Condition::Disk).await;
        let requests = pod_requests(spec);
        let request = |name: &str| requests.get(name).map_or(0, |request| request.value());
        candidates.push(Candidate {
            uid: cell.uid.clone(),
            priority: spec.priority.unwrap_or_default(),
            critical: is_critical(&pod, cell.is_static()),
            used,
            memory_request: request("memory"),
            disk_request: request("ephemeral-storage"),
        });
        cells.insert(cell.uid.clone(), (cell, pod));
    }
    rank(first.signal, &mut candidates);
    let chosen = candidates.iter().find(|pod| !pod.critical)?;
    let (cell, pod) = cells.remove(&chosen.uid)?;
    let message = message(&pod, resource, met, seen, chosen.used.as_ref());
    let grace = if first.is_hard() {
        AT_ONCE
    } else {
        let own = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(i64::MAX);
        own.min(shared.config.eviction_max_pod_grace_period_seconds)
    };
    end(shared, &cell, &pod, message, true, grace);
    Some(cell)
}

fn end(shared: &Shared, cell: &PodCell, pod: &Pod, message: String, disrupts: bool, grace: i64) {
    shared.recorder.pod_warning(pod, REASON, message.clone());
    cell.force(Forced { reason: REASON.into(), message, disrupts, unless_succeeded: false });
    cell.end(grace);
}

async fn enforce_limits(shared: &Arc<Shared>) -> Vec<Arc<PodCell>> {
    let mut limited = shared.pods.with_disk_limits();
    limited.retain(|cell| is_active(cell));
    if limited.is_empty() {
        return limited;
    }
    let stats = shared.runtime.stats().await.unwrap_or_default();
    let mut ended = Vec::new();
    for cell in limited {
        let pod = cell.pod();
        let (Some(used), Some(spec)) = (usage::of(shared, &cell, &pod, &stats, true).await, &pod.spec) else { continue };
        let Some(message) = limits::exceeded(spec, &used) else { continue };
        if is_critical(&pod, cell.is_static()) {
            continue;
        }
        end(shared, &cell, &pod, message, false, AT_ONCE);
        ended.push(cell);
    }
    ended
}

/// Source: kubernetes pkg/kubelet/eviction/helpers.go (evictionMessage).
fn message(pod: &Pod, resource: &str, met: &[Threshold], seen: &Observations, used: Option<&Used>) -> String {
    let mut text = format!("The node was low on resource: {resource}. ");
    let of_resource = met.iter().filter(|threshold| threshold.signal.resource() == resource);
    if let Some((threshold, seen)) = of_resource.into_iter().find_map(|threshold| Some((threshold, seen.get(&threshold.signal)?)))
    {
        let _ = write!(text, "Threshold quantity: {}, available: {}. ", threshold.amount.of(seen.capacity), seen.available);
    }
    let spec = pod.spec.as_ref();
    for (name, own) in used.into_iter().flat_map(|used| &used.containers) {
        let mut containers =
            spec.into_iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
        let Some(container) = containers.find(|container| container.name == *name) else { continue };
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let request = requests.and_then(|requests| requests.get(resource)).map(Quantity::from_raw).unwrap_or_default();
        let bytes = match resource {
            "memory" => own.memory,
            "ephemeral-storage" => own.disk,
            _ => continue,
        };
        if bytes > request.value() {
            let used = Quantity::bytes(bytes);
            let _ =
                write!(text, "Container {name} was using {used}, request is {request}, has larger consumption of {resource}. ");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::rank::ContainerUse;
    use super::*;
    use crate::testing::pod;

    #[test]
    fn messages() {
        let thresholds = threshold::parse_thresholds(None, "", "").expect("they parse");
        let seen = Observations::from([
            (Signal::MemoryAvailable, Observation { available: Quantity::bytes(50 << 20), capacity: 1 << 30 }),
            (Signal::NodefsInodesFree, Observation { available: Quantity::units(3), capacity: 100 }),
        ]);
        let pod = pod(
            "containers: [{name: a, resources: {requests: {memory: 10Mi}}}, {name: b, resources: {requests: {memory: 9Mi}}}]",
        );
        let own = |memory| ContainerUse { memory, disk: 0 };
        let used = Used {
            containers: BTreeMap::from([("a".to_owned(), own(20 << 20)), ("b".to_owned(), own(9 << 20))]),
            ..Used::default()
        };
        assert_eq!(
            message(&pod, "memory", &thresholds[..1], &seen, Some(&used)),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. \
             Container a was using 20Mi, request is 10Mi, has larger consumption of memory. "
        );
        assert_eq!(
            message(&pod, "inodes", &thresholds[2..3], &seen, Some(&used)),
            "The node was low on resource: inodes. Threshold quantity: 5, available: 3. "
        );
    }
}
