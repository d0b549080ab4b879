//! Which pods a DaemonSet creates and deletes, and what its status says.
//!
//! Source: kubernetes pkg/controller/daemon (daemon_controller.go, update.go).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daruma_api::apps::v1::{DaemonSet, DaemonSetStatus};
use daruma_api::core::v1::{Node, Pod};
use daruma_api::meta::ObjectExt;
use daruma_client::events::EventType;
use jiff::Timestamp;

use super::nodes::{fit, is_updated, target_node};
use crate::pods::{self, nonzero, since};
use crate::rollout_counts::scaled;

/// Pods created or deleted in one go.
pub const BURST: usize = 250;
/// First and longest wait between deletions of failed pods on one node.
const FAILED_POD_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(900));

/// Pods by the node they are bound or tied to.
pub type PodsByNode = BTreeMap<String, Vec<Arc<Pod>>>;

/// What to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Nodes that need a pod.
    pub create: Vec<String>,
    /// Names of pods to delete.
    pub delete: Vec<String>,
    /// Events on the DaemonSet: type, reason, message.
    pub events: Vec<(EventType, &'static str, String)>,
    /// When to look again if nothing happens.
    pub again: Option<Duration>,
}

impl Plan {
    fn look_again(&mut self, delay: Duration) {
        self.again = Some(self.again.map_or(delay, |again| again.min(delay)));
    }
}

/// How long failed pods of a node are left alone, by set and node.
#[derive(Debug, Default)]
pub struct FailedPods {
    by_key: BTreeMap<String, (Duration, Timestamp)>,
}

impl FailedPods {
    /// The remaining wait; `None` when the pod may be deleted now, which doubles the next wait.
    fn wait(&mut self, key: String, now: Timestamp) -> Option<Duration> {
        // What is long over is forgotten.
        self.by_key.retain(|_, (_, last)| since(*last, now) <= FAILED_POD_BACKOFF.1 * 2);
        match self.by_key.get_mut(&key) {
            Some((wait, last)) if since(*last, now) < *wait => Some(*wait),
            Some((wait, last)) => {
                *wait = (*wait * 2).min(FAILED_POD_BACKOFF.1);
                *last = now;
                None
            }
            None => {
                self.by_key.insert(key, (FAILED_POD_BACKOFF.0, now));
                None
            }
        }
    }
}

/// Groups the set's pods by node. Ended pods that are being deleted count no more.
pub fn by_node(pods: &[Arc<Pod>]) -> PodsByNode {
    let mut map = PodsByNode::new();
    for pod in pods.iter().filter(|pod| !(pods::is_terminal(pod) && pod.is_being_deleted())) {
        if let Some(node) = target_node(pod) {
            map.entry(node.to_owned()).or_default().push(pod.clone());
        }
    }
    for pods in map.values_mut() {
        // Bound before unbound, then the oldest.
        pods.sort_by_key(|pod| {
            let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (pods::node_name(pod).is_empty(), created, pod.name().to_owned())
        });
    }
    map
}

/// Brings every node to one pod where one belongs and none where not.
pub fn plan(
    set: &DaemonSet,
    nodes: &[Arc<Node>],
    pods: &PodsByNode,
    hash: &str,
    failed: &mut FailedPods,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    for node in nodes {
        plan_node(&mut plan, set, node, pods.get(node.name()), hash, failed, now);
    }
    // Pods tied to nodes that are gone and not bound wait for ever.
    for (name, pods) in pods {
        if !nodes.iter().any(|node| node.name() == name) {
            let unbound = pods.iter().filter(|pod| pods::node_name(pod).is_empty());
            plan.delete.extend(unbound.map(|pod| pod.name().to_owned()));
        }
    }
    plan
}

