//! The informers that all controllers of one process share.

use daruma_api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use daruma_api::coordination::v1::Lease;
use daruma_api::core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount};
use daruma_api::discovery::v1::EndpointSlice;
use daruma_api::meta::ObjectExt;
use daruma_api::policy::v1::PodDisruptionBudget;
use daruma_api::rbac::v1::ClusterRole;
use daruma_client::informer::Informer;
use daruma_client::{Client, ListOptions};

use crate::pods;

/// Index of pods by the node they are bound to.
pub(crate) const BY_NODE: &str = "node";
/// Index of objects by the uid of their controller; orphans are under `namespace/NAMESPACE`.
pub(crate) const BY_CONTROLLER: &str = "controller";

/// Index of the few pods that have ended or are being deleted.
pub(crate) const PASSING: &str = "passing";

/// Name of the ConfigMap that holds the cluster's CA.
pub(crate) const ROOT_CA_CONFIG_MAP: &str = "kube-root-ca.crt";
/// Namespace of the nodes' leases.
pub(crate) const NODE_LEASES: &str = "kube-node-lease";

/// One informer a kind. Only those that some controller asked for are started.
pub(crate) struct Shared {
    pub(crate) pods: Informer<Pod>,
    pub(crate) nodes: Informer<Node>,
    pub(crate) leases: Informer<Lease>,
    pub(crate) namespaces: Informer<Namespace>,
    pub(crate) service_accounts: Informer<ServiceAccount>,
    /// Only the published root CA's.
    pub(crate) config_maps: Informer<ConfigMap>,
    pub(crate) deployments: Informer<Deployment>,
    pub(crate) replica_sets: Informer<ReplicaSet>,
    pub(crate) daemon_sets: Informer<DaemonSet>,
    pub(crate) stateful_sets: Informer<StatefulSet>,
    pub(crate) controller_revisions: Informer<ControllerRevision>,
    pub(crate) services: Informer<Service>,
    pub(crate) endpoints: Informer<Endpoints>,
    pub(crate) endpoint_slices: Informer<EndpointSlice>,
    pub(crate) cluster_roles: Informer<ClusterRole>,
    pub(crate) disruption_budgets: Informer<PodDisruptionBudget>,
}

impl Shared {
    pub(crate) fn new(client: &Client) -> Self {
        let root_ca = ListOptions { field_selector: format!("metadata.name={ROOT_CA_CONFIG_MAP}"), ..ListOptions::default() };
        let shared = Self {
            pods: Informer::new(client.all(), ListOptions::default()),
            nodes: Informer::new(client.all(), ListOptions::default()),
            leases: Informer::new(client.namespaced(NODE_LEASES), ListOptions::default()),
            namespaces: Informer::new(client.all(), ListOptions::default()),
            service_accounts: Informer::new(client.all(), ListOptions::default()),
            config_maps: Informer::new(client.all(), root_ca),
            deployments: Informer::new(client.all(), ListOptions::default()),
            replica_sets: Informer::new(client.all(), ListOptions::default()),
            daemon_sets: Informer::new(client.all(), ListOptions::default()),
            stateful_sets: Informer::new(client.all(), ListOptions::default()),
            controller_revisions: Informer::new(client.all(), ListOptions::default()),
            services: Informer::new(client.all(), ListOptions::default()),
            endpoints: Informer::new(client.all(), ListOptions::default()),
            endpoint_slices: Informer::new(client.all(), ListOptions::default()),
            cluster_roles: Informer::new(client.all(), ListOptions::default()),
            disruption_budgets: Informer::new(client.all(), ListOptions::default()),
        };
        shared.pods.add_index(BY_NODE, |pod| {
            let node = pods::node_name(pod);
            if node.is_empty() { Vec::new() } else { vec![node.to_owned()] }
        });
        shared.pods.add_index(BY_CONTROLLER, |pod| vec![controller_key(pod)]);
        shared.pods.add_index(PASSING, crate::pod_gc::passing);
        shared.replica_sets.add_index(BY_CONTROLLER, |set| vec![controller_key(set)]);
        shared
    }

    /// Starts every informer.
    pub(crate) fn start(&self) {
        self.namespaces.start();
        self.service_accounts.start();
        self.config_maps.start();
        self.nodes.start();
        self.pods.start();
        self.leases.start();
        self.daemon_sets.start();
        self.controller_revisions.start();
        self.deployments.start();
        self.replica_sets.start();
        self.stateful_sets.start();
        self.services.start();
        self.endpoint_slices.start();
        self.endpoints.start();
        self.cluster_roles.start();
        self.disruption_budgets.start();
    }

    /// The pods that `uid` controls and, where asked, those of the namespace that nobody controls.
    pub(crate) fn pods_of(&self, uid: &str, with_orphans_of: Option<&str>) -> Vec<std::sync::Arc<Pod>> {
        let mut found = self.pods.by_index(BY_CONTROLLER, uid);
        if let Some(namespace) = with_orphans_of {
            found.extend(self.pods.by_index(BY_CONTROLLER, &orphans_of(namespace)));
        }
        found
    }
}

fn controller_key<K: ObjectExt>(object: &K) -> String {
    match object.controller() {
        Some(owner) => owner.uid.clone(),
        None => orphans_of(object.namespace()),
    }
}

/// Where [`BY_CONTROLLER`] has the objects of a namespace that nobody controls.
pub(crate) fn orphans_of(namespace: &str) -> String {
    format!("namespace/{namespace}")
}
