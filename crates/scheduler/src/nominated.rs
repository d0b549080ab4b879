//! Pods that were promised a place on a node: others were asked to leave it for them.
//!
//! Source: kubernetes pkg/scheduler/backend/queue/nominator.go.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_api::meta::ObjectExt;

use crate::node_info::PodInfo;

/// Promised places.
#[derive(Debug, Clone, Default)]
pub struct Nominated {
    /// Pods by node, then by key.
    by_node: BTreeMap<String, BTreeMap<String, Arc<PodInfo>>>,
    /// Node by pod key.
    places: BTreeMap<String, String>,
}

impl Nominated {
    /// Promises a place; an earlier promise is taken back.
    pub fn set(&mut self, pod: Arc<PodInfo>, node: &str) {
        let key = pod.pod.key();
        self.remove(&key);
        self.places.insert(key.clone(), node.to_owned());
        self.by_node.entry(node.to_owned()).or_default().insert(key, pod);
    }

    /// Takes a promise back, where there is one.
    pub fn remove(&mut self, key: &str) {
        let Some(node) = self.places.remove(key) else { return };
        if let Some(pods) = self.by_node.get_mut(&node) {
            pods.remove(key);
            if pods.is_empty() {
                self.by_node.remove(&node);
            }
        }
    }

    /// The node that a pod was promised.
    pub fn node_of(&self, key: &str) -> Option<&str> {
        self.places.get(key).map(String::as_str)
    }

    /// Whether nobody was promised anything.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Pods promised a place on the node.
    pub fn on(&self, node: &str) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.by_node.get(node).into_iter().flat_map(BTreeMap::values)
    }

    /// Pods promised a place on the node to which `pod` has to yield: of its own or a higher priority.
    pub fn before(&self, node: &str, pod: &PodInfo) -> Vec<Arc<PodInfo>> {
        let ahead = |other: &&Arc<PodInfo>| other.priority() >= pod.priority() && other.pod.uid() != pod.pod.uid();
        self.on(node).filter(ahead).cloned().collect()
    }
}