fn plan_node(
    plan: &mut Plan,
    set: &DaemonSet,
    node: &Node,
    pods: Option<&Vec<Arc<Pod>>>,
    hash: &str,
    failed: &mut FailedPods,
    now: Timestamp,
) {
    let fit = fit(set, node);
    let Some(pods) = pods else {
        if fit.run {
            plan.create.push(node.name().to_owned());
        }
        return;
    };
    let alive = pods.iter().filter(|pod| !pod.is_being_deleted());
    if !fit.stay {
        plan.delete.extend(alive.map(|pod| pod.name().to_owned()));
        return;
    }
    let mut running: Vec<&Arc<Pod>> = Vec::new();
    for pod in alive {
        match pods::phase(pod) {
            "Failed" => {
                let observed = set.status.as_ref().and_then(|status| status.observed_generation).unwrap_or_default();
                let key = format!("{}/{observed}/{}", set.uid(), node.name());
                if let Some(wait) = failed.wait(key, now) {
                    plan.look_again(wait);
                    continue;
                }
                let message = format!("Found failed daemon pod {} on node {}, will try to kill it", pod.key(), node.name());
                plan.events.push((EventType::Warning, "FailedDaemonPod", message));
                plan.delete.push(pod.name().to_owned());
            }
            "Succeeded" => {
                let message = format!("Found succeeded daemon pod {} on node {}, will try to delete it", pod.key(), node.name());
                plan.events.push((EventType::Normal, "SucceededDaemonPod", message));
                plan.delete.push(pod.name().to_owned());
            }
            _ => running.push(pod),
        }
    }
    if surge_count(set, 1) == 0 {
        plan.delete.extend(running.iter().skip(1).map(|pod| pod.name().to_owned()));
        return;
    }
    if running.is_empty() && fit.run {
        plan.create.push(node.name().to_owned());
    }
    if running.len() <= 1 {
        return;
    }
    // A surge leaves one old and one new pod.
    let (mut newest, mut oldest) = (None, None);
    for pod in running {
        let place = if is_hash(pod, hash) { &mut newest } else { &mut oldest };
        if place.is_none() {
            *place = Some(pod);
        } else {
            plan.delete.push(pod.name().to_owned());
        }
    }
    if let (Some(new), Some(old)) = (newest, oldest)
        && (!pods::is_ready(old) || pods::is_available(new, min_ready_seconds(set), now))
    {
        plan.delete.push(old.name().to_owned());
    }
}

fn is_hash(pod: &Pod, hash: &str) -> bool {
    pod.label(crate::template_hash::CONTROLLER_REVISION_HASH) == Some(hash)
}

/// `spec.minReadySeconds`.
pub fn min_ready_seconds(set: &DaemonSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default()
}

fn rolling(set: &DaemonSet) -> Option<&daruma_api::apps::v1::RollingUpdateDaemonSet> {
    let strategy = set.spec.as_ref()?.update_strategy.as_ref()?;
    (strategy.type_.as_deref() != Some("OnDelete")).then_some(strategy.rolling_update.as_ref())?
}

fn surge_count(set: &DaemonSet, nodes: i32) -> i32 {
    scaled(rolling(set).and_then(|rolling| rolling.max_surge.as_ref()), nodes, true)
}

/// Whether pods of an old template are replaced by the controller.
pub fn rolls(set: &DaemonSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()).unwrap_or("RollingUpdate") == "RollingUpdate"
}

/// Replaces pods of old revisions as far as surge and availability allow.
pub fn roll(set: &DaemonSet, nodes: &[Arc<Node>], pods: &PodsByNode, hash: &str, now: Timestamp) -> Plan {
    let min_ready = min_ready_seconds(set);
    let wanting: Vec<&str> = nodes.iter().filter(|node| fit(set, node).run).map(|node| node.name()).collect();
    let desired = wanting.len() as i32;
    let surge = surge_count(set, desired);
    let mut unavailable_limit = scaled(rolling(set).and_then(|rolling| rolling.max_unavailable.as_ref()), desired, true);
    if desired > 0 && surge == 0 && unavailable_limit == 0 {
        unavailable_limit = 1;
    }
    let none = Vec::new();
    let mut all: BTreeMap<&str, &Vec<Arc<Pod>>> = pods.iter().map(|(node, pods)| (node.as_str(), pods)).collect();
    for node in &wanting {
        all.entry(node).or_insert(&none);
    }
    if surge == 0 {
        return roll_in_place(set, &all, hash, unavailable_limit, min_ready, now);
    }
    let runs = |name: &str| wanting.contains(&name);
    let mut plan = Plan::default();
    let (mut misplaced, mut candidates, mut allowed) = (Vec::new(), Vec::new(), Vec::new());
    let (mut surging, mut available) = (0, 0);
    for (node, pods) in all {
        let Some((new, old)) = new_and_old(set, pods, hash) else {
            surging += 1;
            continue;
        };
        if old.or(new).is_some_and(|pod| pods::is_available(pod, min_ready, now)) {
            available += 1;
        }
        match (new, old) {
            (_, None) => {}
            (None, Some(old)) if !pods::is_available(old, min_ready, now) => {
                if runs(node) {
                    allowed.push(node.to_owned());
                } else {
                    plan.delete.push(old.name().to_owned());
                }
            }
            (None, Some(old)) => {
                if !runs(node) {
                    misplaced.push(old.name().to_owned());
                } else if surging < surge {
                    candidates.push(node.to_owned());
                }
            }
            (Some(new), Some(_)) if !pods::is_available(new, min_ready, now) => surging += 1,
            (Some(_), Some(old)) => plan.delete.push(old.name().to_owned()),
        }
    }
    let spare = usize::try_from(available - desired).unwrap_or_default();
    plan.delete.extend(misplaced.into_iter().take(spare));
    let room = usize::try_from(surge - surging).unwrap_or_default();
    plan.create = allowed;
    plan.create.extend(candidates.into_iter().take(room));
    plan
}

