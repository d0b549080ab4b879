//! The scheduler's picture of the cluster: nodes with their pods, and pods assumed to be bound.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_api::core::v1::{Node, Pod};
use daruma_api::meta::ObjectExt;
use daruma_api::selector::Selector;

use crate::node_info::{Likeness, NodeInfo, PodInfo};

/// Nodes by name. Pods of an unknown node are kept for when it appears.
#[derive(Default)]
pub struct Cache {
    nodes: BTreeMap<String, NodeInfo>,
    /// Node of every pod known, by pod key.
    places: BTreeMap<String, String>,
    /// How many nodes hold an image.
    image_nodes: BTreeMap<String, usize>,
    /// How many pods have a priority.
    priorities: BTreeMap<i32, usize>,
    /// What pods have in common, by namespace and labels.
    alike: BTreeMap<String, BTreeMap<BTreeMap<String, String>, Alike>>,
}

/// Pods that are alike.
struct Alike {
    likeness: Arc<Likeness>,
    /// How many of them are on a node, by its name.
    nodes: BTreeMap<String, usize>,
}

impl Cache {
    /// The nodes that exist, in name order.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values().filter(|info| info.node.is_some())
    }

    /// One node.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(name).filter(|info| info.node.is_some())
    }

    /// How many nodes hold an image of this name.
    pub fn nodes_with_image(&self, image: &str) -> usize {
        self.image_nodes.get(image).copied().unwrap_or(0)
    }

    /// The nodes that exist and have pods of the namespace with labels that the selector takes, with what those have
    /// in common; a node is named once for each kind of such pods.
    pub fn holders(&self, namespace: &str, selector: &Selector) -> impl Iterator<Item = (&Arc<Likeness>, &NodeInfo)> {
        let of_namespace = self.alike.get(namespace).into_iter().flatten();
        let taken = of_namespace.filter(|(labels, _)| selector.matches(Some(labels))).map(|(_, alike)| alike);
        taken.flat_map(|alike| alike.nodes.keys().filter_map(|name| Some((&alike.likeness, self.node(name)?))))
    }

    /// Takes over a node's new state.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let info = self.nodes.entry(node.name().to_owned()).or_default();
        let before = std::mem::take(&mut info.images);
        info.set_node(node);
        if before != info.images {
            for name in before.keys() {
                if let Some(count) = self.image_nodes.get_mut(name) {
                    *count -= 1;
                }
            }
            for name in info.images.keys() {
                *self.image_nodes.entry(name.clone()).or_default() += 1;
            }
            self.image_nodes.retain(|_, count| *count > 0);
        }
    }

    /// Forgets a node; its pods stay until they are removed themselves.
    pub fn remove_node(&mut self, name: &str) {
        let Some(info) = self.nodes.get_mut(name) else { return };
        info.node = None;
        for image in std::mem::take(&mut info.images).into_keys() {
            if let Some(count) = self.image_nodes.get_mut(&image) {
                *count -= 1;
            }
        }
        self.image_nodes.retain(|_, count| *count > 0);
        if info.pods.is_empty() {
            self.nodes.remove(name);
        }
    }

    /// Puts a pod on a node, be it bound or assumed to be; replaces what was known of it.
    pub fn place(&mut self, pod: Arc<Pod>, node: &str) {
        let key = pod.key();
        if self.places.get(&key).is_some_and(|before| before != node) {
            self.remove_pod(&key);
        }
        let info = self.nodes.entry(node.to_owned()).or_default();
        let (before, alike_before) = info.pods.get(&key).map(|before| (before.priority(), before.alike.clone())).unzip();
        let mut fresh = PodInfo::new(pod);
        let alike = self.alike.entry(fresh.alike.namespace.clone()).or_default();
        if let Some(known) = alike.get_mut(&fresh.alike.labels) {
            fresh.alike = known.likeness.clone();
            match known.nodes.get_mut(node) {
                Some(count) => *count += 1,
                None => drop(known.nodes.insert(node.to_owned(), 1)),
            }
        } else {
            let first = Alike { likeness: fresh.alike.clone(), nodes: BTreeMap::from([(node.to_owned(), 1)]) };
            alike.insert(fresh.alike.labels.clone(), first);
        }
        let fresh = Arc::new(fresh);
        self.places.insert(key, node.to_owned());
        *self.priorities.entry(fresh.priority()).or_default() += 1;
        info.add_pod(fresh);
        self.forget_priority(before);
        self.forget_likeness(alike_before, node);
    }

    fn forget_priority(&mut self, priority: Option<i32>) {
        let Some(priority) = priority else { return };
        if let Some(count) = self.priorities.get_mut(&priority) {
            *count -= 1;
            if *count == 0 {
                self.priorities.remove(&priority);
            }
        }
    }

    /// The lowest priority of any pod on a node.
    pub fn lowest_priority(&self) -> Option<i32> {
        self.priorities.keys().next().copied()
    }

    /// Takes a pod away.
    pub fn remove_pod(&mut self, key: &str) {
        let Some(node) = self.places.remove(key) else { return };
        if let Some(info) = self.nodes.get_mut(&node) {
            let priority = info.pods.get(key).map(|pod| pod.priority());
            let alike = info.pods.get(key).map(|pod| pod.alike.clone());
            info.remove_pod(key);
            if info.node.is_none() && info.pods.is_empty() {
                self.nodes.remove(&node);
            }
            self.forget_priority(priority);
            self.forget_likeness(alike, &node);
        }
    }

    /// A pod of this kind is no longer on the node, or no longer of this kind.
    fn forget_likeness(&mut self, alike: Option<Arc<Likeness>>, node: &str) {
        let Some(alike) = alike else { return };
        let Some(kinds) = self.alike.get_mut(&alike.namespace) else { return };
        let Some(kind) = kinds.get_mut(&alike.labels) else { return };
        if let Some(count) = kind.nodes.get_mut(node) {
            *count -= 1;
            if *count == 0 {
                kind.nodes.remove(node);
            }
        }
        if kind.nodes.is_empty() {
            kinds.remove(&alike.labels);
            if kinds.is_empty() {
                self.alike.remove(&alike.namespace);
            }
        }
    }

    /// Where a pod is, as far as known.
    pub fn place_of(&self, key: &str) -> Option<&str> {
        self.places.get(key).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_pods_have_in_common_goes_with_the_last_of_them() {
        let pod = |name: &str, app: &str| -> Arc<Pod> {
            let pod = json!({"metadata": {"name": name, "namespace": "d", "labels": {"app": app}}, "spec": {"containers": []}});
            serde_json::from_value(pod).expect("a pod")
        };
        let mut cache = Cache::default();
        let known = |cache: &Cache| cache.alike.values().map(BTreeMap::len).sum::<usize>();
        cache.place(pod("a", "x"), "n");
        cache.place(pod("b", "x"), "m");
        assert_eq!(known(&cache), 1);
        cache.place(pod("a", "y"), "n");
        assert_eq!(known(&cache), 2);
        cache.place(pod("b", "y"), "m");
        assert_eq!(known(&cache), 1);
        let nodes = |cache: &Cache| -> Vec<(String, usize)> {
            cache.alike.values().flat_map(BTreeMap::values).flat_map(|kind| kind.nodes.clone()).collect()
        };
        assert_eq!(nodes(&cache), [("m".to_owned(), 1), ("n".to_owned(), 1)]);
        cache.place(pod("b", "y"), "n");
        assert_eq!(nodes(&cache), [("n".to_owned(), 2)], "the pod is elsewhere now");
        cache.remove_pod("d/a");
        assert_eq!(nodes(&cache), [("n".to_owned(), 1)]);
        cache.remove_pod("d/b");
        assert!(cache.alike.is_empty());
    }
}
