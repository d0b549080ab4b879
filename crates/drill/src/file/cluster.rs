//! The cluster that a drill needs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Bytes;
use crate::Span;

/// The label by which machines belong to zones.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Shape of the cluster. Machines are called `controller-0`, `controller-1`, … and `worker-0`, `worker-1`, ….
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterSpec {
    /// How many controllers.
    pub controllers: u32,
    /// How many workers.
    pub workers: u32,
    /// CPUs of each machine; thousandths are allowed (`0.5`).
    pub cpus: f64,
    /// Memory of each machine.
    pub memory: Bytes,
    /// Disk of each machine.
    pub disk: Bytes,
    /// From power-on to a running kernel.
    pub boot_time: Span,
    /// How many simulated nodes stand beside the workers (in the real world; `simulated-0`, `simulated-1`, …).
    pub simulated: u32,
    /// Zones, over which the workers are dealt in turn: worker-0 to the first, worker-1 to the second, ….
    pub zones: Vec<String>,
    /// Further labels, by machine.
    pub labels: BTreeMap<String, BTreeMap<String, String>>,
    /// Whether every node runs kube-proxy and the network agent. Without them services have no addresses
    /// that work, and a simulated node is much cheaper.
    pub node_agents: bool,
    /// Workloads that run already when the drill begins, dealt over the workers: a state that is loaded
    /// instead of being reached (virtual world only).
    pub preload: Vec<Preload>,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self {
            controllers: 1,
            workers: 2,
            cpus: 2.0,
            memory: Bytes(1 << 30),
            disk: Bytes(4 << 30),
            boot_time: Span::seconds(5),
            simulated: 0,
            zones: Vec::new(),
            labels: BTreeMap::new(),
            node_agents: true,
            preload: Vec::new(),
        }
    }
}

impl ClusterSpec {
    /// Names of all machines, controllers first.
    pub fn machines(&self) -> impl Iterator<Item = String> + '_ {
        let named = |kind: &'static str, count: u32| (0..count).map(move |index| format!("{kind}-{index}"));
        named("controller", self.controllers).chain(named("worker", self.workers)).chain(named("simulated", self.simulated))
    }

    /// Whether there is a machine of this name.
    pub fn has_machine(&self, name: &str) -> bool {
        let Some((kind, index)) = name.rsplit_once('-') else { return false };
        let count = match kind {
            "controller" => self.controllers,
            "worker" => self.workers,
            "simulated" => self.simulated,
            _ => return false,
        };
        index.parse::<u32>().is_ok_and(|number| number < count && number.to_string() == index)
    }

    /// Labels that this file gives a machine, its zone included.
    pub fn labels_of(&self, machine: &str) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        if let Some(("worker" | "simulated", index)) = machine.rsplit_once('-')
            && !self.zones.is_empty()
            && let Ok(index) = index.parse::<usize>()
        {
            labels.insert(ZONE_LABEL.to_owned(), self.zones[index % self.zones.len()].clone());
        }
        labels.extend(self.labels.get(machine).cloned().unwrap_or_default());
        labels
    }

    /// The machines that exist, as a person reads them in an error.
    pub fn known(&self) -> String {
        let range = |kind: &str, count: u32| match count {
            0 => None,
            1 => Some(format!("{kind}-0")),
            count => Some(format!("{kind}-0 to {kind}-{}", count - 1)),
        };
        let ranges = [("controller", self.controllers), ("worker", self.workers), ("simulated", self.simulated)];
        ranges.into_iter().filter_map(|(kind, count)| range(kind, count)).collect::<Vec<_>>().join(", ")
    }
}

/// A Deployment whose pods run already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Preload {
    /// Name of the Deployment; where `count` is more than one, `-0`, `-1`, … is appended.
    pub deployment: String,
    /// Namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// How many such Deployments.
    #[serde(default = "one")]
    pub count: u32,
    /// Replicas of each.
    pub replicas: u32,
    /// Image of their only container.
    #[serde(default = "bootcamp")]
    pub image: String,
    /// CPU that each pod requests.
    #[serde(default = "little_cpu")]
    pub cpu: String,
    /// Memory that each pod requests.
    #[serde(default = "little_memory")]
    pub memory: Bytes,
    /// Further fields of the pod template's `spec` (tolerations, topologySpreadConstraints, …).
    #[serde(default)]
    pub pod: BTreeMap<String, Value>,
}

/// Settings of the components.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// After how long without a heartbeat a node is NotReady (50s where nothing is said, as in Kubernetes).
    pub node_monitor_grace_period: Option<Span>,
    /// How long pods tolerate a NotReady or unreachable node (300 where nothing is said, as in Kubernetes).
    pub default_toleration_seconds: Option<u64>,
    /// Further flags as `component.flag: value`, e.g. `kube-controller-manager.kube-api-qps: 100`.
    pub set: BTreeMap<String, String>,
}

pub(super) fn default_namespace() -> String {
    "default".to_owned()
}

fn one() -> u32 {
    1
}

/// The tutorial's application.
fn bootcamp() -> String {
    "gcr.io/google-samples/kubernetes-bootcamp:v1".to_owned()
}

fn little_cpu() -> String {
    "10m".to_owned()
}

fn little_memory() -> Bytes {
    Bytes(16 << 20)
}