fn roll_in_place(
    set: &DaemonSet,
    all: &BTreeMap<&str, &Vec<Arc<Pod>>>,
    hash: &str,
    limit: i32,
    min_ready: i32,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    let mut candidates = Vec::new();
    let mut unavailable = 0;
    for pods in all.values() {
        match new_and_old(set, pods, hash) {
            // Too many pods; the main plan sorts that out.
            None | Some((None, None) | (Some(_), Some(_))) => unavailable += 1,
            Some((Some(new), None)) => unavailable += i32::from(!pods::is_available(new, min_ready, now)),
            Some((None, Some(old))) if !pods::is_available(old, min_ready, now) => {
                plan.delete.push(old.name().to_owned());
                unavailable += 1;
            }
            Some((None, Some(old))) => {
                if unavailable < limit {
                    candidates.push(old.name().to_owned());
                }
            }
        }
    }
    let room = usize::try_from(limit - unavailable).unwrap_or_default();
    plan.delete.extend(candidates.into_iter().take(room));
    plan
}

/// The pod of the new and of an old revision on one node; `None` when there are several of either.
fn new_and_old<'a>(set: &DaemonSet, pods: &'a [Arc<Pod>], hash: &str) -> Option<(Option<&'a Pod>, Option<&'a Pod>)> {
    let (mut new, mut old) = (None, None);
    for pod in pods.iter().filter(|pod| !pod.is_being_deleted()) {
        let place = if is_updated(set, pod, hash) { &mut new } else { &mut old };
        if place.is_some() {
            return None;
        }
        *place = Some(pod.as_ref());
    }
    Some((new, old))
}

/// The status to write. `observe` says that this generation has been worked on.
pub fn status(
    set: &DaemonSet,
    nodes: &[Arc<Node>],
    pods: &PodsByNode,
    hash: &str,
    observe: bool,
    now: Timestamp,
) -> DaemonSetStatus {
    let old = set.status.clone().unwrap_or_default();
    let mut status = DaemonSetStatus {
        collision_count: old.collision_count,
        conditions: old.conditions,
        observed_generation: if observe { set.metadata.generation } else { old.observed_generation },
        ..DaemonSetStatus::default()
    };
    let (mut available, mut updated) = (0, 0);
    for node in nodes {
        let first = pods.get(node.name()).and_then(|pods| pods.first());
        if !fit(set, node).run {
            status.number_misscheduled += i32::from(first.is_some());
            continue;
        }
        status.desired_number_scheduled += 1;
        let Some(pod) = first else { continue };
        status.current_number_scheduled += 1;
        status.number_ready += i32::from(pods::is_ready(pod));
        available += i32::from(pods::is_available(pod, min_ready_seconds(set), now));
        updated += i32::from(is_updated(set, pod, hash));
    }
    status.number_available = nonzero(available);
    status.updated_number_scheduled = nonzero(updated);
    status.number_unavailable = nonzero(status.desired_number_scheduled - available);
    status
}

/// Whether the stored status already says `new`.
pub fn says(set: &DaemonSet, new: &DaemonSetStatus) -> bool {
    let plain = |status: &DaemonSetStatus| DaemonSetStatus {
        number_available: status.number_available.and_then(nonzero),
        number_unavailable: status.number_unavailable.and_then(nonzero),
        updated_number_scheduled: status.updated_number_scheduled.and_then(nonzero),
        conditions: None,
        observed_generation: None,
        ..status.clone()
    };
    set.status.as_ref().is_some_and(|old| {
        plain(old) == plain(new) && old.observed_generation.unwrap_or_default() >= set.metadata.generation.unwrap_or_default()
    })
}
