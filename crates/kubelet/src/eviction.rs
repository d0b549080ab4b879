//! Ends pods before the node runs out of memory or disk.
//!
//! Source: kubernetes pkg/kubelet/eviction (hard thresholds memory.available, nodefs.available, nodefs.inodesFree).

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::{Pod, PodCondition};
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::Time;
use daruma_api::quantity::Quantity;
use daruma_api::resources::pod_requests;
use jiff::Timestamp;

use crate::backoff::between;
use crate::cell::PodCell;
use crate::shared::Shared;

/// How often it is looked (kubernetes pkg/kubelet/kubelet.go, evictionMonitoringPeriod).
const PERIOD: Duration = Duration::from_secs(10);
/// System critical priority.
const CRITICAL: i32 = 2_000_000_000;

/// Pressure conditions, held for a while after the last time they were met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Short of memory.
    pub memory: bool,
    /// Short of disk.
    pub disk: bool,
    /// Short of process ids.
    pub pid: bool,
    memory_met: Option<Timestamp>,
    disk_met: Option<Timestamp>,
}

impl Pressure {
    /// Takes what was seen now.
    pub fn observe(&mut self, memory: bool, disk: bool, now: Timestamp, held: Duration) {
        for (met, last, condition) in
            [(memory, &mut self.memory_met, &mut self.memory), (disk, &mut self.disk_met, &mut self.disk)]
        {
            if met {
                *last = Some(now);
            }
            *condition = last.is_some_and(|last| met || between(last, now) < held);
        }
    }
}

/// What of a pod counts when one is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its UID.
    pub uid: String,
    /// Its priority.
    pub priority: i32,
    /// What it uses, in bytes.
    pub usage: i64,
    /// What it asked for, in bytes.
    pub request: i64,
    /// Never chosen.
    pub critical: bool,
}

/// Chooses the pod to be ended: first those above their request, then lower priority, then the one furthest above.
pub fn choose(candidates: &[Candidate]) -> Option<&Candidate> {
    candidates
        .iter()
        .filter(|pod| !pod.critical)
        .min_by_key(|pod| (pod.usage <= pod.request, pod.priority, std::cmp::Reverse(pod.usage - pod.request), pod.uid.clone()))
}

/// Looks for as long as the kubelet lives.
pub async fn run(shared: Arc<Shared>) {
    loop {
        let now = shared.now();
        let config = &shared.config;
        let memory_available =
            shared.hardware.load().await.ok().map(|load| shared.facts.memory_bytes.saturating_sub(load.memory_working_set_bytes));
        let mut disk = shared.world.disk.usage(&config.root_dir).await.unwrap_or_default();
        let memory_low = memory_available.is_some_and(|available| available < config.eviction_memory_available_bytes);
        let part = |free: u64, all: u64| free as f64 / all.max(1) as f64;
        let disk_known = disk.capacity_bytes > 0;
        let bytes_low = disk_known && part(disk.available_bytes, disk.capacity_bytes) < config.eviction_nodefs_available;
        let inodes_low = disk.inodes > 0 && part(disk.inodes_free, disk.inodes) < config.eviction_nodefs_inodes_free;
        let changed = {
            let mut pressure = shared.pressure.lock().expect("no panic while held");
            let before = pressure.clone();
            pressure.observe(memory_low, bytes_low || inodes_low, now, config.eviction_pressure_transition_period);
            (before.memory, before.disk) != (pressure.memory, pressure.disk)
        };
        if changed {
            shared.node_changed.notify_one();
        }
        if memory_low {
            let threshold = Quantity::bytes(config.eviction_memory_available_bytes as i64);
            let available = Quantity::bytes(memory_available.unwrap_or_default() as i64);
            evict(&shared, "memory", &threshold.to_string(), &available.to_string()).await;
        } else if bytes_low {
            // What the dead hold goes before the living do.
            crate::gc::remove_dead(&shared).await;
            disk = shared.world.disk.usage(&config.root_dir).await.unwrap_or(disk);
        }
        enforce_limits(&shared).await;
        if !memory_low && bytes_low && part(disk.available_bytes, disk.capacity_bytes) < config.eviction_nodefs_available {
            let threshold = Quantity::bytes((disk.capacity_bytes as f64 * config.eviction_nodefs_available) as i64);
            evict(
                &shared,
                "ephemeral-storage",
                &threshold.to_string(),
                &Quantity::bytes(disk.available_bytes as i64).to_string(),
            )
            .await;
        }
        shared.world.sleep(PERIOD).await;
    }
}

