//! One simulated node: what its machine's init does at each power-on.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use daruma_api::core::v1::Node;
use daruma_client::RateLimit;
use daruma_cluster::boot::{BootError, Component, connection};
use daruma_cluster::machine_files::MachineFile;
use daruma_cluster::platform::Platform;
use daruma_network::sandbox;
use daruma_sim::containers::EngineConfig;
use daruma_sim::{Machine, Scope, Wire};
use daruma_world::disk::WriteOptions;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::platform::HollowPlatform;
use crate::platform::RealPlatform;

/// Between two looks for the node's range of pod addresses.
const RANGE_RETRY: Duration = Duration::from_millis(500);
/// Largest packet between pods: Ethernet's, as on real machines' cables.
const MTU: u32 = 1500;
/// Addresses of the machines in the universe (RFC 6598): every machine there has one of its own.
const FIRST: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);

/// What all nodes share.
#[derive(Clone)]
pub struct Common {
    pub real: RealPlatform,
    pub wire: Wire,
    pub engine: EngineConfig,
    /// How often a node was given its range of pod addresses, the last thing that joining needs.
    pub joined: Arc<AtomicU32>,
}

/// A node.
#[derive(Clone)]
pub struct HollowNode {
    pub common: Common,
    pub files: Arc<[MachineFile]>,
    pub command: Arc<[String]>,
}

/// The address of a node's machine in the universe.
pub fn inner_address(index: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST.to_bits() + index)
}

impl HollowNode {
    /// The init of its machine.
    pub fn boot(&self, machine: Machine) -> BoxFuture<'static, ()> {
        let node = self.clone();
        async move {
            machine.engine().configure(node.common.engine.clone());
            write_files(&machine, &node.files).await;
            let process = machine.clone();
            machine.service("kubelet", Arc::new(move |scope| node.clone().run(process.clone(), scope).boxed()));
        }
        .boxed()
    }

    async fn run(self, machine: Machine, scope: Scope) {
        let Common { real, wire, .. } = &self.common;
        let platform: Arc<dyn Platform> = Arc::new(HollowPlatform::new(real, wire, &machine, &scope));
        scope.world().spawn("node range", write_network(platform.clone(), machine.name().to_owned(), self.common.joined.clone()));
        let ended: Result<(), BootError> = match Component::parse(self.command.iter()) {
            Ok(component) => component.run(platform).await,
            Err(error) => Err(BootError::Flag(error.to_string())),
        };
        if let Err(error) = ended {
            tracing::warn!("kubelet of {}: {:#}", machine.name(), anyhow::Error::new(error));
        }
    }
}

/// What init does before it starts the kubelet.
async fn write_files(machine: &Machine, files: &[MachineFile]) {
    let disk = machine.world().disk;
    for file in files {
        let write = async {
            disk.create_dir_all(file.path.parent().unwrap_or(Path::new("/")), 0o755).await?;
            disk.write(&file.path, file.content.clone(), WriteOptions { mode: file.mode, durable: false }).await
        };
        if let Err(error) = write.await {
            // As on a real machine with a full disk: what needs the file says so.
            tracing::warn!(machine = machine.name(), path = %file.path.display(), %error, "cannot write a file");
        }
    }
}

/// What the pod network agent does for the engine of a real machine: once the node has a range, it is told.
async fn write_network(platform: Arc<dyn Platform>, node: String, joined: Arc<AtomicU32>) {
    let world = platform.world();
    let config = Path::new("/etc/kubernetes/kubelet.conf");
    let Ok(client) = connection::client(&platform, config, "daruma-network", RateLimit::NONE) else { return };
    let file = sandbox::Config::default().file;
    loop {
        let range = client.cluster::<Node>().get(&node).await.ok().and_then(|node| node.spec?.pod_cidr);
        if let Some(pod_range) = range.filter(|range| !range.is_empty()) {
            let content = sandbox::NetworkFile { pod_range, mtu: MTU }.to_json();
            let write = async {
                world.disk.create_dir_all(file.parent().unwrap_or(Path::new("/")), 0o755).await?;
                world.disk.write(&file, content, WriteOptions::default()).await
            };
            match write.await {
                Ok(()) => {
                    joined.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Err(error) => tracing::warn!(node, %error, "writing {}", file.display()),
            }
        }
        world.sleep(RANGE_RETRY).await;
    }
}
