//! What a kubelet is told at its start.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use daruma_api::core::v1::Taint;
use daruma_api::quantity::Quantity;

use crate::eviction::threshold::{Signal, Threshold, parse_thresholds};

/// A kubelet's settings. Defaults: kubernetes pkg/kubelet/apis/config/v1beta1/defaults.go.
#[derive(Debug, Clone)]
pub struct KubeletConfig {
    /// Name of the Node object.
    pub node_name: String,
    /// The node's address; the hardware's first where `None`.
    pub node_ip: Option<IpAddr>,
    /// Where pods' directories are.
    pub root_dir: PathBuf,
    /// Where containers' logs are.
    pub pod_logs_dir: PathBuf,
    /// Where static pod manifests are; none are read where `None`.
    pub static_pod_path: Option<PathBuf>,
    /// The node's own resolver configuration.
    pub resolv_conf: PathBuf,
    /// Addresses of the cluster's DNS.
    pub cluster_dns: Vec<String>,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// Whether the Node object is made where it is missing.
    pub register_node: bool,
    /// Labels set when the node registers (and kept up to date later).
    pub node_labels: BTreeMap<String, String>,
    /// Taints set when the node registers.
    pub register_with_taints: Vec<Taint>,
    /// Most pods on the node.
    pub max_pods: u32,
    /// Most tasks in one pod; no limit where `None`.
    pub pod_pids_limit: Option<u64>,
    /// Port of the server, as the Node object tells it.
    pub port: u16,
    /// Duration of the node's lease; it is renewed after a quarter of it.
    pub node_lease_duration: Duration,
    /// How often the node's status is computed.
    pub node_status_update_frequency: Duration,
    /// How often an unchanged node status is sent.
    pub node_status_report_frequency: Duration,
    /// Tells clients how late a pod may follow its objects at most; here it follows at once.
    pub sync_frequency: Duration,
    /// How often containers are listed where no event comes.
    pub relist_frequency: Duration,
    /// How often the manifest directory is read while there are manifests; one without is read every 10 s.
    pub file_check_frequency: Duration,
    /// Longest wait between two starts of a failing container (1 to 300 s).
    pub max_container_restart_period: Duration,
    /// When pods are evicted ([`crate::parse_thresholds`]).
    pub eviction: Vec<Threshold>,
    /// Longest grace of a pod that a soft threshold ends, in seconds.
    pub eviction_max_pod_grace_period_seconds: i64,
    /// How long a pressure condition is held.
    pub eviction_pressure_transition_period: Duration,
    /// How long the node delays its machine's shutdown so that pods can end; zero leaves them to the machine.
    pub shutdown_grace_period: Duration,
    /// What of it is kept for critical pods, which end last.
    pub shutdown_grace_period_critical_pods: Duration,
    /// Whether the server asks the API who may do what. Without it every verified client certificate may do everything.
    pub authorize: bool,
    /// Whether probes and hooks of scheme HTTPS speak TLS. Not where nobody could listen in: in a virtual world.
    pub tls_probes: bool,
    /// A clamp for the kernel's out-of-memory preference, where lower values may not be set.
    pub oom_score_adj_floor: i32,
    /// Events a second and at once.
    pub event_qps: f64,
    /// Events at once.
    pub event_burst: u32,
}

impl KubeletConfig {
    /// The defaults for a node of this name.
    pub fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.to_owned(),
            node_ip: None,
            root_dir: "/var/lib/kubelet".into(),
            pod_logs_dir: "/var/log/pods".into(),
            static_pod_path: None,
            resolv_conf: "/etc/resolv.conf".into(),
            cluster_dns: vec!["10.96.0.10".into()],
            cluster_domain: "cluster.local".into(),
            register_node: true,
            node_labels: BTreeMap::new(),
            register_with_taints: Vec::new(),
            max_pods: 110,
            pod_pids_limit: None,
            port: 10250,
            node_lease_duration: Duration::from_secs(40),
            node_status_update_frequency: Duration::from_secs(10),
            node_status_report_frequency: Duration::from_secs(300),
            sync_frequency: Duration::from_secs(60),
            relist_frequency: Duration::from_secs(300),
            file_check_frequency: Duration::from_secs(1),
            max_container_restart_period: Duration::from_secs(300),
            eviction: parse_thresholds(None, "", "").expect("the defaults are well-formed"),
            eviction_max_pod_grace_period_seconds: 0,
            eviction_pressure_transition_period: Duration::from_secs(300),
            shutdown_grace_period: Duration::ZERO,
            shutdown_grace_period_critical_pods: Duration::ZERO,
            authorize: true,
            tls_probes: true,
            oom_score_adj_floor: -999,
            event_qps: 50.0,
            event_burst: 100,
        }
    }

    /// What the hard threshold of a signal keeps free of a capacity; zero without one
    /// (kubernetes pkg/kubelet/cm/node_container_manager_linux.go, hardEvictionReservation).
    pub fn reserved(&self, signal: Signal, capacity: i64) -> Quantity {
        let hard = self.eviction.iter().find(|threshold| threshold.signal == signal && threshold.is_hard());
        hard.map_or(Quantity::ZERO, |threshold| threshold.amount.of(capacity))
    }

    /// Directory of one pod.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root_dir.join("pods").join(uid)
    }

    /// Directory of one pod's logs.
    pub fn pod_log_dir(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.pod_logs_dir.join(format!("{namespace}_{name}_{uid}"))
    }
}