async fn evict(shared: &Arc<Shared>, resource: &str, threshold: &str, available: &str) {
    shared.recorder.node_warning("EvictionThresholdMet", format!("Attempting to reclaim {resource}"));
    let stats = shared.runtime.stats().await.unwrap_or_default();
    let mut candidates = Vec::new();
    let mut containers_of = std::collections::BTreeMap::new();
    for cell in shared.pods.list() {
        let on_disk = if resource == "memory" { 0 } else { volumes_and_logs(shared, &cell).await };
        let state = cell.lock();
        if state.finished || state.grace_seconds.is_some() {
            continue;
        }
        let Some(sandbox) = state.view.ready_sandbox() else { continue };
        let Some(spec) = &state.pod.spec else { continue };
        let used = stats.iter().find(|one| one.sandbox_id == sandbox.id);
        let of = |one: &daruma_world::containers::ContainerStats| {
            (if resource == "memory" { one.memory_working_set_bytes } else { one.root_fs_used_bytes }) as i64
        };
        let each: Vec<(String, i64)> = used
            .into_iter()
            .flat_map(|used| &used.containers)
            .filter_map(|one| Some((state.view.by_id(&one.container_id)?.config.name.clone(), of(one))))
            .collect();
        candidates.push(Candidate {
            uid: cell.uid.clone(),
            priority: spec.priority.unwrap_or_default(),
            usage: each.iter().map(|(_, bytes)| bytes).sum::<i64>().saturating_add(on_disk),
            request: pod_requests(spec).get(resource).map_or(0, |request| request.value()),
            critical: cell.is_static() || spec.priority.unwrap_or_default() >= CRITICAL,
        });
        containers_of.insert(cell.uid.clone(), each);
    }
    let Some(chosen) = choose(&candidates) else { return };
    let Some(cell) = shared.pods.get(&chosen.uid) else { return };
    let pod = cell.pod();
    let each = containers_of.remove(&chosen.uid).unwrap_or_default();
    let message = message(&pod, resource, threshold, available, &each);
    shared.recorder.pod_warning(&pod, "Evicted", message.clone());
    mark(&cell, &message, shared.now());
    cell.end(1);
}

/// Ends pods that hold more of the node's disk than their limits allow
/// (kubernetes pkg/kubelet/eviction/eviction_manager.go, localStorageEviction).
async fn enforce_limits(shared: &Arc<Shared>) {
    let mut stats = None;
    for cell in shared.pods.list() {
        let pod = cell.pod();
        let Some(spec) = &pod.spec else { continue };
        let busy = {
            let state = cell.lock();
            state.finished || state.grace_seconds.is_some()
        };
        if busy {
            continue;
        }
        let mut problem = None;
        let empty_dirs = shared.config.pod_dir(&cell.uid).join("volumes/kubernetes.io~empty-dir");
        for volume in spec.volumes.iter().flatten() {
            let Some(limit) = volume.empty_dir.as_ref().and_then(|source| source.size_limit.as_ref()) else { continue };
            let limit = Quantity::from_raw(limit);
            let used = shared.world.disk.tree_usage(&empty_dirs.join(&volume.name)).await.map_or(0, |(bytes, _)| bytes);
            if limit.value() > 0 && i64::try_from(used).unwrap_or(i64::MAX) > limit.value() {
                problem.get_or_insert(format!(
                    "Usage of EmptyDir volume {:?} exceeds the limit {:?}. ",
                    volume.name,
                    limit.to_string()
                ));
            }
        }
        for container in &spec.containers {
            let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
            let Some(limit) = limits.and_then(|limits| limits.get("ephemeral-storage")).map(Quantity::from_raw) else { continue };
            if problem.is_some() {
                break;
            }
            if stats.is_none() {
                stats = Some(shared.runtime.stats().await.unwrap_or_default());
            }
            let used = stats.iter().flatten().flat_map(|sandbox| &sandbox.containers).find(|one| {
                let state = cell.lock();
                state.view.by_id(&one.container_id).is_some_and(|seen| seen.config.name == container.name)
            });
            if used.is_some_and(|used| used.root_fs_used_bytes as i64 > limit.value()) {
                let limit = limit.to_string();
                problem = Some(format!("Container {} exceeded its local ephemeral storage limit {limit:?}. ", container.name));
            }
        }
        if let Some(message) = problem {
            shared.recorder.pod_warning(&pod, "Evicted", message.clone());
            mark(&cell, &message, shared.now());
            cell.end(1);
        }
    }
}

