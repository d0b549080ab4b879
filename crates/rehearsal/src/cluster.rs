//! A cluster of virtual machines: what `daruma up` does on real ones.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::Node;
use daruma_client::connection::{ClientIdentity, TlsTrust};
use daruma_client::{Client, ClientError, RateLimit, Transport};
use daruma_cluster::boot::{BootError, Component, kubelet};
use daruma_cluster::machine_files::{self, MachineFile};
use daruma_cluster::pki::{Pki, PkiError};
use daruma_cluster::platform::{ClientTls, Target};
use daruma_cluster::shape::{self, API_SERVER_PORT, Role, Shape};
use daruma_cluster::{addons, bring_up, load_balancer as balancer, simulated};
use daruma_drill::file::ClusterSpec;
use daruma_sim::containers::{EngineConfig, Programs};
use daruma_sim::{Machine, MachineSpec, Scope, Universe};
use daruma_world::World;
use daruma_world::disk::WriteOptions;
use daruma_world::machines::{MachineError, Machines};
use futures::FutureExt;
use serde_json::{Value, json};

use crate::certificates::{self, Names};
use crate::event_log::EventLog;
use crate::gate::Gate;
use crate::invariants::{Guard, Violation};
use crate::machines::LoggedMachines;
use crate::options::{Options, OptionsError};
use crate::platform::{SimPlatform, Surroundings};
use crate::programs::{self, Running};
use crate::standing::{self, Standing};
use crate::{connections, load_balancer, lookout, preload};

/// How often a starting cluster is looked at.
const STEP: Duration = Duration::from_millis(100);

/// Why a virtual cluster was not made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It was asked to be what it cannot be.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// A machine could not be added.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// Its authorities could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// A cluster in one process: machines, kubelets, control plane, pods, under a clock that can be turned.
///
/// Time passes only in [`VirtualCluster::run`] and [`VirtualCluster::run_for`].
pub struct VirtualCluster {
    universe: Universe,
    shape: Shape,
    node_agents: bool,
    client: Client,
    machines: Arc<dyn Machines>,
    log: EventLog,
    guard: Option<Guard>,
    gate: Gate,
    running: Running,
    standing: Standing,
    root_ca: String,
}

/// See [`VirtualCluster::doors`].
#[derive(Clone)]
pub struct Doors {
    /// As cluster-admin.
    pub administrator: Arc<dyn Transport>,
    /// As nobody, unless a request carries a token.
    pub anybody: Arc<dyn Transport>,
}

impl VirtualCluster {
    /// Makes the machines and gives them power. Nothing runs before the first [`VirtualCluster::run`].
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(options: Options) -> Result<Self, StartError> {
        let shape = options.shape()?;
        let pki = certificates::authorities()?;
        let universe = Universe::new(options.seed);
        let log = if options.keeps_log { EventLog::default() } else { EventLog::that_keeps_nothing() };
        let guard = options.invariants.then(Guard::default);
        let gate = Gate::default();
        let surroundings = Surroundings {
            wire: universe.wire(),
            log: log.clone(),
            guard: guard.clone(),
            gate: gate.clone(),
            interposer: options.interposer.clone(),
        };
        let running = Running::default();
        let standing = Standing::default();
        let engine = engine(&options, &surroundings, &running);
        for machine in &shape.machines {
            let files: Arc<[MachineFile]> = machine_files::files(&Names, &shape, &pki, machine)?.into();
            let kubelet = Kubelet {
                surroundings: surroundings.clone(),
                command: kubelet_command(&shape, machine).into(),
                node: machine.name.clone(),
                standing: standing.clone(),
                writes_network: (!options.node_agents && machine.role == Role::Worker) || simulated::is_name(&machine.name),
            };
            let (running, engine) = (running.clone(), engine.clone());
            let boot = move |machine: Machine| {
                let (files, kubelet, running) = (files.clone(), kubelet.clone(), running.clone());
                machine.engine().configure(engine.clone());
                async move {
                    running.lock().expect("no panic while held").insert(machine.name().to_owned(), machine.clone());
                    write_files(&machine, &files).await;
                    let process = machine.clone();
                    let main = move |scope| kubelet.clone().run(process.clone(), scope).boxed();
                    machine.service("kubelet", Arc::new(main));
                }
                .boxed()
            };
            universe.add_machine(spec(&shape, machine), Arc::new(boot))?;
        }
        // Without proxies on the nodes there are no node ports to pass anything on to.
        if options.node_agents && shape.machines.iter().all(|machine| machine.address < balancer::pool(&shape).0) {
            load_balancer::add(&universe, &shape, &pki, &surroundings)?;
        }
        let world = universe.outside();
        let machines: Arc<dyn Machines> = Arc::new(LoggedMachines::new(universe.machines(), &world, &log));
        let at_once = |machine: &&shape::Machine| machine.role == Role::Controller || !options.workers_wait;
        for machine in shape.machines.iter().filter(at_once) {
            power_on(&world, &machines, &machine.name, Duration::ZERO);
        }
        let client = client(&universe, &shape, &pki)?;
        let cluster = Self {
            universe,
            shape,
            node_agents: options.node_agents,
            client,
            machines,
            log,
            guard,
            gate,
            running,
            standing,
            root_ca: pki.ca.certificate,
        };
        if let Some(guard) = &cluster.guard {
            lookout::start(guard, &cluster.client, &cluster.running);
        }
        Ok(cluster)
    }

