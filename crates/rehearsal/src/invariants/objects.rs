//! What the rules ask of an object, and nothing else: a hundred thousand pods are cheap to read and to keep.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_api::IntOrString;
use daruma_api::k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use daruma_api::resources::{self, ResourceList};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

/// Who controls an object.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Owner {
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    #[serde(default)]
    controller: bool,
}

/// A pod.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Who controls it.
    pub owner: Option<Owner>,
    /// Where it was put.
    pub node: Option<String>,
    /// Shown by its kubelet, placed by nobody.
    pub is_mirror: bool,
    /// Asked to end.
    pub is_going: bool,
    /// Its phase is a last one.
    pub has_ended: bool,
    /// Condition Ready.
    pub is_ready: bool,
    /// A container of it may live, by what its node has last said.
    pub may_run: bool,
    /// What it asks of its node; nothing where it has none.
    pub requests: Arc<ResourceList>,
    generation: i64,
}

impl Pod {
    /// Reads a stored pod; `old` is what it was before.
    pub(super) fn read(value: &[u8], old: Option<&Self>) -> Option<Self> {
        let Document { metadata, spec, status }: Document<PodSpec, PodStatus> = read(value)?;
        let node = spec.unwrap_or_default().node_name.filter(|name| !name.is_empty());
        let status = status.unwrap_or_default();
        let generation = metadata.generation.unwrap_or_default();
        let requests = match old {
            _ if node.is_none() => Arc::default(),
            // A resize makes a new generation.
            Some(old) if old.node == node && old.uid == metadata.uid && old.generation == generation => old.requests.clone(),
            _ => Arc::new(requests(value)),
        };
        let has_ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let says_running = |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
        Some(Self {
            owner: metadata.controller(),
            is_mirror: metadata.annotations.as_ref().is_some_and(|annotations| annotations.mirror.is_some()),
            is_going: metadata.deletion_timestamp.is_some(),
            has_ended,
            is_ready: is_true(status.conditions.as_deref(), "Ready"),
            may_run: !has_ended && status.container_statuses.iter().flatten().any(says_running),
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            node,
            requests,
            generation,
        })
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Neither ended nor asked to end.
    pub fn is_active(&self) -> bool {
        !self.is_going && !self.has_ended
    }

    /// The `ReplicaSet` that controls it.
    pub fn replica_set(&self) -> Option<&Owner> {
        self.owner.as_ref().filter(|owner| owner.kind == "ReplicaSet")
    }
}

fn requests(value: &[u8]) -> ResourceList {
    let pod: Option<daruma_api::core::v1::Pod> = read(value);
    pod.and_then(|pod| pod.spec).as_ref().map(resources::pod_requests).unwrap_or_default()
}

/// A node.
#[derive(Debug, Clone)]
pub struct Node {
    /// Name.
    pub name: String,
    /// Condition Ready.
    pub is_ready: bool,
    /// It takes no more pods.
    pub is_cordoned: bool,
    /// Keys of its taints.
    pub taints: Vec<String>,
    /// What pods may ask of it.
    pub allocatable: ResourceList,
}

impl Node {
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let Document { metadata, spec, status }: Document<NodeSpec, NodeStatus> = read(value)?;
        let (spec, status) = (spec.unwrap_or_default(), status.unwrap_or_default());
        Some(Self {
            name: metadata.name,
            is_ready: is_true(status.conditions.as_deref(), "Ready"),
            is_cordoned: spec.unschedulable,
            taints: spec.taints.into_iter().flatten().map(|taint| taint.key).collect(),
            allocatable: resources::parse_list(status.allocatable.as_ref()),
        })
    }

    /// A taint that says that something is wrong with it.
    pub fn trouble(&self) -> Option<&str> {
        let ours = |key: &&String| key.starts_with("node.kubernetes.io/") && *key != "node.kubernetes.io/unschedulable";
        self.taints.iter().find(ours).map(String::as_str)
    }

    /// Ready, takes pods, and drives none away.
    pub fn is_healthy(&self) -> bool {
        self.is_ready && !self.is_cordoned && self.trouble().is_none()
    }
}

/// A `ReplicaSet`.
#[derive(Debug, Clone)]
pub struct ReplicaSet {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// `spec.replicas`.
    pub replicas: i64,
    /// Counts what its specification was.
    pub generation: i64,
    /// The generation that its controller has last acted on.
    pub observed: i64,
    /// Available pods that its controller has last counted.
    pub available: i64,
    owner: Option<Owner>,
}

impl ReplicaSet {
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let Document { metadata, spec, status }: Document<Replicated, Counted> = read(value)?;
        let status = status.unwrap_or_default();
        Some(Self {
            owner: metadata.controller(),
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            replicas: spec.and_then(|spec| spec.replicas).unwrap_or(1),
            generation: metadata.generation.unwrap_or_default(),
            observed: status.observed_generation.unwrap_or_default(),
            available: status.available_replicas.unwrap_or_default(),
        })
    }

    /// The Deployment that controls it.
    pub fn deployment(&self) -> Option<&Owner> {
        self.owner.as_ref().filter(|owner| owner.kind == "Deployment")
    }
}

