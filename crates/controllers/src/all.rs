//! The list of controllers.
//!
//! Source of the names: kubernetes cmd/kube-controller-manager/names/controller_names.go; of the
//! worker counts: pkg/controller/*/config/v1alpha1/defaults.go.

use crate::shell::Context;

/// One controller.
pub struct Entry {
    /// Its name, as `--controllers` and the user agent spell it.
    pub name: &'static str,
    /// Component name in its events.
    pub event_source: &'static str,
    /// Workers when the configuration says nothing.
    pub workers: usize,
    /// Factor on the client's rate limit.
    pub rate_factor: f64,
    /// Registers handlers on the shared informers and starts the controller's tasks; called once,
    /// before the informers start.
    pub(crate) start: fn(Context),
}

impl Entry {
    /// The service account in `kube-system` whose rights it has (cmd/kube-controller-manager/app).
    pub fn service_account(&self) -> &'static str {
        match self.name {
            "serviceaccount-controller" => "service-account-controller",
            "root-ca-certificate-publisher-controller" => "root-ca-cert-publisher",
            "node-ipam-controller" | "node-lifecycle-controller" | "taint-eviction-controller" => "node-controller",
            "daemonset-controller" => "daemon-set-controller",
            "endpoints-controller" => "endpoint-controller",
            "pod-garbage-collector-controller" => "pod-garbage-collector",
            "garbage-collector-controller" => "generic-garbage-collector",
            name => name,
        }
    }
}

const fn entry(name: &'static str, event_source: &'static str, workers: usize, start: fn(Context)) -> Entry {
    Entry { name, event_source, workers, rate_factor: 1.0, start }
}

/// Controllers that `*` does not mean: they run only where `--controllers` names them
/// (kubernetes cmd/kube-controller-manager/app/controllermanager.go `ControllersDisabledByDefault`).
pub const DISABLED_BY_DEFAULT: &[&str] = &["rebalancer"];

/// Every controller, those first that others wait for at start-up.
pub const ALL: &[Entry] = &[
    entry("serviceaccount-controller", "serviceaccount-controller", 1, crate::service_account::start),
    entry("root-ca-certificate-publisher-controller", "root-ca-certificate-publisher", 1, crate::root_ca::start),
    entry("node-ipam-controller", "cidrAllocator", 30, crate::node_ipam::start),
    entry("node-lifecycle-controller", "node-controller", 8, crate::node_lifecycle::start),
    entry("taint-eviction-controller", "taint-eviction-controller", 8, crate::taint_eviction::start),
    entry("deployment-controller", "deployment-controller", 5, crate::deployment::start),
    entry("replicaset-controller", "replicaset-controller", 5, crate::replica_set::start),
    entry("daemonset-controller", "daemonset-controller", 2, crate::daemon_set::start),
    entry("statefulset-controller", "statefulset-controller", 5, crate::stateful_set::start),
    entry("disruption-controller", "controllermanager", 1, crate::disruption::start),
    entry("endpointslice-controller", "endpoint-slice-controller", 5, crate::endpoint_slice::start),
    entry("endpoints-controller", "endpoint-controller", 5, crate::endpoints::start),
    entry("pod-garbage-collector-controller", "pod-garbage-collector-controller", 1, crate::pod_gc::start),
    Entry {
        name: "garbage-collector-controller",
        event_source: "garbage-collector-controller",
        workers: 20,
        // The real one doubles its client's limits (cmd/kube-controller-manager/app/core.go).
        rate_factor: 2.0,
        start: crate::garbage_collector::start,
    },
    Entry {
        name: "namespace-controller",
        event_source: "namespace-controller",
        workers: 10,
        // The real one raises qps by 20 and burst by 100 (cmd/kube-controller-manager/app/core.go).
        rate_factor: 20.0,
        start: crate::namespace::start,
    },
    entry("clusterrole-aggregation-controller", "clusterrole-aggregation-controller", 5, crate::cluster_role_aggregation::start),
    entry("ttl-controller", "ttl-controller", 5, crate::ttl::start),
    entry("rebalancer", "rebalancer", 1, crate::rebalancer::start),
];
