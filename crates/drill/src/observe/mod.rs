//! What is seen of the cluster while a drill runs: informers on reduced objects, whose changes go into the record.
//!
//! Invariant: the cost of a change does not grow with the number of objects.

mod changes;
mod counts;
mod pod_status;
mod seen;

use std::sync::Arc;

use daruma_api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use daruma_api::k8s_openapi::{Metadata, Resource};
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::ObjectMeta;
use daruma_api::selector::Selector;
use daruma_client::informer::{Delta, Informer};
use daruma_client::{Client, ListOptions};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::file::{PodRef, PodsAre, Workload, WorkloadKind};
use crate::recorder::Recorder;
use changes::Changes;
use seen::{SeenEvent, SeenNode, SeenService, SeenSlice, SeenWorkload};

pub use seen::SeenPod;

/// The informers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Observer {
    pods: Informer<SeenPod>,
    nodes: Informer<SeenNode>,
    services: Informer<SeenService>,
    deployments: Informer<SeenWorkload<Deployment>>,
    stateful_sets: Informer<SeenWorkload<StatefulSet>>,
    daemon_sets: Informer<SeenWorkload<DaemonSet>>,
    replica_sets: Informer<SeenWorkload<ReplicaSet>>,
    changes: Arc<Changes>,
}

/// How a workload is, by its own status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub desired: u32,
    pub updated: u32,
    pub available: u32,
    pub total: u32,
    /// Whether its controller has seen its specification.
    pub current: bool,
}

impl Progress {
    /// Whether all is up to date and available, and nothing is left over.
    pub fn is_complete(self) -> bool {
        self.current && self.updated >= self.desired && self.available >= self.desired && self.total <= self.desired
    }
}

impl Observer {
    /// Starts to look; completes when all has been seen once.
    pub async fn start(client: &Client, recorder: &Recorder) -> Self {
        fn informer<K>(client: &Client) -> Informer<K>
        where
            K: Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
        {
            Informer::new(client.all::<K>(), ListOptions { resource_version: Some("0".to_owned()), ..ListOptions::default() })
        }
        let changes = Arc::new(Changes::new(recorder));
        let observer = Self {
            pods: informer(client),
            nodes: informer(client),
            services: informer(client),
            deployments: informer(client),
            stateful_sets: informer(client),
            daemon_sets: informer(client),
            replica_sets: informer(client),
            changes: changes.clone(),
        };
        macro_rules! watch {
            ($informer:expr, $changes:ident, $delta:ident => $do:expr) => {{
                let $changes = changes.clone();
                $informer.on_delta(move |$delta| $do);
                $informer.start();
            }};
        }
        let (events, slices) = (informer::<SeenEvent>(client), informer::<SeenSlice>(client));
        watch!(observer.nodes, changes, delta => changes.node(delta));
        watch!(observer.deployments, changes, delta => changes.workload(WorkloadKind::Deployment, delta));
        watch!(observer.stateful_sets, changes, delta => changes.workload(WorkloadKind::StatefulSet, delta));
        watch!(observer.daemon_sets, changes, delta => changes.workload(WorkloadKind::DaemonSet, delta));
        watch!(observer.replica_sets, changes, delta => changes.workload(WorkloadKind::ReplicaSet, delta));
        watch!(observer.pods, changes, delta => changes.pod(delta));
        watch!(slices, changes, delta => changes.slice(delta));
        watch!(events, changes, delta => if !matches!(delta, Delta::Deleted(_)) { changes.event(delta.object()) });
        observer.services.start();
        observer.services.wait_synced().await;
        observer.nodes.wait_synced().await;
        observer.deployments.wait_synced().await;
        observer.stateful_sets.wait_synced().await;
        observer.daemon_sets.wait_synced().await;
        observer.replica_sets.wait_synced().await;
        observer.pods.wait_synced().await;
        slices.wait_synced().await;
        events.wait_synced().await;
        observer
    }

    /// Writes down how everything is, once the record has begun.
    pub fn write_down(&self) {
        self.changes.write_down();
    }

    /// Completes after the next change (or one that nobody waited for).
    pub async fn changed(&self) {
        self.changes.changed().await;
    }

    /// Nodes whose labels match, by name.
    pub fn nodes_selected(&self, selector: &Selector) -> Vec<String> {
        let nodes = self.nodes.list();
        let selected = nodes.iter().filter(|node| selector.matches(node.metadata.labels.as_ref()));
        selected.map(|node| node.name().to_owned()).collect()
    }

    /// Names of all nodes.
    pub fn nodes(&self) -> Vec<String> {
        self.nodes.list().iter().map(|node| node.name().to_owned()).collect()
    }

    /// Whether the node's condition Ready is True; `None` where there is no such node.
    pub fn is_ready(&self, node: &str) -> Option<bool> {
        let node = self.nodes.get("", node)?;
        Some(node.status.conditions.iter().any(|one| one.kind == "Ready" && one.status == "True"))
    }

    /// A node's address inside the cluster.
    pub fn address(&self, node: &str) -> Option<String> {
        let node = self.nodes.get("", node)?;
        node.status.addresses.iter().find(|one| one.kind == "InternalIP").map(|one| one.address.clone())
    }

