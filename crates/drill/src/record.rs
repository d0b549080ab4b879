//! What was seen while a drill ran: the one input of checks, figures and reports.
//!
//! Invariant: plain data, in order of time, without anything that differs between two runs of one seed
//! beside what happened (no host names, no wall-clock times but the start).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::WorldKind;

/// One run of one drill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Name of the drill.
    pub drill: String,
    /// One sentence about it.
    pub description: String,
    /// Which world it ran in.
    pub world: WorldKind,
    /// The seed, in the virtual world.
    pub seed: Option<u64>,
    /// Wall-clock time (of that world) at which the drill's time axis begins.
    #[schemars(with = "String")]
    pub started: jiff::Timestamp,
    /// Length of the run.
    pub took_ms: u64,
    /// Settings that matter to a reader, by name (grace period, tolerations, …).
    pub settings: BTreeMap<String, String>,
    /// What was done and what changed, in order.
    pub timeline: Vec<Entry>,
    /// States of nodes, each until the next one of the same node.
    pub nodes: Vec<NodeState>,
    /// States of pods, each until the next one of the same pod (uid).
    pub pods: Vec<PodState>,
    /// Requests of probes.
    pub requests: Vec<Request>,
    /// Writes that the API acknowledged to a writer, and whether they were there at the end.
    pub writes: Vec<Write>,
    /// Ready replicas of workloads, each until the next one of the same workload.
    pub replicas: Vec<ReplicaState>,
    /// What faults left behind, in words (containers that lived on, files, …).
    pub left_behind: Vec<String>,
    /// Why the run ended early, if it did.
    pub aborted: Option<String>,
}

/// Milliseconds since the drill began.
pub type AtMs = u64;

/// One line of the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When.
    pub at_ms: AtMs,
    /// What sort of line.
    pub kind: EntryKind,
    /// Who did or noticed it: `drill`, or the event's reporting component, e.g. `node-controller`.
    pub who: String,
    /// The object it is about, e.g. `node/worker-1`; empty where none.
    pub about: String,
    /// The text, one line, or a table as kubectl prints it for [`EntryKind::View`].
    pub text: String,
    /// Identity of the drill's step that this line belongs to; empty for what the cluster did by itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub step: String,
    /// Reason of a Kubernetes Event, e.g. `NodeNotReady`; empty for everything else. An Event that is counted
    /// up is an entry each time.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Names of the machines that a fault or undo acts on, ordered. A fault of a single pod names that in
    /// [`Entry::about`] (`pod/…`); machines named beside it do not count as broken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<String>,
}

impl Entry {
    /// A line that belongs to no step, no reason and no machine.
    pub fn new(at_ms: AtMs, kind: EntryKind, who: &str, about: &str, text: &str) -> Self {
        Self {
            at_ms,
            kind,
            who: who.to_owned(),
            about: about.to_owned(),
            text: text.to_owned(),
            step: String::new(),
            reason: String::new(),
            machines: Vec::new(),
        }
    }
}

/// See [`Entry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum EntryKind {
    /// The drill broke something.
    Fault,
    /// The drill took a fault back.
    Undo,
    /// The drill did something else (applied a manifest, waited, scaled).
    Step,
    /// Output of a kubectl-like view.
    View,
    /// An object changed its state.
    Change,
    /// A Kubernetes Event.
    Event,
    /// An invariant or check spoke.
    Check,
}

/// State of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeState {
    /// Since when.
    pub at_ms: AtMs,
    /// Name.
    pub node: String,
    /// Status of condition Ready: `True`, `False`, `Unknown`; `Deleted` once it is gone.
    pub ready: String,
    /// Taints as `key:Effect`, ordered.
    pub taints: Vec<String>,
    /// Pressure conditions that are True, ordered.
    pub pressure: Vec<String>,
    /// Whether it is marked unschedulable.
    pub unschedulable: bool,
    /// Value of label `topology.kubernetes.io/zone`; empty where none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
}

/// State of one pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodState {
    /// Since when.
    pub at_ms: AtMs,
    /// Identity.
    pub uid: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Name of the controlling workload, e.g. `deployment/web` or `statefulset/db`; empty where none.
    pub workload: String,
    /// Node; empty while not scheduled.
    pub node: String,
    /// STATUS as kubectl prints it; `Deleted` once it is gone.
    pub status: String,
    /// Ready containers.
    pub ready: u32,
    /// Containers.
    pub containers: u32,
    /// Condition Ready, which endpoints follow.
    pub available: bool,
    /// Restarts of all containers.
    pub restarts: u32,
    /// Address; empty where none.
    pub ip: String,
}

/// One request of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// When it was sent.
    pub at_ms: AtMs,
    /// The probe's name.
    pub probe: String,
    /// How long it took.
    pub took_ms: u64,
    /// `None` when it was answered as asked, else what went wrong.
    pub error: Option<String>,
    /// Who answered, where the answer tells (a pod name), else empty.
    pub by: String,
}

/// One acknowledged write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Write {
    /// When it was acknowledged.
    pub at_ms: AtMs,
    /// The writer's name.
    pub writer: String,
    /// The object.
    pub object: String,
    /// Whether it was there at the end.
    pub kept: bool,
}

/// Replicas of one workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaState {
    /// Since when.
    pub at_ms: AtMs,
    /// E.g. `default/deployment/web`.
    pub workload: String,
    /// Asked for.
    pub desired: u32,
    /// Ready by their conditions, among those not being deleted or still ready.
    pub available: u32,
}

impl Record {
    /// An empty record.
    pub fn new(drill: &str, world: WorldKind, seed: Option<u64>, started: jiff::Timestamp) -> Self {
        Self {
            drill: drill.to_owned(),
            description: String::new(),
            world,
            seed,
            started,
            took_ms: 0,
            settings: BTreeMap::new(),
            timeline: Vec::new(),
            nodes: Vec::new(),
            pods: Vec::new(),
            requests: Vec::new(),
            writes: Vec::new(),
            replicas: Vec::new(),
            left_behind: Vec::new(),
            aborted: None,
        }
    }

    /// Length of the run.
    pub fn took(&self) -> Duration {
        Duration::from_millis(self.took_ms)
    }
}
