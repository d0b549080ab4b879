//! `kubelet`: the node agent with its container engine.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use daruma_api::core::v1::Taint;
use daruma_client::RateLimit;
use daruma_client::connection::ServerIdentity;
use daruma_kubelet::{Kubelet, KubeletConfig, PeerCertificate};
use daruma_network::sandbox;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, select};

use super::{BootError, connection, flags, health};
use crate::platform::{EngineOptions, Platform, Serving};

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
    /// What is kept free of the node: SIGNAL<QUANTITY,… (pods are evicted at once below it).
    #[arg(long, value_parser = flags::hard_thresholds)]
    eviction_hard: Option<String>,
    /// The same with a grace period for each.
    #[arg(long, default_value = "")]
    eviction_soft: String,
    /// SIGNAL=DURATION,… for each soft threshold.
    #[arg(long, default_value = "")]
    eviction_soft_grace_period: String,
    /// Longest grace of a pod that a soft threshold ends, in seconds.
    #[arg(long, default_value_t = 0)]
    eviction_max_pod_grace_period: i64,
    /// How long a pressure condition is held.
    #[arg(long, default_value = "5m", value_parser = flags::duration)]
    eviction_pressure_transition_period: Duration,
    /// How long the machine's shutdown is delayed so that pods can end; 0 leaves them to the machine.
    #[arg(long, default_value = "0s", value_parser = flags::duration)]
    shutdown_grace_period: Duration,
    /// What of it is kept for critical pods.
    #[arg(long, default_value = "0s", value_parser = flags::duration)]
    shutdown_grace_period_critical_pods: Duration,
}

/// What is done with a kubelet that is complete and does not run yet.
pub type Before = Box<dyn FnOnce(Kubelet) -> BoxFuture<'static, ()> + Send>;

/// Runs until it is asked to end; where that is because the machine is being turned off, pods are ended first.
///
/// # Errors
/// It could not start.
pub async fn run(platform: Arc<dyn Platform>, flags: Flags, before: Option<Before>) -> Result<(), BootError> {
    let starting = async {
        let kubelet = start(platform.clone(), flags).await?;
        if let Some(before) = before {
            before(kubelet.clone()).await;
        }
        Ok::<Kubelet, BootError>(kubelet)
    };
    let (kubelet, terminated) = match select(platform.terminated(), starting.boxed()).await {
        Either::Left(((), _)) => return Ok(()),
        Either::Right((started, terminated)) => (started?, terminated),
    };
    let running = kubelet.run();
    futures::pin_mut!(running);
    if let Either::Left(((), running)) = select(terminated, running).await {
        // It goes on working meanwhile.
        let ending = kubelet.terminate();
        futures::pin_mut!(ending);
        select(ending, running).await;
    }
    Ok(())
}

async fn start(platform: Arc<dyn Platform>, flags: Flags) -> Result<Kubelet, BootError> {
    let world = platform.world();
    let read = |path: &Path| connection::read(&*platform, path);
    let identity = ServerIdentity {
        certificate: read(&flags.tls_cert_file)?,
        key: read(&flags.tls_private_key_file)?,
        client_ca: Some(read(&flags.client_ca_file)?),
    };
    let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let server = platform.bind(SocketAddr::new(any, flags.port), &Serving::Given(identity))?;
    let network = sandbox::PodNetwork::new(&world, platform.links(), sandbox::Config::default());
    let builtin_images = flags.builtin_images.clone();
    let engine = platform.engine(EngineOptions { network, builtin_images }).await?;
    let limit = RateLimit { qps: flags.kube_api_qps, burst: flags.kube_api_burst };
    let client = connection::client(&platform, &flags.kubeconfig, "kubelet", limit)?;
    let hardware = platform.hardware()?;
    let healthz = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), flags.healthz_port);
    let kubelet = Kubelet::new(world.clone(), client, engine, hardware, config(flags, platform.speaks_tls())?);
    health::serve_plain(&*platform, healthz, health::handler(Arc::new(String::new)));
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
    Ok(kubelet)
}

fn config(flags: Flags, tls_probes: bool) -> Result<KubeletConfig, BootError> {
    let defaults = KubeletConfig::new(&flags.hostname_override);
    let hard = flags.eviction_hard.as_deref();
    let eviction = daruma_kubelet::parse_thresholds(hard, &flags.eviction_soft, &flags.eviction_soft_grace_period)
        .map_err(|why| BootError::Flag(format!("eviction thresholds: {why}")))?;
    Ok(KubeletConfig {
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
        tls_probes,
        eviction,
        eviction_max_pod_grace_period_seconds: flags.eviction_max_pod_grace_period,
        eviction_pressure_transition_period: flags.eviction_pressure_transition_period,
        shutdown_grace_period: flags.shutdown_grace_period,
        shutdown_grace_period_critical_pods: flags.shutdown_grace_period_critical_pods,
        ..defaults
    })
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
