//! `hollow-nodes`: many kubelets in one process, each on a simulated machine with a simulated container engine.
//!
//! They speak to the real API server on the real clock. What a kubelet writes stays below a directory of its own
//! ([`disk::NodeDisk`]): no pod on a simulated node reaches the host's files.

mod disk;
mod hardware;
mod net;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use daruma_api::core::v1::{Node, Taint};
use daruma_client::connection::{ClientIdentity, ServerIdentity};
use daruma_client::{Client, RateLimit};
use daruma_cluster::boot::connection;
use daruma_cluster::platform::{Platform, Serving};
use daruma_kubelet::{Kubelet, KubeletConfig, PeerCertificate};
use daruma_network::sandbox;
use daruma_sim::containers::{EngineConfig, SimRuntime};
use daruma_world::World;
use daruma_world::disk::WriteOptions;
use daruma_world::links::{Change, Links, Prefix};
use futures::FutureExt;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::platform::RealPlatform;

/// Most simulated nodes of a cluster.
pub const MOST: u32 = 2000;
/// The label by which they are known, as KWOK's nodes have `type=kwok`.
pub const LABEL: (&str, &str) = ("type", "simulated");
/// The taint that keeps away what does not ask for them, as KWOK's `kwok.x-k8s.io/node=fake:NoSchedule` does.
const TAINT: (&str, &str, &str) = ("daruma.dev/node", "simulated", "NoSchedule");
/// Port of the first node's kubelet; the others follow.
const FIRST_PORT: u16 = 10250;
/// Between the starts of two kubelets.
const STAGGER: Duration = Duration::from_millis(10);
/// Between two looks for the node's range of pod addresses.
const RANGE_RETRY: Duration = Duration::from_millis(500);
/// Largest packet of a pod, in bytes; none is ever sent.
const MTU: u32 = 1450;

/// Flags of the simulated nodes.
#[derive(Debug, Args)]
pub struct Flags {
    /// Directory with one directory a node, and in that its kubeconfig.
    #[arg(long)]
    directory: PathBuf,
    /// How many.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST)))]
    nodes: u32,
    /// Authorities of client certificates.
    #[arg(long)]
    client_ca_file: PathBuf,
    /// The link that the node network is on.
    #[arg(long)]
    link: String,
    /// The address of all of them on that link, with the length of its network.
    #[arg(long)]
    own_address: Prefix,
    /// CPUs of each, in thousandths.
    #[arg(long)]
    cpu_millis: u64,
    /// Memory of each, in bytes.
    #[arg(long)]
    memory_bytes: u64,
    /// Disk of each, in bytes.
    #[arg(long)]
    disk_bytes: u64,
}

/// Name of one of them.
pub fn node_name(index: u32) -> String {
    format!("simulated-{index}")
}

/// Runs until the process ends.
pub fn run(flags: Flags) -> Result<()> {
    super::log_to_stderr();
    raise_file_limit()?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().max_blocking_threads(16).build()?;
    let result = runtime.block_on(run_all(Arc::new(flags)));
    runtime.shutdown_background();
    result
}

/// A node has its connection to the API server and a listening socket.
fn raise_file_limit() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

async fn run_all(flags: Arc<Flags>) -> Result<()> {
    let platform: Arc<dyn Platform> = Arc::new(RealPlatform::new());
    let world = platform.world();
    let links = platform.links();
    take_address(&*links, &flags).await.context("taking the nodes' address")?;
    let client_ca = connection::read(&*platform, &flags.client_ca_file)?;
    for index in 0..flags.nodes {
        start(&platform, &flags, &client_ca, index).await.with_context(|| format!("starting {}", node_name(index)))?;
        world.sleep(STAGGER).await;
    }
    platform.terminated().await;
    Ok(())
}

async fn take_address(links: &dyn Links, flags: &Flags) -> std::io::Result<()> {
    let listed = links.list_addresses(None).await?;
    if listed.iter().any(|listed| listed.link == flags.link && listed.prefix == flags.own_address) {
        return Ok(());
    }
    links.apply(None, vec![Change::ReplaceAddress { link: flags.link.clone(), prefix: flags.own_address }]).await
}

/// Starts one kubelet; its tasks go on by themselves.
async fn start(platform: &Arc<dyn Platform>, flags: &Flags, client_ca: &str, index: u32) -> Result<()> {
    let name = node_name(index);
    let directory = flags.directory.join(&name);
    let kubeconfig = directory.join("kubelet.conf");
    let address: Ipv4Addr = flags.own_address.address;
    let port = FIRST_PORT + u16::try_from(index)?;
    let common = platform.world();
    let disk = disk::NodeDisk::new(common.disk.clone(), directory.join("disk"), flags.disk_bytes);
    let world = World { disk: Arc::new(disk), net: Arc::new(net::PodNet::new(&common)), ..common };
    world.disk.create_dir_all(std::path::Path::new("/"), 0o755).await?;

    let user = connection::load(&**platform, &kubeconfig)?.user;
    let ClientIdentity::Certificate { certificate, key } = connection::identity(platform, &user)? else {
        bail!("{} shows no certificate", kubeconfig.display());
    };
    let identity = ServerIdentity { certificate, key, client_ca: Some(client_ca.to_owned()) };
    let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let server = platform.bind(SocketAddr::new(any, port), &Serving::Given(identity))?;

    // An engine that has no virtual machine, but a node's disk and its range of addresses.
    let engine = SimRuntime::new(&world, 0, 0);
    engine.configure(EngineConfig { memory_bytes: Some(flags.memory_bytes), ..EngineConfig::default() });
    let client = connection::client(platform, &kubeconfig, "kubelet", RateLimit { qps: 50.0, burst: 100 })?;
    world.spawn("pod range", write_network(world.clone(), client.clone(), name.clone()));
    let machine = hardware::SimulatedHardware::new(&world, engine.clone(), &name, address, flags.cpu_millis, flags.memory_bytes);
    let (key, value, effect) = TAINT;
    let taint = Taint { key: key.into(), value: Some(value.into()), effect: effect.into(), ..Taint::default() };
    let config = KubeletConfig {
        node_ip: Some(address.into()),
        port,
        node_labels: [(LABEL.0.to_owned(), LABEL.1.to_owned())].into(),
        register_with_taints: vec![taint],
        tls_probes: false,
        ..KubeletConfig::new(&name)
    };
    let kubelet = Kubelet::new(world.clone(), client, Arc::new(engine), Arc::new(machine), config);
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
    world.spawn("kubelet", async move { kubelet.run().await }.boxed());
    Ok(())
}

/// What the pod network agent does for the engine of a machine: once the node has a range, it is told.
async fn write_network(world: World, client: Client, node: String) {
    let file = sandbox::Config::default().file;
    loop {
        let range = client.cluster::<Node>().get(&node).await.ok().and_then(|node| node.spec?.pod_cidr);
        if let Some(pod_range) = range.filter(|range| !range.is_empty()) {
            let content = sandbox::NetworkFile { pod_range, mtu: MTU }.to_json();
            let write = async {
                world.disk.create_dir_all(file.parent().unwrap_or(&file), 0o755).await?;
                world.disk.write(&file, content, WriteOptions::default()).await
            };
            match write.await {
                Ok(()) => return,
                Err(error) => tracing::warn!(node, %error, "writing {}", file.display()),
            }
        }
        world.sleep(RANGE_RETRY).await;
    }
}