    /// A service.
    pub fn service(&self, namespace: &str, name: &str) -> Option<Arc<SeenService>> {
        self.services.get(namespace, name)
    }

    /// The pods that are described, by name. Pods being deleted do not count, unless they are named.
    ///
    /// # Errors
    /// The selector is none.
    pub fn pods_of(&self, pod: &PodRef) -> Result<Vec<Arc<SeenPod>>, String> {
        if let Some(name) = &pod.name {
            return Ok(self.pods.get(&pod.namespace, name).into_iter().collect());
        }
        let selector = pod.selector.as_deref().map(Selector::parse).transpose().map_err(|error| error.to_string())?;
        let namespace = pod.workload.as_ref().map_or(&pod.namespace, |workload| &workload.namespace);
        let mut pods = self.pods.list_namespace(namespace);
        pods.retain(|one| {
            !one.is_being_deleted()
                && selector.as_ref().is_none_or(|selector| selector.matches(one.metadata.labels.as_ref()))
                && pod.workload.as_ref().is_none_or(|workload| one.is_of(workload))
                && pod.node.as_ref().is_none_or(|node| one.spec.node_name == *node)
        });
        Ok(pods)
    }

    /// How many pods are as described.
    ///
    /// # Errors
    /// The selector is none.
    pub fn count(&self, pods: &PodsAre) -> Result<u64, String> {
        let selector = pods.selector.as_deref().map(Selector::parse).transpose().map_err(|error| error.to_string())?;
        let namespace = pods.workload.as_ref().map_or(&pods.namespace, |workload| &workload.namespace);
        let all = self.pods.list_namespace(namespace);
        let found = all.iter().filter(|one| {
            selector.as_ref().is_none_or(|selector| selector.matches(one.metadata.labels.as_ref()))
                && pods.workload.as_ref().is_none_or(|workload| one.is_of(workload))
                && pods.node.as_ref().is_none_or(|node| one.spec.node_name == *node)
                && pods.ready.is_none_or(|ready| one.is_ready() == ready)
                && (pods.status.is_empty() || pods.status.contains(&one.shown().status))
        });
        Ok(found.count() as u64)
    }

    /// All pods on a node.
    pub fn pods_on(&self, node: &str) -> Vec<Arc<SeenPod>> {
        let mut pods = self.pods.list();
        pods.retain(|pod| pod.spec.node_name == node);
        pods
    }

    /// One pod.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<Arc<SeenPod>> {
        self.pods.get(namespace, name)
    }

    /// How a workload is; `None` where it is not there.
    pub fn progress(&self, workload: &Workload) -> Option<Progress> {
        let (namespace, name) = (&workload.namespace, &workload.name);
        match workload.kind {
            WorkloadKind::Deployment => self.deployments.get(namespace, name).map(|one| one.progress()),
            WorkloadKind::StatefulSet => self.stateful_sets.get(namespace, name).map(|one| one.progress()),
            WorkloadKind::DaemonSet => self.daemon_sets.get(namespace, name).map(|one| one.progress()),
            WorkloadKind::ReplicaSet => self.replica_sets.get(namespace, name).map(|one| one.progress()),
        }
    }

    /// Workloads that are not complete, and nodes that are not ready, of those that must be; in words.
    pub fn unsettled(&self, nodes: &[String]) -> Vec<String> {
        let mut found: Vec<String> =
            nodes.iter().filter(|node| self.is_ready(node) == Some(false)).map(|node| format!("node/{node}")).collect();
        found.extend(self.deployments.list().iter().filter(|one| !one.progress().is_complete()).map(|one| one.key()));
        found.extend(self.stateful_sets.list().iter().filter(|one| !one.progress().is_complete()).map(|one| one.key()));
        found.extend(self.daemon_sets.list().iter().filter(|one| !one.progress().is_complete()).map(|one| one.key()));
        let leaving = self.pods.list().into_iter().filter(|pod| pod.is_being_deleted());
        found.extend(leaving.map(|pod| format!("pod/{} is Terminating", pod.name())));
        found
    }
}

impl<K: Resource> SeenWorkload<K> {
    pub(crate) fn progress(&self) -> Progress {
        let (spec, status) = (&self.spec, &self.status);
        let current = status.observed_generation >= self.metadata.generation.unwrap_or_default();
        match K::KIND {
            "DaemonSet" => Progress {
                desired: status.desired_number_scheduled,
                updated: status.updated_number_scheduled,
                available: status.number_available,
                total: 0,
                current,
            },
            // A ReplicaSet's pods are not updated when its template changes.
            "ReplicaSet" => Progress {
                desired: spec.replicas.unwrap_or(1),
                updated: status.replicas,
                available: status.available_replicas,
                total: status.replicas,
                current,
            },
            _ => Progress {
                desired: spec.replicas.unwrap_or(1),
                updated: status.updated_replicas,
                available: status.available_replicas,
                total: status.replicas,
                current,
            },
        }
    }

    /// What its specification (for a DaemonSet: the number of its nodes) asks for.
    pub(crate) fn desired(&self) -> u32 {
        self.progress().desired
    }
}
