//! `kube-controller-manager`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgAction, Args};
use daruma_client::service_account::ServiceAccountTransport;
use daruma_client::{Client, RateLimit};
use daruma_controllers::{ControllerManager, ControllerManagerConfig};

use super::leader::{self, LeaderFlags};
use super::{BootError, connection, flags, health};
use crate::kubeconfig::{Kubeconfig, User};
use crate::platform::Platform;

/// Flags of kube-controller-manager, named as the real one names them.
#[derive(Debug, Args)]
pub struct Flags {
    /// How to reach the API server.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Address of the health and metrics port.
    #[arg(long, default_value = "127.0.0.1")]
    bind_address: IpAddr,
    /// Health and metrics port.
    #[arg(long, default_value_t = 10257)]
    secure_port: u16,
    /// Queries a second to the API server, for each controller.
    #[arg(long, default_value_t = 20.0)]
    kube_api_qps: f64,
    /// Queries that may go at once, for each controller.
    #[arg(long, default_value_t = 30)]
    kube_api_burst: u32,
    /// Controllers to run: `*` for all, NAME, -NAME.
    #[arg(long, value_delimiter = ',', default_value = "*", allow_hyphen_values = true)]
    controllers: Vec<String>,
    /// How often node health is looked at.
    #[arg(long, default_value = "5s", value_parser = flags::duration)]
    node_monitor_period: Duration,
    /// A node without a heartbeat for so long is not ready.
    #[arg(long, default_value = "50s", value_parser = flags::duration)]
    node_monitor_grace_period: Duration,
    /// The same for a node that is starting.
    #[arg(long, default_value = "1m0s", value_parser = flags::duration)]
    node_startup_grace_period: Duration,
    /// Nodes a second whose pods are evicted, in a healthy zone.
    #[arg(long, default_value_t = 0.1)]
    node_eviction_rate: f64,
    /// The same in an unhealthy zone.
    #[arg(long, default_value_t = 0.01)]
    secondary_node_eviction_rate: f64,
    /// Zones up to this size stop evictions when unhealthy.
    #[arg(long, default_value_t = 50)]
    large_cluster_size_threshold: usize,
    /// Part of a zone's nodes that must be not ready for it to be unhealthy.
    #[arg(long, default_value_t = 0.55)]
    unhealthy_zone_threshold: f64,
    /// Give each node a range of the pod network.
    #[arg(long, default_value = "false", value_parser = flags::boolean, action = ArgAction::Set)]
    allocate_node_cidrs: bool,
    /// The pod network.
    #[arg(long, default_value = "10.244.0.0/16")]
    cluster_cidr: String,
    /// Prefix length of a node's range.
    #[arg(long, default_value_t = 24)]
    node_cidr_mask_size: u8,
    /// Certificate authority to be published in every namespace.
    #[arg(long)]
    root_ca_file: Option<PathBuf>,
    /// Give each controller the rights of its own service account.
    #[arg(long, default_value = "false", value_parser = flags::boolean, action = ArgAction::Set)]
    use_service_account_credentials: bool,
    /// Terminated pods kept before the oldest are deleted.
    #[arg(long, default_value_t = 12_500)]
    terminated_pod_gc_threshold: i64,
    #[command(flatten)]
    leader: LeaderFlags,
}

/// Runs until the process ends.
pub(super) async fn run(platform: Arc<dyn Platform>, flags: Flags) -> Result<(), BootError> {
    let root_ca = match &flags.root_ca_file {
        Some(path) => connection::read(&*platform, path)?,
        None => String::new(),
    };
    let config = ControllerManagerConfig {
        controllers: flags.controllers,
        kube_api_qps: flags.kube_api_qps,
        kube_api_burst: flags.kube_api_burst,
        node_monitor_period: flags.node_monitor_period,
        node_monitor_grace_period: flags.node_monitor_grace_period,
        node_startup_grace_period: flags.node_startup_grace_period,
        node_eviction_rate: flags.node_eviction_rate,
        secondary_node_eviction_rate: flags.secondary_node_eviction_rate,
        large_cluster_size_threshold: flags.large_cluster_size_threshold,
        unhealthy_zone_threshold: flags.unhealthy_zone_threshold,
        allocate_node_cidrs: flags.allocate_node_cidrs,
        cluster_cidr: flags.cluster_cidr,
        node_cidr_mask_size: flags.node_cidr_mask_size,
        root_ca,
        terminated_pod_gc_threshold: flags.terminated_pod_gc_threshold,
        ..ControllerManagerConfig::default()
    };
    let client = connection::client(&platform, &flags.kubeconfig, "kube-controller-manager", RateLimit::NONE)?;
    let mut manager = ControllerManager::new(client.clone(), config);
    if flags.use_service_account_credentials {
        // One connection for all: the tokens tell who is calling.
        let server = Kubeconfig { user: User::Anonymous, ..connection::load(&*platform, &flags.kubeconfig)? };
        let (root, transport) = (client.clone(), connection::transport(&platform, &server, false)?);
        manager = manager.with_clients(Arc::new(move |name| {
            let account = ServiceAccountTransport::new(&root, transport.clone(), "kube-system", name);
            Client::new(root.world(), Arc::new(account), name, RateLimit::NONE)
        }));
    }
    let shown = manager.clone();
    let handler = health::handler(Arc::new(move || shown.metrics_text()));
    health::serve(&*platform, flags.bind_address, flags.secure_port, "kube-controller-manager", handler)?;
    leader::run(&*platform, &client, "kube-controller-manager", &flags.leader, async move |_| manager.run().await).await
}
