//! What kube-controller-manager's flags set.
//!
//! Source of the defaults: kubernetes pkg/controller/*/config/v1alpha1/defaults.go.

use std::collections::BTreeMap;
use std::time::Duration;

use daruma_client::RateLimit;

/// Settings of the controllers; [`Default`] gives the real component's defaults.
#[derive(Debug, Clone)]
pub struct ControllerManagerConfig {
    /// Which controllers run: `*` for all that run by default, `NAME`, `-NAME` (`--controllers`).
    pub controllers: Vec<String>,
    /// `--kube-api-qps`, of every controller's client.
    pub kube_api_qps: f64,
    /// `--kube-api-burst`, of every controller's client.
    pub kube_api_burst: u32,
    /// How often node health is looked at (`--node-monitor-period`).
    pub node_monitor_period: Duration,
    /// Silence after which a node is Unknown (`--node-monitor-grace-period`).
    pub node_monitor_grace_period: Duration,
    /// The same for a node that never posted a status (`--node-startup-grace-period`).
    pub node_startup_grace_period: Duration,
    /// Nodes a second that get NoExecute taints in a healthy zone (`--node-eviction-rate`).
    pub node_eviction_rate: f64,
    /// The same in an unhealthy zone (`--secondary-node-eviction-rate`).
    pub secondary_node_eviction_rate: f64,
    /// Nodes above which the secondary rate is used instead of none (`--large-cluster-size-threshold`).
    pub large_cluster_size_threshold: usize,
    /// Share of nodes not ready that makes a zone unhealthy (`--unhealthy-zone-threshold`).
    pub unhealthy_zone_threshold: f64,
    /// Whether nodes get pod ranges (`--allocate-node-cidrs`).
    pub allocate_node_cidrs: bool,
    /// The pods' range (`--cluster-cidr`).
    pub cluster_cidr: String,
    /// The services' range, left out of the pods' (`--service-cluster-ip-range`).
    pub service_cluster_ip_range: String,
    /// Prefix length of a node's range (`--node-cidr-mask-size`).
    pub node_cidr_mask_size: u8,
    /// PEM published as `kube-root-ca.crt`; empty publishes nothing (`--root-ca-file`).
    pub root_ca: String,
    /// Terminated pods kept before the oldest are deleted; 0 or less keeps all (`--terminated-pod-gc-threshold`).
    pub terminated_pod_gc_threshold: i64,
    /// Endpoints in one slice (`--max-endpoints-per-slice`).
    pub max_endpoints_per_slice: usize,
    /// How long changes of pods are gathered before endpoints are written (`--endpoint-updates-batch-period`).
    pub endpoint_updates_batch_period: Duration,
    /// How often a namespace that is being deleted is first looked at after an event.
    pub namespace_deletion_delay: Duration,
    /// Workers of a controller, where other than its default, by controller name.
    pub concurrent_syncs: BTreeMap<String, usize>,
}

impl Default for ControllerManagerConfig {
    fn default() -> Self {
        Self {
            controllers: vec!["*".to_owned()],
            kube_api_qps: 20.0,
            kube_api_burst: 30,
            node_monitor_period: Duration::from_secs(5),
            node_monitor_grace_period: Duration::from_secs(50),
            node_startup_grace_period: Duration::from_secs(60),
            node_eviction_rate: 0.1,
            secondary_node_eviction_rate: 0.01,
            large_cluster_size_threshold: 50,
            unhealthy_zone_threshold: 0.55,
            allocate_node_cidrs: true,
            cluster_cidr: "10.244.0.0/16".to_owned(),
            service_cluster_ip_range: "10.96.0.0/12".to_owned(),
            node_cidr_mask_size: 24,
            root_ca: String::new(),
            terminated_pod_gc_threshold: 12_500,
            max_endpoints_per_slice: 100,
            endpoint_updates_batch_period: Duration::ZERO,
            namespace_deletion_delay: Duration::from_secs(5),
            concurrent_syncs: BTreeMap::new(),
        }
    }
}

impl ControllerManagerConfig {
    /// Whether the controller of this name runs. An exact name wins over `*`, which leaves out those that
    /// are [disabled by default](crate::all::DISABLED_BY_DEFAULT).
    pub fn enables(&self, name: &str) -> bool {
        if self.controllers.iter().any(|one| one == name) {
            return true;
        }
        if self.controllers.iter().any(|one| one.strip_prefix('-') == Some(name)) {
            return false;
        }
        self.controllers.iter().any(|one| one == "*") && !crate::all::DISABLED_BY_DEFAULT.contains(&name)
    }

    /// The rate limit of one controller's client.
    pub fn rate_limit(&self) -> RateLimit {
        RateLimit { qps: self.kube_api_qps, burst: self.kube_api_burst }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(controllers: &[&str], name: &str, enabled: bool) {
        let controllers = controllers.iter().map(|one| (*one).to_owned()).collect();
        let config = ControllerManagerConfig { controllers, ..ControllerManagerConfig::default() };
        assert_eq!(config.enables(name), enabled, "{name}");
    }

    #[test]
    fn selects_controllers() {
        check(&["*"], "ttl-controller", true);
        check(&["*", "-ttl-controller"], "ttl-controller", false);
        check(&["ttl-controller"], "ttl-controller", true);
        check(&["ttl-controller"], "deployment-controller", false);
        check(&["*"], "rebalancer", false);
        check(&["*", "rebalancer"], "rebalancer", true);
        check(&["*", "rebalancer"], "ttl-controller", true);
    }
}
