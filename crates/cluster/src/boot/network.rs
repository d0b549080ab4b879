//! `kube-proxy`, `network-agent` and `dns`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use daruma_client::{Client, RateLimit};
use daruma_network::{agent, dns, proxy};
use daruma_world::links::Prefix;

use super::{BootError, connection, health};
use crate::platform::Platform;
use crate::shape::{CLUSTER_DOMAIN, DNS_SERVICE_IP, POD_CIDR, SERVICE_CIDR};

/// Flags of kube-proxy, named as the real one names them.
#[derive(Debug, Args)]
pub struct ProxyFlags {
    /// How to reach the API server.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Name of this node.
    #[arg(long)]
    hostname_override: String,
    /// The pod network.
    #[arg(long, default_value = POD_CIDR)]
    cluster_cidr: String,
    /// The network of services.
    #[arg(long, default_value = SERVICE_CIDR)]
    service_cidr: String,
    /// Where health is told.
    #[arg(long, default_value = "0.0.0.0:10256")]
    healthz_bind_address: SocketAddr,
    /// Where metrics are told.
    #[arg(long, default_value = "127.0.0.1:10249")]
    metrics_bind_address: SocketAddr,
}

/// Runs kube-proxy until the process ends.
pub(super) async fn run_proxy(platform: Arc<dyn Platform>, flags: ProxyFlags) -> Result<(), BootError> {
    let world = platform.world();
    let client = client(&platform, &flags.kubeconfig, "kube-proxy")?;
    let told = proxy::Health::new(&world);
    for address in [flags.healthz_bind_address, flags.metrics_bind_address] {
        let told = told.clone();
        health::serve_plain(&*platform, address, Arc::new(move |request, _| told.handle(request)));
    }
    let pod_range = range("--cluster-cidr", &flags.cluster_cidr)?;
    let service_range = range("--service-cidr", &flags.service_cidr)?;
    let config =
        proxy::Config { node_name: flags.hostname_override, pod_range: Some(pod_range), service_range: Some(service_range) };
    proxy::run(world, client, platform.packet_rules(), config, told).await;
    Ok(())
}

/// Flags of the pod network agent.
#[derive(Debug, Args)]
pub struct AgentFlags {
    /// How to reach the API server.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Name of this node.
    #[arg(long)]
    node_name: String,
    /// The pod network.
    #[arg(long, default_value = POD_CIDR)]
    cluster_cidr: String,
    /// The network of services.
    #[arg(long, default_value = SERVICE_CIDR)]
    service_cidr: String,
    /// The file that tells the container engine that pods can be attached.
    #[arg(long, default_value = "/etc/cni/net.d/10-daruma.conf")]
    conf_file: PathBuf,
}

/// Runs the agent until the process ends.
pub(super) async fn run_agent(platform: Arc<dyn Platform>, flags: AgentFlags) -> Result<(), BootError> {
    let world = platform.world();
    let client = client(&platform, &flags.kubeconfig, "daruma-network")?;
    let config = agent::Config {
        node_name: flags.node_name,
        pod_range: range("--cluster-cidr", &flags.cluster_cidr)?,
        service_range: range("--service-cidr", &flags.service_cidr)?,
        file: flags.conf_file,
        set_node_condition: true,
    };
    agent::run(world, client, platform.links(), platform.packet_rules(), config).await;
    Ok(())
}

/// Flags of the cluster's name server.
#[derive(Debug, Args)]
pub struct DnsFlags {
    /// How to reach the API server.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Domain of services.
    #[arg(long, default_value = CLUSTER_DOMAIN)]
    cluster_domain: String,
}

/// Runs the name server until the process ends.
pub(super) async fn run_dns(platform: Arc<dyn Platform>, flags: DnsFlags) -> Result<(), BootError> {
    let world = platform.world();
    let client = client(&platform, &flags.kubeconfig, "coredns")?;
    let told = dns::Health::new();
    let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    for port in [8080, 8181, 9153] {
        let told = told.clone();
        health::serve_plain(&*platform, SocketAddr::new(any, port), Arc::new(move |request, _| told.handle(request)));
    }
    let config = dns::Config {
        domain: flags.cluster_domain,
        listen: SocketAddr::new(any, 53),
        own_service: ("kube-system".into(), "kube-dns".into()),
        own_addresses: vec![DNS_SERVICE_IP.parse().expect("a constant address")],
        resolv_conf: "/etc/resolv.conf".into(),
    };
    dns::run(world, client, config, told).await.map_err(BootError::Names)
}

fn client(platform: &Arc<dyn Platform>, kubeconfig: &Path, name: &str) -> Result<Client, BootError> {
    connection::client(platform, kubeconfig, name, RateLimit { qps: 50.0, burst: 100 })
}

fn range(flag: &str, text: &str) -> Result<Prefix, BootError> {
    text.parse().map_err(|error| BootError::Flag(format!("{flag}: {error}")))
}
