//! `daruma sim up`: a virtual cluster at the pace of a wall clock, behind a real HTTPS port.
#![expect(clippy::disallowed_methods, reason = "virtual time is paced against the real one")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use daruma_client::connection::ServerIdentity;
use daruma_cluster::kubeconfig;
use daruma_cluster::pki::Pki;
use daruma_cluster::shape::{Machine, Role, Shape};
use daruma_host::https::HttpsServer;
use daruma_rehearsal::{Options, VirtualCluster};
use daruma_world::machines::{LinkEffect, LinkFault, MachineError, PowerState};

use super::control::{self, Act, Asked, Request, Which};
use super::front::{self, Waiting};
use super::pace::Pace;
use crate::cli::drill::Interrupt;

/// More nodes than this do without the network's agents, as nobody looks at that many.
const AGENTS_UP_TO: u16 = 50;
/// The longest rest between two looks at the surroundings.
const REST: Duration = Duration::from_millis(20);

/// Flags of `daruma sim up`.
#[derive(Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    which: Which,
    /// Simulated workers.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    nodes: u16,
    /// Virtual seconds a real second.
    #[arg(long, default_value = "1", value_parser = control::speed)]
    speed: f64,
    /// The same seed gives the same cluster.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Port of the API on the loopback address; a free one by default.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// A node without a heartbeat for so long is NotReady.
    #[arg(long, default_value = "50s")]
    node_monitor_grace_period: String,
    /// How long pods tolerate a node that is not ready or unreachable, in seconds.
    #[arg(long, default_value_t = 300)]
    default_toleration_seconds: u64,
    /// A flag of a component, e.g. kube-controller-manager.kube-api-qps=100.
    #[arg(long = "set", value_name = "COMPONENT.FLAG=VALUE", value_parser = crate::cli::sizes::setting)]
    settings: Vec<(String, String, String)>,
}

/// Runs until Ctrl-C.
pub fn run(flags: &Flags) -> Result<()> {
    let directory = flags.which.directory();
    if directory.exists() {
        bail!(
            "{} exists: a cluster of this name is there already, or one ended badly; remove it or use --name",
            directory.display()
        );
    }
    let interrupt = Interrupt::listen()?;
    let cluster = VirtualCluster::start(Options {
        seed: flags.seed,
        workers: flags.nodes,
        node_monitor_grace_period: flags.node_monitor_grace_period.clone(),
        default_toleration_seconds: flags.default_toleration_seconds,
        settings: flags.settings.clone(),
        node_agents: flags.nodes <= AGENTS_UP_TO,
        invariants: false,
        // It may go on for days.
        keeps_log: false,
        ..Options::default()
    })?;
    let started = Instant::now();
    cluster.run(cluster.wait_ready())?;
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let _directory = Removed(&directory);
    let waiting = Waiting::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let address = serve(flags, &cluster, &directory, waiting.clone(), &runtime)?;
    println!(
        "{} simulated nodes are Ready at virtual {:.1} s, after {:.1} s; the API is at https://{address}",
        usize::from(flags.nodes) + 1,
        cluster.universe().now().as_secs_f64(),
        started.elapsed().as_secs_f64()
    );
    println!("\n    export KUBECONFIG={}\n    kubectl get nodes\n", directory.join("kubeconfig").display());
    println!(
        "{} virtual seconds pass in a real one (daruma sim pause|continue|step|speed|status|node); Ctrl-C ends it",
        flags.speed
    );
    let (sender, requests) = mpsc::channel();
    let bell = Arc::new(Bell::default());
    let ring = bell.clone();
    control::listen(&directory, sender, move || ring.ring())?;
    let ring = bell.clone();
    cluster.universe().injector().on_ready(Arc::new(move || ring.ring()));
    drive(flags.speed, &cluster, &requests, &bell, &waiting, &interrupt);
    runtime.shutdown_background();
    Ok(())
}

/// Serves the API and writes the kubeconfig.
fn serve(
    flags: &Flags,
    cluster: &VirtualCluster,
    directory: &Path,
    waiting: Waiting,
    runtime: &tokio::runtime::Runtime,
) -> Result<SocketAddr> {
    let _inside = runtime.enter();
    let world = daruma_host::world::real();
    let pki = Pki::create(&world)?;
    // The one who stands in front is the API server's machine to its clients.
    let front = Machine { name: "controller-0".into(), role: Role::Controller, address: Ipv4Addr::LOCALHOST };
    let shape = Shape { network: Ipv4Addr::LOCALHOST, machines: vec![front], ..cluster.shape().clone() };
    let pair = pki.api_server(&world, &shape)?;
    let identity = ServerIdentity { certificate: pair.certificate, key: pair.key, client_ca: Some(pki.ca.certificate.clone()) };
    let server = HttpsServer::bind(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), flags.port), &identity)?;
    let address = server.local_addr()?;
    let url = format!("https://{address}");
    let text =
        kubeconfig::with_certificate(&flags.which.name, &url, &pki.ca.certificate, "kubernetes-admin", &pki.admin(&world)?);
    fs::write(directory.join("kubeconfig"), text).context("writing the kubeconfig")?;
    let injector = cluster.universe().injector();
    runtime.spawn(server.serve(front::handler(injector, cluster.doors()?, cluster.world(), waiting)));
    Ok(address)
}