/// Bytes on the node's disk of a pod's `emptyDir` volumes and logs.
async fn volumes_and_logs(shared: &Shared, cell: &PodCell) -> i64 {
    let pod = cell.pod();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let on_disk = volumes
        .filter(|volume| volume.empty_dir.as_ref().is_some_and(|source| source.medium.as_deref().unwrap_or_default().is_empty()));
    let empty_dirs = shared.config.pod_dir(&cell.uid).join("volumes/kubernetes.io~empty-dir");
    let mut places: Vec<_> = on_disk.map(|volume| empty_dirs.join(&volume.name)).collect();
    places.push(shared.config.pod_log_dir(pod.namespace(), pod.name(), &cell.uid));
    let mut bytes = 0;
    for place in places {
        bytes += shared.world.disk.tree_usage(&place).await.map_or(0, |(bytes, _)| bytes);
    }
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Phase, reason and the disruption condition of an evicted pod.
fn mark(cell: &PodCell, message: &str, now: Timestamp) {
    let mut state = cell.lock();
    let generation = state.pod.metadata.generation;
    state.forced = Some(("Evicted".into(), message.to_owned()));
    let status = state.status.get_or_insert_default();
    status.conditions.get_or_insert_default().push(PodCondition {
        type_: "DisruptionTarget".into(),
        status: "True".into(),
        reason: Some("TerminationByKubelet".into()),
        message: Some(message.to_owned()),
        observed_generation: generation,
        last_transition_time: Some(Time(crate::status::to_seconds(now))),
        ..PodCondition::default()
    });
}

fn message(pod: &Pod, resource: &str, threshold: &str, available: &str, each: &[(String, i64)]) -> String {
    let mut text = format!("The node was low on resource: {resource}. Threshold quantity: {threshold}, available: {available}. ");
    for (name, bytes) in each {
        let container = pod.spec.iter().flat_map(|spec| &spec.containers).find(|container| container.name == *name);
        let requests =
            container.and_then(|container| container.resources.as_ref()).and_then(|resources| resources.requests.as_ref());
        let request = requests.and_then(|requests| requests.get(resource)).map(Quantity::from_raw).unwrap_or_default();
        if *bytes > request.value() {
            let used = Quantity::bytes(*bytes);
            let _ =
                write!(text, "Container {name} was using {used}, request is {request}, has larger consumption of {resource}. ");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn conditions_are_held() {
        let mut pressure = Pressure::default();
        let held = Duration::from_secs(300);
        pressure.observe(true, false, at(0), held);
        assert!(pressure.memory && !pressure.disk);
        pressure.observe(false, false, at(299), held);
        assert!(pressure.memory);
        pressure.observe(false, false, at(300), held);
        assert!(!pressure.memory);
    }

    #[test]
    fn choice() {
        let pod =
            |uid: &str, priority, usage, request, critical| Candidate { uid: uid.into(), priority, usage, request, critical };
        let list =
            [pod("a", 0, 50, 100, false), pod("b", 5, 90, 10, false), pod("c", 0, 60, 50, false), pod("d", 0, 999, 0, true)];
        assert_eq!(choose(&list).map(|pod| pod.uid.as_str()), Some("c"));
        assert_eq!(choose(&list[..2]).map(|pod| pod.uid.as_str()), Some("b"));
        assert_eq!(choose(&list[3..]), None);
    }
}