/// A Deployment, `StatefulSet` or `DaemonSet`.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Kind.
    pub kind: &'static str,
    /// `namespace/name`.
    pub key: String,
    /// UID.
    pub uid: String,
    /// Pods that are asked for.
    pub asked: i64,
    /// Pods that are available.
    pub available: i64,
    /// Pods of the newest template; `None` where older ones may stay.
    pub updated: Option<i64>,
    /// Counts what its specification was.
    pub generation: i64,
    /// The generation that its controller has last acted on.
    pub observed: i64,
    /// How many pods there may be; of Deployments.
    pub limits: Limits,
}

impl Workload {
    /// Reads a stored object of a resource, as it is called below the store's root.
    pub(super) fn read(resource: &str, value: &[u8]) -> Option<Self> {
        let Document { metadata, spec, status }: Document<Replicated, Counted> = read(value)?;
        let (spec, status) = (spec.unwrap_or_default(), status.unwrap_or_default());
        let (kind, is_daemon) = match resource {
            "apps/daemonsets/" => ("DaemonSet", true),
            "apps/statefulsets/" => ("StatefulSet", false),
            _ => ("Deployment", false),
        };
        let follows = kind == "Deployment" && !spec.paused;
        Some(Self {
            kind,
            key: format!("{}/{}", metadata.namespace, metadata.name),
            uid: metadata.uid,
            asked: if is_daemon { status.desired_number_scheduled.unwrap_or(0) } else { spec.replicas.unwrap_or(1) },
            available: if is_daemon { status.number_available } else { status.available_replicas }.unwrap_or(0),
            updated: follows.then_some(status.updated_replicas.unwrap_or(0)),
            generation: metadata.generation.unwrap_or_default(),
            observed: status.observed_generation.unwrap_or_default(),
            limits: Limits::of(&spec),
        })
    }
}

/// How many pods a Deployment may have, and how many of them may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most that its `ReplicaSets` are asked for together.
    pub most: i64,
    /// Fewest available ones that a rollout leaves.
    pub least: i64,
}

impl Limits {
    /// kubernetes pkg/controller/deployment/util/deployment_util.go `ResolveFenceposts`: surge is rounded up,
    /// unavailability down.
    fn of(spec: &Replicated) -> Self {
        let replicas = spec.replicas.unwrap_or(1);
        let strategy = spec.strategy.as_ref();
        if strategy.is_some_and(|strategy| strategy.kind.as_deref() == Some("Recreate")) {
            return Self { most: replicas, least: 0 };
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let part = |value: Option<&IntOrString>, up: bool| match value {
            Some(IntOrString::Int(number)) => i64::from(*number),
            Some(IntOrString::String(text)) => percent(text, replicas, up),
            None => percent("25%", replicas, up),
        };
        let surge = part(rolling.and_then(|rolling| rolling.max_surge.as_ref()), true);
        let mut unavailable = part(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), false);
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        Self { most: replicas + surge, least: (replicas - unavailable).max(0) }
    }
}

fn percent(text: &str, of: i64, up: bool) -> i64 {
    let share: i64 = text.trim_end_matches('%').parse().unwrap_or_default();
    if up { (of * share + 99) / 100 } else { of * share / 100 }
}

fn read<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
    // Checking all of it at once is cheaper than each of its texts.
    serde_json::from_str(std::str::from_utf8(value).ok()?).ok()
}

fn is_true(conditions: Option<&[Condition]>, kind: &str) -> bool {
    conditions.into_iter().flatten().any(|condition| condition.kind == kind && condition.status == "True")
}

#[derive(Deserialize)]
struct Document<S, T> {
    metadata: Metadata,
    spec: Option<S>,
    status: Option<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    uid: String,
    generation: Option<i64>,
    deletion_timestamp: Option<IgnoredAny>,
    annotations: Option<Annotations>,
    owner_references: Option<Vec<Owner>>,
}

impl Metadata {
    fn controller(&self) -> Option<Owner> {
        self.owner_references.iter().flatten().find(|owner| owner.controller).cloned()
    }
}

#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    node_name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct PodStatus {
    phase: Option<String>,
    conditions: Option<Vec<Condition>>,
    container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Deserialize)]
struct ContainerStatus {
    state: Option<ContainerState>,
}

#[derive(Deserialize)]
struct ContainerState {
    running: Option<IgnoredAny>,
}

#[derive(Deserialize, Default)]
struct NodeSpec {
    #[serde(default)]
    unschedulable: bool,
    taints: Option<Vec<Taint>>,
}

#[derive(Deserialize)]
struct Taint {
    key: String,
}

#[derive(Deserialize, Default)]
struct NodeStatus {
    conditions: Option<Vec<Condition>>,
    allocatable: Option<BTreeMap<String, Quantity>>,
}

/// Specification of what has pods.
#[derive(Deserialize, Default)]
struct Replicated {
    replicas: Option<i64>,
    #[serde(default)]
    paused: bool,
    strategy: Option<Strategy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Strategy {
    #[serde(rename = "type")]
    kind: Option<String>,
    rolling_update: Option<RollingUpdate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RollingUpdate {
    max_surge: Option<IntOrString>,
    max_unavailable: Option<IntOrString>,
}

/// Status of what has pods.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Counted {
    observed_generation: Option<i64>,
    available_replicas: Option<i64>,
    updated_replicas: Option<i64>,
    desired_number_scheduled: Option<i64>,
    number_available: Option<i64>,
}
