//! `kubelet`: the node agent with the embedded container engine in its own process.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use daruma_api::core::v1::Taint;
use daruma_client::RateLimit;
use daruma_host::hardware::MachineHardware;
use daruma_host::https::{HttpsServer, ServerIdentity, serve_http};
use daruma_host::links::LinuxLinks;
use daruma_kubelet::{Kubelet, KubeletConfig, PeerCertificate};
use daruma_network::sandbox;
use daruma_runtime::{EmbeddedEngine, EngineConfig};

use super::{connection, flags, health, image_socket};

/// Flags of the kubelet, named as the real one names them (or its configuration file's fields).
#[derive(Debug, Args)]
pub struct Flags {
    /// How to reach the API server.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Name of this node.
    #[arg(long)]
    hostname_override: String,
    /// Address of this node.
    #[arg(long)]
    node_ip: Option<IpAddr>,
    /// Labels that the node registers with: KEY=VALUE,…
    #[arg(long, value_delimiter = ',', value_parser = label)]
    node_labels: Vec<(String, String)>,
    /// Taints that the node registers with: KEY=VALUE:EFFECT,…
    #[arg(long, value_delimiter = ',', value_parser = taint)]
    register_with_taints: Vec<Taint>,
    /// Directory of static pods.
    #[arg(long)]
    pod_manifest_path: Option<PathBuf>,
    /// Addresses of the cluster's name server.
    #[arg(long, value_delimiter = ',')]
    cluster_dns: Vec<String>,
    /// Domain of services.
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: String,
    /// Authorities of client certificates.
    #[arg(long)]
    client_ca_file: PathBuf,
    /// Serving certificate.
    #[arg(long)]
    tls_cert_file: PathBuf,
    /// Its key.
    #[arg(long)]
    tls_private_key_file: PathBuf,
    /// Port of the server.
    #[arg(long, default_value_t = 10250)]
    port: u16,
    /// Port of the health check on the loopback address.
    #[arg(long, default_value_t = 10248)]
    healthz_port: u16,
    /// Most pods on the node.
    #[arg(long, default_value_t = 110)]
    max_pods: u32,
    /// Duration of the node's lease in seconds; it is renewed after a quarter of it.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(4..=3600))]
    node_lease_duration_seconds: u32,
    /// How often the node's status is computed.
    #[arg(long, default_value = "10s", value_parser = flags::duration)]
    node_status_update_frequency: Duration,
    /// How often an unchanged node status is sent.
    #[arg(long, default_value = "5m", value_parser = flags::duration)]
    node_status_report_frequency: Duration,
    /// Longest wait between two starts of a failing container.
    #[arg(long, default_value = "5m", value_parser = flags::duration)]
    max_container_restart_period: Duration,
    /// Queries a second to the API server.
    #[arg(long, default_value_t = 50.0)]
    kube_api_qps: f64,
    /// Queries that may go at once.
    #[arg(long, default_value_t = 100)]
    kube_api_burst: u32,
    /// Directory of the built-in images.
    #[arg(long)]
    builtin_images: Option<PathBuf>,
}

/// Runs until the process ends.
pub async fn run(flags: Flags) -> Result<()> {
    let world = daruma_host::world::real();
    let read = |path: &PathBuf| fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
    let identity = ServerIdentity {
        certificate: read(&flags.tls_cert_file)?,
        key: read(&flags.tls_private_key_file)?,
        client_ca: Some(read(&flags.client_ca_file)?),
    };
    let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let server = HttpsServer::bind(SocketAddr::new(any, flags.port), &identity)?;
    let network = sandbox::PodNetwork::new(&world, Arc::new(LinuxLinks::new()), sandbox::Config::default());
    let engine = EmbeddedEngine::open(
        &world,
        EngineConfig {
            root: "/var/lib/daruma/engine".into(),
            run_dir: "/run/daruma/engine".into(),
            shim_exe: "/proc/self/exe".into(),
            network,
            builtin_images: flags.builtin_images.clone(),
            cgroup_mount: "/sys/fs/cgroup".into(),
            cgroup_root: String::new(),
            min_oom_score_adj: None,
            ca_file: None,
        },
    )
    .await
    .context("opening the container engine")?;
    let engine = Arc::new(engine);
    let images = engine.clone();
    world.spawn("images", async move {
        if let Err(error) = image_socket::serve(images).await {
            tracing::error!("images cannot be loaded: {error:#}");
        }
    });
    let limit = RateLimit { qps: flags.kube_api_qps, burst: flags.kube_api_burst };
    let client = connection::client(&world, &flags.kubeconfig, "kubelet", limit)?;
    let hardware = Arc::new(MachineHardware::read().context("reading the machine's facts")?);
    let healthz = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), flags.healthz_port);
    let kubelet = Kubelet::new(world.clone(), client, engine, hardware, config(flags));
    world.spawn("healthz", async move {
        if let Err(error) = serve_http(healthz, health::handler(Arc::new(String::new))).await {
            tracing::error!(%error, "no health port");
        }
    });
    let serving = kubelet.clone();
    world.spawn(
        "server",
        server.serve(Arc::new(move |mut request, peer| {
            if let Some(certificate) = &peer.certificate {
                request.extensions_mut().insert(PeerCertificate(certificate.clone()));
            }
            serving.handle(request)
        })),
    );
    kubelet.run().await;
    Ok(())
}

fn config(flags: Flags) -> KubeletConfig {
    let defaults = KubeletConfig::new(&flags.hostname_override);
    KubeletConfig {
        node_ip: flags.node_ip,
        static_pod_path: flags.pod_manifest_path,
        cluster_dns: flags.cluster_dns,
        cluster_domain: flags.cluster_domain,
        node_labels: BTreeMap::from_iter(flags.node_labels),
        register_with_taints: flags.register_with_taints,
        max_pods: flags.max_pods,
        port: flags.port,
        node_lease_duration: Duration::from_secs(flags.node_lease_duration_seconds.into()),
        node_status_update_frequency: flags.node_status_update_frequency,
        node_status_report_frequency: flags.node_status_report_frequency,
        max_container_restart_period: flags.max_container_restart_period,
        ..defaults
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.into(), value.into()))
}

fn taint(text: &str) -> Result<Taint, String> {
    let refused = || format!("{text:?} is not KEY=VALUE:EFFECT, with NoSchedule, PreferNoSchedule or NoExecute as EFFECT");
    let (rest, effect) = text.rsplit_once(':').ok_or_else(refused)?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        return Err(refused());
    }
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    let value = (!value.is_empty()).then(|| value.to_owned());
    Ok(Taint { key: key.into(), value, effect: effect.into(), ..Taint::default() })
}
