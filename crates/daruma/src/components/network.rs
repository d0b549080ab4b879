//! `kube-proxy`, `network-agent` and `dns`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use daruma_client::{Client, RateLimit};
use daruma_cluster::shape::{CLUSTER_DOMAIN, DNS_SERVICE_IP, POD_CIDR, SERVICE_CIDR};
use daruma_host::https::{Handler, serve_http};
use daruma_host::links::LinuxLinks;
use daruma_host::packet_rules::NfTables;
use daruma_network::{agent, dns, proxy};
use daruma_world::World;

use super::connection;

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
pub async fn run_proxy(flags: ProxyFlags) -> Result<()> {
    let world = daruma_host::world::real();
    let client = client(&world, &flags.kubeconfig, "kube-proxy")?;
    let health = proxy::Health::new(&world);
    for address in [flags.healthz_bind_address, flags.metrics_bind_address] {
        let health = health.clone();
        serve(&world, address, Arc::new(move |request, _| health.handle(request)));
    }
    let pod_range = flags.cluster_cidr.parse().context("--cluster-cidr")?;
    let service_range = flags.service_cidr.parse().context("--service-cidr")?;
    let config =
        proxy::Config { node_name: flags.hostname_override, pod_range: Some(pod_range), service_range: Some(service_range) };
    proxy::run(world, client, Arc::new(NfTables::new()), config, health).await;
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
pub async fn run_agent(flags: AgentFlags) -> Result<()> {
    let world = daruma_host::world::real();
    let client = client(&world, &flags.kubeconfig, "daruma-network")?;
    let config = agent::Config {
        node_name: flags.node_name,
        pod_range: flags.cluster_cidr.parse().context("--cluster-cidr")?,
        service_range: flags.service_cidr.parse().context("--service-cidr")?,
        file: flags.conf_file,
        set_node_condition: true,
    };
    agent::run(world, client, Arc::new(LinuxLinks::new()), Arc::new(NfTables::new()), config).await;
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
pub async fn run_dns(flags: DnsFlags) -> Result<()> {
    let world = daruma_host::world::real();
    let client = client(&world, &flags.kubeconfig, "coredns")?;
    let health = dns::Health::new();
    let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    for port in [8080, 8181, 9153] {
        let health = health.clone();
        serve(&world, SocketAddr::new(any, port), Arc::new(move |request, _| health.handle(request)));
    }
    let config = dns::Config {
        domain: flags.cluster_domain,
        listen: SocketAddr::new(any, 53),
        own_service: ("kube-system".into(), "kube-dns".into()),
        own_addresses: vec![DNS_SERVICE_IP.parse().context("address of the DNS service")?],
        resolv_conf: "/etc/resolv.conf".into(),
    };
    dns::run(world, client, config, health).await.context("serving names")
}

fn client(world: &World, kubeconfig: &std::path::Path, name: &str) -> Result<Client> {
    connection::client(world, kubeconfig, name, RateLimit { qps: 50.0, burst: 100 })
}

/// Serves until the process ends; a port that cannot be had is logged, as the component's work goes on without it.
fn serve(world: &World, address: SocketAddr, handler: Handler) {
    world.spawn("health", async move {
        if let Err(error) = serve_http(address, handler).await {
            tracing::error!(%error, "no health port");
        }
    });
}
