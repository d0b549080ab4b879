//! From changes of objects to lines and states of the record.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use daruma_api::k8s_openapi::Resource;
use daruma_api::meta::ObjectExt;
use daruma_client::informer::Delta;
use tokio::sync::Notify;

use super::counts::{Count, Counts};
use super::seen::{SeenEvent, SeenNode, SeenPod, SeenSlice, SeenWorkload};
use crate::file::{WorkloadKind, ZONE_LABEL};
use crate::record::{EntryKind, NodeState, PodState, ReplicaState};
use crate::recorder::Recorder;

/// STATUS of what is gone.
const DELETED: &str = "Deleted";
/// Who speaks where an object changed.
const API: &str = "api";

/// Handlers of the informers.
pub(super) struct Changes {
    recorder: Recorder,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// By uid.
    pods: BTreeMap<String, PodState>,
    nodes: BTreeMap<String, NodeState>,
    counts: Counts,
    /// How often an Event was seen, by uid.
    events: BTreeMap<String, u32>,
    /// Ready and all endpoints, by slice, within a service.
    services: BTreeMap<String, BTreeMap<String, (usize, usize)>>,
}

impl Changes {
    pub fn new(recorder: &Recorder) -> Self {
        Self { recorder: recorder.clone(), state: Mutex::default(), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn change(&self, about: &str, text: String) {
        self.recorder.observe(EntryKind::Change, API, about, text, "");
    }

    pub fn node(&self, delta: &Delta<SeenNode>) {
        let node = delta.object();
        let at_ms = self.recorder.now_ms();
        let state = match delta {
            Delta::Deleted(_) => NodeState { ready: DELETED.to_owned(), ..node_state(node, at_ms) },
            Delta::Added(_) | Delta::Updated(..) => node_state(node, at_ms),
        };
        let old = {
            let mut all = self.lock();
            match delta {
                Delta::Deleted(_) => all.nodes.remove(&state.node),
                _ => all.nodes.insert(state.node.clone(), state.clone()),
            }
        };
        if old.as_ref().is_some_and(|old| NodeState { at_ms, ..old.clone() } == state) {
            return;
        }
        if self.recorder.is_on() {
            self.change(&format!("node/{}", state.node), node_text(old.as_ref(), &state));
            self.recorder.node(state);
        }
        self.changed.notify_one();
    }

    pub fn pod(&self, delta: &Delta<SeenPod>) {
        // A name that another pod has taken over.
        if let Delta::Updated(old, new) = delta
            && old.uid() != new.uid()
        {
            self.pod_is(old, true);
        }
        self.pod_is(delta.object(), matches!(delta, Delta::Deleted(_)));
    }

    fn pod_is(&self, pod: &Arc<SeenPod>, gone: bool) {
        let at_ms = self.recorder.now_ms();
        let mut state = pod.state(at_ms);
        if gone {
            DELETED.clone_into(&mut state.status);
            (state.ready, state.available) = (0, false);
        }
        let (old, count) = {
            let mut all = self.lock();
            let old = if gone { all.pods.remove(&state.uid) } else { all.pods.insert(state.uid.clone(), state.clone()) };
            let was = old.as_ref().is_some_and(|old| old.available);
            let count = (was != state.available && !state.workload.is_empty())
                .then(|| all.counts.add(&format!("{}/{}", state.namespace, state.workload), state.available))
                .flatten();
            (old, count)
        };
        if old.as_ref().is_some_and(|old| PodState { at_ms, ..old.clone() } == state) {
            return;
        }
        if self.recorder.is_on() {
            if let Some(text) = pod_text(old.as_ref(), &state) {
                self.change(&format!("pod/{}", state.name), text);
            }
            if let Some(count) = count {
                self.replicas(at_ms, &format!("{}/{}", state.namespace, state.workload), count);
            }
            self.recorder.pod(state);
        }
        self.changed.notify_one();
    }

    pub fn workload<K: Resource>(&self, kind: WorkloadKind, delta: &Delta<SeenWorkload<K>>) {
        let object = delta.object();
        // What a Deployment owns is counted as the Deployment's.
        if object.metadata.owner_references.iter().flatten().any(|owner| owner.controller == Some(true)) {
            return;
        }
        let name = format!("{}/{}/{}", object.namespace(), kind.singular(), object.name());
        let desired = (!matches!(delta, Delta::Deleted(_))).then(|| object.desired());
        let count = self.lock().counts.ask(&name, desired);
        if let Some(count) = count
            && self.recorder.is_on()
        {
            self.replicas(self.recorder.now_ms(), &name, count);
        }
        self.changed.notify_one();
    }

    fn replicas(&self, at_ms: u64, workload: &str, count: Count) {
        let desired = count.desired.unwrap_or_default();
        self.recorder.replicas(ReplicaState { at_ms, workload: workload.to_owned(), desired, available: count.available });
    }

    pub fn slice(&self, delta: &Delta<SeenSlice>) {
        let slice = delta.object();
        let Some(service) = slice.label("kubernetes.io/service-name") else { return };
        let service = format!("{}/{service}", slice.namespace());
        let endpoints = slice.endpoints.as_deref().unwrap_or_default();
        // Ready where nothing is said (discovery.k8s.io/v1 EndpointConditions).
        let ready = endpoints.iter().filter(|one| one.conditions.ready != Some(false)).count();
        let (before, after) = {
            let mut all = self.lock();
            let slices = all.services.entry(service.clone()).or_default();
            let before = sum(slices);
            match delta {
                Delta::Deleted(_) => slices.remove(slice.name()),
                _ => slices.insert(slice.name().to_owned(), (ready, endpoints.len())),
            };
            (before, sum(slices))
        };
        if before != after && self.recorder.is_on() {
            let name = service.strip_prefix("default/").unwrap_or(&service);
            self.change(
                &format!("service/{name}"),
                format!("{} of {} endpoints are ready (were {} of {})", after.0, after.1, before.0, before.1),
            );
        }
    }

    pub fn event(&self, event: &SeenEvent) {
        let times = event.count.unwrap_or(1);
        let seen = self.lock().events.insert(event.uid().to_owned(), times);
        if seen.is_some_and(|seen| seen >= times) {
            return;
        }
        let who = if event.source.component.is_empty() { &event.reporting_component } else { &event.source.component };
        let about = format!("{}/{}", event.involved_object.kind.to_ascii_lowercase(), event.involved_object.name);
        let times = if times > 1 { format!(" (x{times})") } else { String::new() };
        let text = format!("{}{times}", event.message);
        if self.recorder.is_on() {
            self.recorder.observe(EntryKind::Event, who, &about, text, &event.reason);
        }
        self.changed.notify_one();
    }

    /// States of everything, as they are when the record begins.
    pub fn write_down(&self) {
        let all = self.lock();
        let at_ms = self.recorder.now_ms();
        for node in all.nodes.values() {
            self.recorder.node(NodeState { at_ms, ..node.clone() });
        }
        for pod in all.pods.values() {
            self.recorder.pod(PodState { at_ms, ..pod.clone() });
        }
        for (workload, count) in all.counts.known() {
            self.replicas(at_ms, workload, count);
        }
    }
}

fn sum(slices: &BTreeMap<String, (usize, usize)>) -> (usize, usize) {
    slices.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

fn node_state(node: &SeenNode, at_ms: u64) -> NodeState {
    let condition = |kind: &str| node.status.conditions.iter().find(|one| one.kind == kind).map(|one| one.status.clone());
    let mut taints: Vec<String> = node.spec.taints.iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect();
    taints.sort();
    let pressure = |one: &&super::seen::Condition| one.kind.ends_with("Pressure") && one.status == "True";
    let mut pressures: Vec<String> = node.status.conditions.iter().filter(pressure).map(|one| one.kind.clone()).collect();
    pressures.sort();
    NodeState {
        at_ms,
        node: node.name().to_owned(),
        ready: condition("Ready").unwrap_or_else(|| "Unknown".to_owned()),
        taints,
        pressure: pressures,
        unschedulable: node.spec.unschedulable,
        zone: node.label(ZONE_LABEL).unwrap_or_default().to_owned(),
    }
}

/// What changed of a node, in words.
fn node_text(old: Option<&NodeState>, new: &NodeState) -> String {
    let empty = NodeState { ready: String::new(), taints: Vec::new(), pressure: Vec::new(), unschedulable: false, ..new.clone() };
    let old = old.unwrap_or(&empty);
    let mut parts = Vec::new();
    if old.ready != new.ready {
        parts.push(match (old.ready.as_str(), new.ready.as_str()) {
            (_, DELETED) => "deleted".to_owned(),
            ("", ready) => format!("new, Ready is {ready}"),
            (old, new) => format!("Ready {old} → {new}"),
        });
    }
    difference(&old.taints, &new.taints, "taint", &mut parts);
    difference(&old.pressure, &new.pressure, "condition", &mut parts);
    match (old.unschedulable, new.unschedulable) {
        (false, true) => parts.push("cordoned".to_owned()),
        (true, false) => parts.push("uncordoned".to_owned()),
        _ => {}
    }
    if old.zone != new.zone {
        parts.push(format!("zone {}", new.zone));
    }
    parts.join(", ")
}

fn difference(old: &[String], new: &[String], noun: &str, parts: &mut Vec<String>) {
    parts.extend(new.iter().filter(|one| !old.contains(one)).map(|one| format!("{noun} +{one}")));
    parts.extend(old.iter().filter(|one| !new.contains(one)).map(|one| format!("{noun} -{one}")));
}

/// What changed of what kubectl would show of a pod, in words; `None` where nothing.
fn pod_text(old: Option<&PodState>, new: &PodState) -> Option<String> {
    let ready = |state: &PodState| format!("{}/{} {}", state.ready, state.containers, state.status);
    let mut text = match old {
        _ if new.status == DELETED => "gone".to_owned(),
        None => format!("new, {}", ready(new)),
        Some(old) if ready(old) != ready(new) => format!("{} → {}", ready(old), ready(new)),
        Some(_) => String::new(),
    };
    let mut add = |part: String| {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&part);
    };
    let (node, restarts, ip) = old.map_or(("", 0, ""), |old| (&old.node, old.restarts, &old.ip));
    if new.status != DELETED {
        if node != new.node {
            add(format!("on {}", new.node));
        }
        if restarts != new.restarts {
            add(format!("restarts {}", new.restarts));
        }
        if ip != new.ip && !new.ip.is_empty() {
            add(format!("address {}", new.ip));
        }
    }
    (!text.is_empty()).then_some(text)
}