    /// Switches the workers on that wait for it ([`Options::workers_wait`]), evenly over `within`, so that their heartbeats are
    /// spread as those of nodes are that were not started together.
    pub fn power_on_workers(&self, within: Duration) {
        let workers = self.shape.machines.iter().filter(|machine| machine.role != Role::Controller);
        let count = u32::try_from(workers.clone().count()).unwrap_or(u32::MAX).max(1);
        for (index, machine) in (0..).zip(workers) {
            power_on(&self.world(), &self.machines, &machine.name, within * index / count);
        }
    }

    /// Writes the workloads of a drill's cluster that run already; they stand once their workers are switched on.
    pub(crate) async fn load(&self, cluster: &ClusterSpec) -> Result<(), ClientError> {
        preload::load(&self.client, cluster, &self.shape, &self.root_ca, &self.standing).await
    }

    /// What stands on its nodes from their first power-on.
    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The world that it lives in.
    pub fn universe(&self) -> &Universe {
        &self.universe
    }

    /// The surroundings of somebody outside of the cluster.
    pub fn world(&self) -> World {
        self.universe.outside()
    }

    /// Its names, addresses and settings.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The API as cluster-admin from outside, without a limit.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Ways to the API server for a server of the real world that stands in front of it. They are used in tasks of this
    /// world only.
    ///
    /// # Errors
    /// The administrator's certificate could not be made.
    pub fn doors(&self) -> Result<Doors, PkiError> {
        let (wire, scope) = (self.universe.wire(), self.universe.outside_scope());
        let pki = certificates::authorities()?;
        let to = |identity| connections::transport(&wire, &scope, &api_server(&self.shape, &pki, identity));
        Ok(Doors { administrator: to(administrator(&pki)?), anybody: to(ClientIdentity::Anonymous) })
    }

    /// The hand on the switches; every act is logged.
    pub fn machines(&self) -> Arc<dyn Machines> {
        self.machines.clone()
    }

    /// What has happened so far.
    pub fn log(&self) -> &EventLog {
        &self.log
    }

    /// The standing invariants, where they are checked.
    pub fn guard(&self) -> Option<&Guard> {
        self.guard.as_ref()
    }

    /// Holds a component back: its process starts, but does nothing until [`VirtualCluster::release`].
    pub fn hold(&self, component: &str) {
        self.gate.hold(component);
    }

    /// Lets everything go on that was held back.
    pub fn release(&self) {
        self.gate.open();
    }

    /// Drives everything until `future` completes.
    ///
    /// # Panics
    /// It waits for what can never come, or a task panics; the seed is printed.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        self.universe.run(future)
    }

    /// Lets so much virtual time pass.
    pub fn run_for(&self, time: Duration) {
        self.run(self.world().sleep(time));
    }

    /// Creates the add-ons as `daruma up` does, and completes when every node is Ready.
    ///
    /// # Errors
    /// An add-on was refused.
    pub async fn wait_ready(&self) -> Result<(), ClientError> {
        let mut objects = addons::objects(&self.shape);
        if !self.node_agents {
            objects.iter_mut().for_each(only_on_controllers);
        }
        bring_up::until_ready(&self.client, &self.shape, &objects, STEP, &|what| tracing::debug!(what)).await
    }

    /// What has broken an invariant so far; nothing where none is checked.
    pub fn violations(&self) -> Vec<Violation> {
        self.guard.as_ref().map(Guard::violations).unwrap_or_default()
    }

    /// Ends it. What broke an invariant is given back.
    pub fn stop(self) -> Vec<Violation> {
        self.violations()
    }
}

impl Drop for VirtualCluster {
    fn drop(&mut self) {
        // Machines know their init, and the inits know the machines.
        self.running.lock().expect("no panic while held").clear();
    }
}

fn power_on(world: &World, machines: &Arc<dyn Machines>, name: &str, after: Duration) {
    let (machines, name, later) = (machines.clone(), name.to_owned(), world.clone());
    world.spawn("power on", async move {
        if !after.is_zero() {
            later.sleep(after).await;
        }
        if let Err(error) = machines.power_on(&name).await {
            tracing::error!(name, %error, "a machine cannot be switched on");
        }
    });
}

