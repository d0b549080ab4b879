//! The objects that rules look at, as the store holds them, and who belongs to whom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daruma_api::resources::ResourceList;
use daruma_apiserver::storage::keys;
use daruma_store::embedded::Change;

use super::objects::{Node, Pod, ReplicaSet, Workload};

/// One object.
#[derive(Debug, Clone)]
pub enum Object {
    /// A pod.
    Pod(Arc<Pod>),
    /// A node.
    Node(Arc<Node>),
    /// A Deployment, `StatefulSet` or `DaemonSet`.
    Workload(Arc<Workload>),
    /// A `ReplicaSet`.
    ReplicaSet(Arc<ReplicaSet>),
}

impl Object {
    /// The pod, if it is one.
    pub fn pod(&self) -> Option<&Pod> {
        if let Self::Pod(pod) = self { Some(pod) } else { None }
    }

    /// The workload, if it is one.
    pub fn workload(&self) -> Option<&Workload> {
        if let Self::Workload(workload) = self { Some(workload) } else { None }
    }

    /// The `ReplicaSet`, if it is one.
    pub fn replica_set(&self) -> Option<&ReplicaSet> {
        if let Self::ReplicaSet(set) = self { Some(set) } else { None }
    }
}

/// Pods that are neither ended nor asked to end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Active {
    /// All of them.
    pub pods: i64,
    /// Those that are Ready.
    pub ready: i64,
}

/// Current objects by their keys in the store (below the root).
#[derive(Debug, Default)]
pub struct Seen {
    /// Pods by `namespace/name`.
    pub pods: BTreeMap<String, Arc<Pod>>,
    /// Nodes by name.
    pub nodes: BTreeMap<String, Arc<Node>>,
    /// `ReplicaSets` by `namespace/name`.
    pub replica_sets: BTreeMap<String, Arc<ReplicaSet>>,
    /// Deployments, `StatefulSets` and `DaemonSets` by `resource/namespace/name`.
    pub workloads: BTreeMap<String, Arc<Workload>>,
    /// Keys of `ReplicaSets` by the UID of their Deployment.
    sets: BTreeMap<String, BTreeSet<String>>,
    /// Pods that are neither ended nor asked to end, by the UID of their `ReplicaSet`.
    active: BTreeMap<String, Active>,
    /// What pods that have not ended ask of their node, by node and pod.
    placed: BTreeMap<String, BTreeMap<String, Arc<ResourceList>>>,
    unhealthy: BTreeSet<String>,
}

impl Seen {
    /// Takes a change in; gives what was there and what is there now.
    pub(super) fn apply(&mut self, change: &Change) -> (Option<Object>, Option<Object>) {
        let Some((prefix, key)) = keys::split(&change.key) else { return (None, None) };
        let value = change.record.as_ref().map(|record| &record.value[..]);
        // What does not parse is the API server's fault and shows elsewhere; for the rules it is not there.
        match prefix.strip_prefix(keys::ROOT) {
            Some("core/pods/") => {
                let old = self.pods.get(key).cloned();
                let new = value.and_then(|value| Pod::read(value, old.as_deref())).map(Arc::new);
                put(&mut self.pods, key, new.as_ref());
                self.file_pod(key, old.as_deref(), new.as_deref());
                (old.map(Object::Pod), new.map(Object::Pod))
            }
            Some("core/nodes/") => {
                let new = value.and_then(Node::read).map(Arc::new);
                if new.as_ref().is_some_and(|node| !node.is_healthy()) {
                    self.unhealthy.insert(key.to_owned());
                } else {
                    self.unhealthy.remove(key);
                }
                let old = put(&mut self.nodes, key, new.as_ref());
                (old.map(Object::Node), new.map(Object::Node))
            }
            Some("apps/replicasets/") => {
                let new = value.and_then(ReplicaSet::read).map(Arc::new);
                let old = put(&mut self.replica_sets, key, new.as_ref());
                let owner = |set: &Option<Arc<ReplicaSet>>| set.as_ref()?.deployment().map(|owner| owner.uid.clone());
                refile(&mut self.sets, key, owner(&old).as_deref(), owner(&new).as_deref());
                (old.map(Object::ReplicaSet), new.map(Object::ReplicaSet))
            }
            Some(resource @ ("apps/deployments/" | "apps/statefulsets/" | "apps/daemonsets/")) => {
                let new = value.and_then(|value| Workload::read(resource, value)).map(Arc::new);
                let old = put(&mut self.workloads, &format!("{resource}{key}"), new.as_ref());
                (old.map(Object::Workload), new.map(Object::Workload))
            }
            _ => (None, None),
        }
    }

