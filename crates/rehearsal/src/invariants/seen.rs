//! The objects that rules look at, as the store holds them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daruma_api::apps::v1::{Deployment, ReplicaSet};
use daruma_api::core::v1::{Node, Pod};
use daruma_api::meta::ObjectExt;
use daruma_apiserver::storage::keys;
use daruma_store::embedded::Change;

/// One object.
#[derive(Debug, Clone)]
pub enum Object {
    /// A pod.
    Pod(Arc<Pod>),
    /// A node.
    Node(Arc<Node>),
    /// A Deployment.
    Deployment(Arc<Deployment>),
    /// A ReplicaSet.
    ReplicaSet(Arc<ReplicaSet>),
}

impl Object {
    /// The pod, if it is one.
    pub fn pod(&self) -> Option<&Arc<Pod>> {
        match self {
            Self::Pod(pod) => Some(pod),
            _ => None,
        }
    }

    /// The Deployment, if it is one.
    pub fn deployment(&self) -> Option<&Arc<Deployment>> {
        match self {
            Self::Deployment(deployment) => Some(deployment),
            _ => None,
        }
    }
}

/// A kind that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Pods.
    Pod,
    /// Nodes.
    Node,
    /// Deployments.
    Deployment,
    /// ReplicaSets.
    ReplicaSet,
}

impl Kind {
    /// The kind and the object's key of a store key.
    fn of(key: &str) -> Option<(Self, &str)> {
        let (prefix, rest) = keys::split(key)?;
        let kind = match prefix.strip_prefix(keys::ROOT)? {
            "core/pods/" => Self::Pod,
            "core/nodes/" => Self::Node,
            "apps/deployments/" => Self::Deployment,
            "apps/replicasets/" => Self::ReplicaSet,
            _ => return None,
        };
        Some((kind, rest))
    }
}

/// Current objects by `namespace/name`.
#[derive(Debug, Default)]
pub struct Seen {
    /// Pods.
    pub pods: BTreeMap<String, Arc<Pod>>,
    /// Nodes.
    pub nodes: BTreeMap<String, Arc<Node>>,
    /// Deployments.
    pub deployments: BTreeMap<String, Arc<Deployment>>,
    /// ReplicaSets.
    pub replica_sets: BTreeMap<String, Arc<ReplicaSet>>,
}

impl Seen {
    /// Takes a change in; gives what was there and what is there now.
    pub(super) fn apply(&mut self, change: &Change) -> (Option<Object>, Option<Object>) {
        let Some((kind, key)) = Kind::of(&change.key) else { return (None, None) };
        let value = change.record.as_ref().map(|record| &record.value[..]);
        match kind {
            Kind::Pod => replace(&mut self.pods, key, value, Object::Pod),
            Kind::Node => replace(&mut self.nodes, key, value, Object::Node),
            Kind::Deployment => replace(&mut self.deployments, key, value, Object::Deployment),
            Kind::ReplicaSet => replace(&mut self.replica_sets, key, value, Object::ReplicaSet),
        }
    }

    /// The Deployment that a pod belongs to by way of its ReplicaSet.
    pub fn deployment_of(&self, pod: &Pod) -> Option<&Arc<Deployment>> {
        let set = self.replica_set_of(pod)?;
        let owner = set.controller().filter(|owner| owner.kind == "Deployment")?;
        self.deployments.get(&format!("{}/{}", pod.namespace(), owner.name)).filter(|found| found.uid() == owner.uid)
    }

    /// The ReplicaSet that controls a pod.
    pub fn replica_set_of(&self, pod: &Pod) -> Option<&Arc<ReplicaSet>> {
        let owner = pod.controller().filter(|owner| owner.kind == "ReplicaSet")?;
        self.replica_sets.get(&format!("{}/{}", pod.namespace(), owner.name)).filter(|found| found.uid() == owner.uid)
    }

    /// Pods of a Deployment that are not on their way out.
    pub fn active_pods<'a>(&'a self, deployment: &'a Deployment) -> impl Iterator<Item = &'a Arc<Pod>> {
        let is_own = |set: &&Arc<ReplicaSet>| set.controller().is_some_and(|owner| owner.uid == deployment.uid());
        let sets: BTreeSet<&str> = self.replica_sets.values().filter(is_own).map(|set| set.uid()).collect();
        self.pods.values().filter(move |pod| pod.controller().is_some_and(|set| sets.contains(&*set.uid)) && is_active(pod))
    }

    /// Whether every node is Ready.
    pub fn all_ready(&self) -> bool {
        self.nodes.values().all(|node| is_ready_node(node))
    }
}

fn replace<T: serde::de::DeserializeOwned>(
    objects: &mut BTreeMap<String, Arc<T>>,
    key: &str,
    value: Option<&[u8]>,
    wrap: impl Fn(Arc<T>) -> Object,
) -> (Option<Object>, Option<Object>) {
    // What does not parse is the API server's fault and shows elsewhere; for the rules it is not there.
    let new = value.and_then(|value| serde_json::from_slice::<T>(value).ok()).map(Arc::new);
    let old = match &new {
        Some(new) => objects.insert(key.to_owned(), new.clone()),
        None => objects.remove(key),
    };
    (old.map(&wrap), new.map(&wrap))
}

/// Neither ended nor asked to end.
pub(super) fn is_active(pod: &Pod) -> bool {
    !pod.is_being_deleted() && !has_ended(pod)
}

/// Whether the pod's phase is a last one.
pub(super) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Condition Ready.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Condition Ready.
pub(super) fn is_ready_node(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