/// Runs the universe against the wall clock until somebody asks to stop.
fn drive(
    speed: f64,
    cluster: &VirtualCluster,
    requests: &mpsc::Receiver<Asked>,
    bell: &Bell,
    waiting: &Waiting,
    interrupt: &Interrupt,
) {
    let universe = cluster.universe();
    let started = Instant::now();
    let mut pace = Pace::new(speed, started.elapsed(), universe.now());
    let mut cables = Cables::default();
    while !interrupt.asked() {
        for (request, reply) in requests.try_iter() {
            let answer = obey(&request, cluster, &mut pace, &mut cables, started);
            // Whoever asked may be gone.
            let _ = reply.send(answer);
        }
        let target = pace.target(started.elapsed(), universe.now(), universe.next_deadline(), waiting.count() > 0);
        universe.run_until(target);
        if waiting.count() == 0 {
            bell.wait(pace.rest(started.elapsed(), universe.next_deadline(), REST));
        } else {
            bell.wait(Duration::from_micros(100));
        }
    }
}

fn obey(
    request: &Request,
    cluster: &VirtualCluster,
    pace: &mut Pace,
    cables: &mut Cables,
    started: Instant,
) -> Result<String, String> {
    let universe = cluster.universe();
    let (mut speed, mut paused) = (pace.speed, pace.paused);
    match request {
        Request::Pause(pause) => paused = *pause,
        Request::Speed(wanted) => speed = *wanted,
        Request::Step(time) => {
            universe.run_until(universe.now() + *time);
            paused = true;
        }
        Request::Status => return status(cluster, pace),
        Request::Node(act, machine) => {
            // A boot takes virtual time, which passes here.
            cluster.run(switch(cluster, *act, machine, cables)).map_err(|error| error.to_string())?;
            pace.set(speed, paused, started.elapsed(), universe.now());
            return Ok(format!("{machine}: done at virtual {:.1} s", universe.now().as_secs_f64()));
        }
    }
    pace.set(speed, paused, started.elapsed(), universe.now());
    Ok(clock(universe.now(), pace))
}

fn clock(now: Duration, pace: &Pace) -> String {
    let state = if pace.paused { "stands".to_owned() } else { format!("runs at {}x", pace.speed) };
    let behind = if pace.given_up.is_zero() {
        String::new()
    } else {
        format!(", and has fallen {:.0} virtual seconds behind", pace.given_up.as_secs_f64())
    };
    format!("virtual {:.1} s; the clock {state}{behind}", now.as_secs_f64())
}

fn status(cluster: &VirtualCluster, pace: &Pace) -> Result<String, String> {
    let machines = cluster.run(cluster.machines().list()).map_err(|error| error.to_string())?;
    let mut counts: BTreeMap<PowerState, usize> = BTreeMap::new();
    for machine in &machines {
        *counts.entry(machine.power).or_default() += 1;
    }
    let states: Vec<String> = counts.iter().map(|(power, count)| format!("{count} {power:?}")).collect();
    Ok(format!("{}; machines: {}", clock(cluster.universe().now(), pace), states.join(", ")))
}

/// Machines whose cable is cut.
#[derive(Default)]
struct Cables(BTreeSet<String>);

async fn switch(cluster: &VirtualCluster, act: Act, name: &str, cables: &mut Cables) -> Result<(), MachineError> {
    let machines = cluster.machines();
    match act {
        Act::Off => machines.power_off(name, false).await,
        Act::On => machines.power_on(name).await,
        Act::Reset => machines.reset(name).await,
        Act::Shutdown => machines.shutdown(name).await,
        Act::Reboot => machines.reboot(name).await,
        Act::Hang => machines.hang(name).await,
        Act::Resume => machines.resume(name).await,
        Act::Cut | Act::Mend => {
            if !machines.list().await?.iter().any(|machine| machine.name == name) {
                return Err(MachineError::State(format!("there is no machine {name:?}")));
            }
            let changed = if act == Act::Cut { cables.0.insert(name.into()) } else { cables.0.remove(name) };
            if !changed {
                let state = if act == Act::Cut { "cut already" } else { "whole" };
                return Err(MachineError::State(format!("the cable of {name} is {state}")));
            }
            let both = cables.0.iter().flat_map(|machine| {
                let one = Some(BTreeSet::from([machine.clone()]));
                [(one.clone(), None), (None, one)].map(|(from, to)| LinkFault { from, to, effect: LinkEffect::Cut })
            });
            machines.set_link_faults(both.collect()).await
        }
    }
}

/// Wakes the driving thread.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().expect("no panic while held") = true;
        self.changed.notify_one();
    }

    /// Returns when it rings, or after `longest`.
    fn wait(&self, longest: Duration) {
        let rung = self.rung.lock().expect("no panic while held");
        let (mut rung, _) = self.changed.wait_timeout_while(rung, longest, |rung| !*rung).expect("no panic while held");
        *rung = false;
    }
}

/// A directory that goes when the simulation ends.
struct Removed<'a>(&'a Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(self.0) {
            eprintln!("{} is left: {error}", self.0.display());
        }
    }
}