    fn file_pod(&mut self, key: &str, old: Option<&Pod>, new: Option<&Pod>) {
        for (pod, change) in [(old, -1), (new, 1)] {
            let Some(pod) = pod else { continue };
            if pod.is_active()
                && let Some(set) = pod.replica_set()
            {
                let active = self.active.entry(set.uid.clone()).or_default();
                active.pods += change;
                active.ready += if pod.is_ready { change } else { 0 };
                if active.pods == 0 {
                    self.active.remove(&set.uid);
                }
            }
            let Some(node) = pod.node.as_deref().filter(|_| !pod.has_ended) else { continue };
            if change > 0 {
                self.placed.entry(node.to_owned()).or_default().insert(key.to_owned(), pod.requests.clone());
            } else if let Some(pods) = self.placed.get_mut(node) {
                pods.remove(key);
            }
        }
    }

    /// The `ReplicaSet` that controls a pod.
    pub fn replica_set_of(&self, pod: &Pod) -> Option<&ReplicaSet> {
        let owner = pod.replica_set()?;
        let set = self.replica_sets.get(&format!("{}/{}", pod.namespace, owner.name))?;
        (set.uid == owner.uid).then_some(&**set)
    }

    /// The Deployment that controls a `ReplicaSet`.
    pub fn deployment_of(&self, set: &ReplicaSet) -> Option<&Workload> {
        let owner = set.deployment()?;
        let deployment = self.workloads.get(&format!("apps/deployments/{}/{}", set.namespace, owner.name))?;
        (deployment.uid == owner.uid).then_some(&**deployment)
    }

    /// The `ReplicaSets` of a Deployment, by its UID.
    pub fn sets_of(&self, deployment: &str) -> impl Iterator<Item = &ReplicaSet> {
        self.sets.get(deployment).into_iter().flatten().filter_map(|key| self.replica_sets.get(key).map(|set| &**set))
    }

    /// Pods of a `ReplicaSet`, by its UID, that neither ended nor are asked to end.
    pub fn active_of(&self, set: &str) -> Active {
        self.active.get(set).copied().unwrap_or_default()
    }

    /// What the pods of a node that have not ended ask, each for itself.
    pub fn asked_of(&self, node: &str) -> impl Iterator<Item = &ResourceList> {
        self.placed.get(node).into_iter().flat_map(BTreeMap::values).map(|requests| &**requests)
    }

    /// Whether every node is Ready, takes pods, and drives none away.
    pub fn all_healthy(&self) -> bool {
        self.unhealthy.is_empty()
    }
}

fn put<T>(objects: &mut BTreeMap<String, Arc<T>>, key: &str, new: Option<&Arc<T>>) -> Option<Arc<T>> {
    match new {
        Some(new) => objects.insert(key.to_owned(), new.clone()),
        None => objects.remove(key),
    }
}

/// Moves a key from one heading to another.
fn refile(index: &mut BTreeMap<String, BTreeSet<String>>, key: &str, old: Option<&str>, new: Option<&str>) {
    if old == new {
        return;
    }
    if let Some(old) = old
        && let Some(keys) = index.get_mut(old)
    {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(old);
        }
    }
    if let Some(new) = new {
        index.entry(new.to_owned()).or_default().insert(key.to_owned());
    }
}