/// The engine of every machine.
fn engine(options: &Options, surroundings: &Surroundings, running: &Running) -> EngineConfig {
    let mut programs = Programs::new();
    programs::add(&mut programs, surroundings, running);
    EngineConfig {
        programs: Arc::new(programs),
        behaviours: Arc::new(options.behaviours.clone()),
        images: Arc::new([programs::image()]),
        memory_bytes: Some(options.memory_bytes),
        ..EngineConfig::default()
    }
}

fn spec(shape: &Shape, machine: &daruma_cluster::shape::Machine) -> MachineSpec {
    MachineSpec {
        name: machine.name.clone(),
        address: machine.address,
        cpu_millis: shape.cpu_millis,
        memory_bytes: shape.memory_bytes,
        disk_bytes: shape.disk_bytes,
        boot_time: Duration::from_millis(shape.boot_time_ms),
    }
}

/// The command line without the program. Nodes that are simulated ones to a real cluster are marked here as there.
fn kubelet_command(shape: &Shape, machine: &daruma_cluster::shape::Machine) -> Vec<String> {
    let mut command = machine_files::kubelet_command(shape, machine).split_off(1);
    if simulated::is_name(&machine.name) {
        command.extend(simulated::flags());
    }
    command
}

/// What init does before it starts the kubelet.
pub(crate) async fn write_files(machine: &Machine, files: &[MachineFile]) {
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

/// The kubelet of a machine, as its init starts it.
#[derive(Clone)]
struct Kubelet {
    surroundings: Surroundings,
    command: Arc<[String]>,
    node: String,
    standing: Standing,
    /// No agent tells the engine the node's range.
    writes_network: bool,
}

impl Kubelet {
    async fn run(self, machine: Machine, scope: Scope) {
        let platform = Arc::new(SimPlatform::on_machine(&self.surroundings, &machine, &scope));
        if self.writes_network {
            scope.world().spawn("node range", write_network(platform.clone(), self.node.clone()));
        }
        let ended: Result<(), BootError> = match Component::parse(self.command.iter()) {
            Ok(Component::Kubelet(flags)) => {
                let before = self.standing.take(&self.node).map(|load| load.stand(machine.world()));
                kubelet::run(platform, flags, before).await
            }
            Ok(component) => component.run(platform).await,
            Err(error) => Err(BootError::Flag(error.to_string())),
        };
        if let Err(error) = ended {
            tracing::warn!(machine = machine.name(), "kubelet: {}", programs::chain(&error));
        }
    }
}

/// What the pod network agent would do for the engine: once the node has a range, it is told.
async fn write_network(platform: Arc<SimPlatform>, node: String) {
    const PAUSE: Duration = Duration::from_millis(500);
    let platform: Arc<dyn daruma_cluster::platform::Platform> = platform;
    let world = platform.world();
    let config = Path::new("/etc/kubernetes/kubelet.conf");
    let limit = RateLimit::NONE;
    let Ok(client) = daruma_cluster::boot::connection::client(&platform, config, "daruma-network", limit) else { return };
    loop {
        let range = client.cluster::<Node>().get(&node).await.ok().and_then(|node| node.spec?.pod_cidr);
        if let Some(range) = range
            && standing::tell_range(&world, &range).await.is_ok()
        {
            return;
        }
        world.sleep(PAUSE).await;
    }
}

fn client(universe: &Universe, shape: &Shape, pki: &Pki) -> Result<Client, PkiError> {
    let target = api_server(shape, pki, administrator(pki)?);
    let transport = connections::transport(&universe.wire(), &universe.outside_scope(), &target);
    Ok(Client::new(&universe.outside(), transport, "daruma", RateLimit::NONE))
}

fn administrator(pki: &Pki) -> Result<ClientIdentity, PkiError> {
    let pair = pki.super_admin(&Names)?;
    Ok(ClientIdentity::Certificate { certificate: pair.certificate, key: pair.key })
}

fn api_server(shape: &Shape, pki: &Pki, identity: ClientIdentity) -> Target {
    let tls = ClientTls { server_name: None, trust: TlsTrust::Ca(pki.ca.certificate.clone()), identity };
    Target { host: shape.api_server().to_string(), port: API_SERVER_PORT, tls: Some(tls), upgrades: false }
}

/// Keeps the DaemonSets of the nodes' network off the workers.
fn only_on_controllers(object: &mut Value) {
    if object["kind"] == "DaemonSet" {
        object["spec"]["template"]["spec"]["nodeSelector"] = json!({"node-role.kubernetes.io/control-plane": ""});
    }
}
