//! All simulated nodes of a cluster: made, switched on, and served at their ports and their switches.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use daruma_cluster::machine_files;
use daruma_cluster::pki::Pki;
use daruma_cluster::platform::Platform;
use daruma_cluster::shape::Shape;
use daruma_cluster::simulated;
use daruma_host::https::{HttpsServer, ServerIdentity};
use daruma_sim::behaviour::Behaviours;
use daruma_sim::containers::EngineConfig;
use daruma_sim::{MachineSpec, Universe};
use tokio::runtime::Handle;

use super::clock::Clocks;
use super::gateway::Gateway;
use super::node::{Common, HollowNode, inner_address};
use super::protocol;
use super::switches::Switches;
use crate::cli::cluster_directory::ClusterDirectory;
use crate::platform::RealPlatform;

/// Between two machines that are switched on: an API server has much to do for each node that joins.
const STAGGER: Duration = Duration::from_millis(10);
/// So many may be on their way into the cluster at once; more would keep its controllers from renewing their leases.
const JOINING: u32 = 50;
/// After so long the next one is switched on all the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module.
pub struct Fleet {
    switches: Arc<Switches>,
    runtime: Handle,
}

impl Fleet {
    /// Makes the machines and begins to switch them on.
    pub fn start(
        universe: &Universe,
        directory: &ClusterDirectory,
        shape: &Shape,
        pki: &Pki,
        real: &RealPlatform,
        runtime: &Handle,
    ) -> Result<Self> {
        let gateway = Gateway::add(universe, shape, runtime)?;
        let engine = EngineConfig {
            behaviours: Arc::new(behaviours(directory)?),
            memory_bytes: Some(shape.memory_bytes),
            ..EngineConfig::default()
        };
        let joined = Arc::new(AtomicU32::new(0));
        let common = Common { real: real.clone(), wire: universe.wire(), engine, joined: joined.clone() };
        for index in 0..shape.simulated {
            add(universe, shape, pki, &gateway, &common, runtime, index)
                .with_context(|| format!("making {}", simulated::name(index)))?;
        }
        let (world, machines) = (universe.outside(), universe.machines());
        let clocks = Arc::new(Clocks::new(machines.clone(), &world, &real.world()));
        let switches = Arc::new(Switches::new(machines.clone(), clocks.clone(), &universe.injector()));
        let names: Vec<String> = (0..shape.simulated).map(simulated::name).collect();
        let gateway_name = shape.machines.iter().find(|machine| machine.address == shape.api_server());
        let gateway_name = gateway_name.map(|machine| machine.name.clone()).unwrap_or_default();
        world.clone().spawn("power on", async move {
            if let Err(error) = machines.power_on(&gateway_name).await {
                tracing::error!(%error, "the gateway cannot be switched on");
            }
            for (number, name) in (0_u32..).zip(&names) {
                let until = world.monotonic() + PATIENCE;
                while number.saturating_sub(joined.load(Ordering::Relaxed)) >= JOINING && world.monotonic() < until {
                    world.sleep(STAGGER).await;
                }
                let on = async {
                    clocks.set(name, 0).await?;
                    machines.power_on(name).await
                };
                if let Err(error) = on.await {
                    tracing::error!(name, %error, "a machine cannot be switched on");
                }
                world.sleep(STAGGER).await;
            }
            clocks.follow(&names).await;
        });
        Ok(Self { switches, runtime: runtime.clone() })
    }

    /// Takes requests at the socket in the cluster's directory.
    pub fn listen(&self, directory: &ClusterDirectory) -> Result<()> {
        let path = protocol::socket(directory.path());
        // An earlier process of theirs was killed.
        let _ = fs::remove_file(&path);
        let listener = tokio::net::UnixListener::bind(&path).with_context(|| format!("listening at {}", path.display()))?;
        self.runtime.spawn(super::switches::serve(listener, self.switches.clone()));
        Ok(())
    }
}

/// Adds a node's machine, and its kubelet's port to the real world.
fn add(
    universe: &Universe,
    shape: &Shape,
    pki: &Pki,
    gateway: &Gateway,
    common: &Common,
    runtime: &Handle,
    index: u32,
) -> Result<()> {
    let machine = simulated::machine(shape, index);
    let files = machine_files::files(&common.real.world(), shape, pki, &machine)?;
    let text = |path: &str| {
        let file = files.iter().find(|file| file.path == std::path::Path::new(path));
        file.map(|file| String::from_utf8_lossy(&file.content).into_owned()).unwrap_or_default()
    };
    let identity = ServerIdentity {
        certificate: text("/var/lib/kubelet/pki/kubelet.crt"),
        key: text("/var/lib/kubelet/pki/kubelet.key"),
        client_ca: Some(pki.ca.certificate.clone()),
    };
    let (port, address) = (simulated::port(index), inner_address(index));
    let server = HttpsServer::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port), &identity)?;
    runtime.spawn(server.serve(gateway.inwards(&machine.name, SocketAddr::from((address, port)))));
    let spec = MachineSpec {
        name: machine.name,
        address,
        cpu_millis: shape.cpu_millis,
        memory_bytes: shape.memory_bytes,
        disk_bytes: shape.disk_bytes,
        boot_time: Duration::from_millis(shape.boot_time_ms),
    };
    let command = simulated::kubelet_command(shape, index).into();
    let node = HollowNode { common: common.clone(), files: files.into(), command };
    universe.add_machine(spec, Arc::new(move |machine| node.boot(machine)))?;
    Ok(())
}

/// How containers behave: as the program knows, and as the cluster's own file says.
fn behaviours(directory: &ClusterDirectory) -> Result<Behaviours> {
    let mut behaviours = Behaviours::built_in();
    let path = directory.behaviours();
    match fs::read_to_string(&path) {
        Ok(text) => behaviours.read(&text).with_context(|| format!("reading {}", path.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    }
    Ok(behaviours)
}
