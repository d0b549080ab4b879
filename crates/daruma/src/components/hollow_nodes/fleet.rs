//! All simulated nodes of a cluster: made, switched on, served at their ports and their switches, and taken away.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
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
use daruma_world::World;
use daruma_world::machines::{MachineError, Machines};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::clock::Clocks;
use super::gateway::Gateway;
use super::node::{Common, HollowNode, inner_address};
use super::protocol;
use super::switches::{Order, Switches};
use crate::cli::cluster_directory::ClusterDirectory;
use crate::platform::RealPlatform;

/// Between two machines that are switched on: an API server has much to do for each node that joins.
const STAGGER: Duration = Duration::from_millis(10);
/// So many may be on their way into the cluster at once; more would keep its controllers from renewing their leases.
const JOINING: u32 = 50;
/// After so long the next one is switched on all the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module. Belongs to the thread that runs the universe.
pub struct Fleet {
    universe: Universe,
    shape: Shape,
    pki: Pki,
    gateway: Gateway,
    common: Common,
    runtime: Handle,
    switches: Arc<Switches>,
    /// The servers at the nodes' ports, by number.
    servers: BTreeMap<u32, JoinHandle<()>>,
    orders: mpsc::Receiver<Order>,
}

impl Fleet {
    /// Makes the machines and begins to switch them on.
    pub fn start(
        universe: &Universe,
        directory: &ClusterDirectory,
        shape: &Shape,
        pki: Pki,
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
        let (world, machines) = (universe.outside(), universe.machines());
        let clocks = Arc::new(Clocks::new(machines.clone(), &world, &real.world()));
        let power = Power { world: world.clone(), machines: machines.clone(), clocks: clocks.clone(), joined };
        let (sender, orders) = mpsc::channel();
        let switches = Arc::new(Switches::new(power.clone(), &universe.injector(), sender));
        let mut fleet = Self {
            universe: universe.clone(),
            shape: shape.clone(),
            pki,
            gateway,
            common,
            runtime: runtime.clone(),
            switches,
            servers: BTreeMap::new(),
            orders,
        };
        for number in simulated::numbers(shape) {
            fleet.add(number).with_context(|| format!("making {}", simulated::name(number)))?;
        }
        let names: Vec<String> = simulated::numbers(shape).map(simulated::name).collect();
        let gateway_name = shape.machines.iter().find(|machine| machine.address == shape.api_server());
        let gateway_name = gateway_name.map(|machine| machine.name.clone()).unwrap_or_default();
        world.clone().spawn("power on", async move {
            if let Err(error) = machines.power_on(&gateway_name).await {
                tracing::error!(%error, "the gateway cannot be switched on");
            }
            power.on(names).await;
            clocks.follow().await;
        });
        Ok(fleet)
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

    /// Does what the switches have ordered. The universe must not be running.
    pub fn obey(&mut self) {
        while let Ok(Order { number, there, done }) = self.orders.try_recv() {
            let outcome = if there {
                self.add(number).map_err(|error| MachineError::Failed(format!("{error:#}")))
            } else {
                self.remove(number)
            };
            // Whoever asked may be gone.
            let _ = done.send(outcome);
        }
    }

    /// Adds a node's machine, and its kubelet's port to the real world; one that is there stays.
    fn add(&mut self, number: u32) -> Result<()> {
        if self.servers.contains_key(&number) {
            return Ok(());
        }
        let (shape, pki) = (&self.shape, &self.pki);
        let machine = simulated::machine(shape, number);
        let files = machine_files::files(&self.common.real.world(), shape, pki, &machine)?;
        let text = |path: &str| {
            let file = files.iter().find(|file| file.path == std::path::Path::new(path));
            file.map(|file| String::from_utf8_lossy(&file.content).into_owned()).unwrap_or_default()
        };
        let identity = ServerIdentity {
            certificate: text("/var/lib/kubelet/pki/kubelet.crt"),
            key: text("/var/lib/kubelet/pki/kubelet.key"),
            client_ca: Some(pki.ca.certificate.clone()),
        };
        let (port, address) = (simulated::port(number), inner_address(number));
        let server = HttpsServer::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port), &identity)?;
        let spec = MachineSpec {
            name: machine.name.clone(),
            address,
            cpu_millis: shape.cpu_millis,
            memory_bytes: shape.memory_bytes,
            disk_bytes: shape.disk_bytes,
            boot_time: Duration::from_millis(shape.boot_time_ms),
        };
        let command = simulated::kubelet_command(shape, number).into();
        let node = HollowNode { common: self.common.clone(), files: files.into(), command };
        self.universe.add_machine(spec, Arc::new(move |machine| node.boot(machine)))?;
        let handler = self.gateway.inwards(&machine.name, SocketAddr::from((address, port)));
        self.servers.insert(number, self.runtime.spawn(server.serve(handler)));
        Ok(())
    }

    fn remove(&mut self, number: u32) -> Result<(), MachineError> {
        self.universe.remove_machine(&simulated::name(number))?;
        if let Some(server) = self.servers.remove(&number) {
            server.abort();
        }
        Ok(())
    }
}

/// What switching machines on takes. Cheap to clone.
#[derive(Clone)]
pub struct Power {
    pub world: World,
    pub machines: Arc<dyn Machines>,
    pub clocks: Arc<Clocks>,
    joined: Arc<AtomicU32>,
}

impl Power {
    /// Switches machines on, no more at once than an API server can take.
    pub async fn on(&self, names: Vec<String>) {
        let before = self.joined.load(Ordering::Relaxed);
        for (number, name) in (0_u32..).zip(&names) {
            let until = self.world.monotonic() + PATIENCE;
            let joined = || self.joined.load(Ordering::Relaxed).saturating_sub(before);
            while number.saturating_sub(joined()) >= JOINING && self.world.monotonic() < until {
                self.world.sleep(STAGGER).await;
            }
            let on = async {
                self.clocks.set(name, 0).await?;
                self.machines.power_on(name).await
            };
            if let Err(error) = on.await {
                tracing::error!(name, %error, "a machine cannot be switched on");
            }
            self.world.sleep(STAGGER).await;
        }
    }
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
