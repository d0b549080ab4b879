//! `daruma up`.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use daruma_cluster::pki::Pki;
use daruma_cluster::shape::{Role, Shape};
use daruma_cluster::{kubeconfig, load_balancer, simulated};
use daruma_host::doctor;
use daruma_host::machine::CARD;
use daruma_host::machine::subnet::Subnet;
use daruma_host::supervisor::{self, Client, Program, SupervisorConfig, SupervisorError};
use daruma_world::World;

use super::cluster_directory::ClusterDirectory;
use super::{Which, sizes, up_machines, up_simulated, up_wait};
use crate::components::flags;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Flags of `daruma up`.
#[derive(Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    which: Which,
    /// Machines that run the control plane.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    controllers: u8,
    /// Machines that run applications.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=200))]
    workers: u8,
    /// Simulated nodes beside them: real kubelets in one process, whose containers only pretend to run.
    ///
    /// They carry the label type=simulated and the taint daruma.dev/node=simulated:NoSchedule.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=i64::from(simulated::MOST)))]
    simulated: u32,
    /// A file that says how containers of simulated nodes behave, by image.
    #[arg(long, value_name = "FILE")]
    behaviours: Option<PathBuf>,
    /// CPUs of each machine; all of the host's by default.
    #[arg(long, value_name = "N", value_parser = sizes::cpu_millis)]
    cpus: Option<u64>,
    /// Memory of each machine.
    #[arg(long, default_value = "1Gi", value_parser = sizes::bytes)]
    memory: u64,
    /// Disk of each machine; it takes space on the host as it fills.
    #[arg(long, default_value = "4Gi", value_parser = sizes::bytes)]
    disk: u64,
    /// How long a machine takes from power-on to a running system.
    #[arg(long, default_value = "5s", value_parser = flags::duration)]
    boot_time: Duration,
    /// A node without a heartbeat for so long is NotReady.
    #[arg(long, default_value = "50s")]
    node_monitor_grace_period: String,
    /// How long pods tolerate a node that is not ready or unreachable, in seconds.
    #[arg(long, default_value_t = 300)]
    default_toleration_seconds: u64,
    /// A flag of a component, e.g. kube-controller-manager.kube-api-qps=100.
    #[arg(long = "set", value_name = "COMPONENT.FLAG=VALUE", value_parser = sizes::setting)]
    settings: Vec<(String, String, String)>,
    /// Give up after this long.
    #[arg(long, default_value = "2m", value_parser = flags::duration)]
    timeout: Duration,
    /// How the result is printed.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// Starts the cluster and waits until every node is Ready.
pub fn run(flags: &Flags) -> Result<()> {
    check_host()?;
    check_flags(flags)?;
    let Which { name, root } = &flags.which;
    match Client::connect(root, name) {
        Err(SupervisorError::NotUp { .. }) => {}
        Ok(_) => bail!("cluster {name:?} is up already; see `daruma status --name {name}`"),
        Err(error) => return Err(error.into()),
    }
    supervisor::clean(root, name, false)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(up(flags))
}

async fn up(flags: &Flags) -> Result<()> {
    let world = daruma_host::world::real();
    let (started, since) = (world.monotonic(), world.now());
    let Which { name, root } = &flags.which;
    let behaviours = up_simulated::behaviours(flags.behaviours.as_deref(), flags.simulated)?;
    let directory = ClusterDirectory::of(&flags.which);
    std::fs::create_dir_all(directory.path()).with_context(|| format!("making {}", directory.path().display()))?;
    let subnet = Subnet::choose(root, name)?;
    let earlier = directory.shape()?;
    let shape = match &earlier {
        Some(shape) => shape.clone(),
        None => shape(flags, subnet)?,
    };
    let pki = directory.pki(&world)?;
    write_kubeconfigs(&world, &directory, &shape, &pki)?;
    up_simulated::keep_behaviours(&directory, behaviours.as_deref())?;
    directory.write_shape(&shape)?;
    let images = directory.path().join("images");
    daruma_runtime::builtin::prepare(&images, &std::env::current_exe()?).context("laying out the built-in images")?;
    let config = SupervisorConfig {
        cluster: name.clone(),
        root: root.clone(),
        machines: up_machines::specs(&world, &shape, &pki, subnet, &images)?,
        subnet,
        beside: std::iter::once(load_balancer::command(&shape, &directory.load_balancer(), Some(CARD)))
            .chain(up_simulated::command(&shape, &flags.which))
            .collect(),
    };
    let progress = up_wait::Progress::new(flags.output == Output::Text);
    progress.say(&format!("starting {} machines", shape.machines.len()));
    supervisor::launch(&config, &Program::this())?;
    let client = directory.client(&world)?;
    let ready = async {
        up_wait::until_ready(&client, &shape, &progress, &flags.which).await?;
        up_simulated::until_ready(&client, simulated::numbers(&shape).map(simulated::name).collect(), &progress, since).await;
        anyhow::Ok(())
    };
    let result = world.timeout(flags.timeout, ready).await;
    progress.finish();
    match result {
        Ok(result) => result?,
        Err(_) => bail!(
            "the cluster was not ready after {:?}; look at `daruma status`, `daruma logs controller-0` and `daruma kubectl get pods -A`",
            flags.timeout
        ),
    }
    let took = world.monotonic().saturating_sub(started);
    report(flags, &directory, &shape, earlier.is_some(), took)
}

fn check_host() -> Result<()> {
    let problems: Vec<String> =
        doctor::check().iter().filter(|finding| super::doctor::is_fatal(finding)).map(super::doctor::line).collect();
    if !problems.is_empty() {
        bail!("this host cannot run a cluster yet:\n  {}", problems.join("\n  "));
    }
    Ok(())
}

/// Refuses what cannot be started, before anything is reserved or written.
fn check_flags(flags: &Flags) -> Result<()> {
    if flags.controllers > 1 {
        bail!("clusters with several controllers are not supported yet; use --controllers 1");
    }
    flags::duration(&flags.node_monitor_grace_period).map_err(anyhow::Error::msg)?;
    let (cpu_millis, host_cpus) = (cpu_millis(flags)?, host_cpu_millis()?);
    if cpu_millis > host_cpus {
        bail!("--cpus {}: this host has only {} CPUs", cpu_millis as f64 / 1000.0, host_cpus / 1000);
    }
    if flags.memory < 128 << 20 {
        bail!("--memory: a machine needs 128Mi or more");
    }
    if flags.disk < 256 << 20 {
        bail!("--disk: a machine needs 256Mi or more");
    }
    for (component, flag, value) in &flags.settings {
        crate::components::check_setting(component, flag, value)?;
    }
    Ok(())
}

fn host_cpu_millis() -> Result<u64> {
    Ok(std::thread::available_parallelism()?.get() as u64 * 1000)
}

fn cpu_millis(flags: &Flags) -> Result<u64> {
    flags.cpus.map_or_else(host_cpu_millis, Ok)
}

fn shape(flags: &Flags, subnet: Subnet) -> Result<Shape> {
    let mut shape = Shape {
        name: flags.which.name.clone(),
        network: subnet.network,
        machines: Shape::place(subnet.network, flags.controllers, flags.workers),
        simulated: flags.simulated,
        simulated_gone: Default::default(),
        cpu_millis: cpu_millis(flags)?,
        memory_bytes: flags.memory,
        disk_bytes: flags.disk,
        boot_time_ms: u64::try_from(flags.boot_time.as_millis())?,
        node_monitor_grace_period: flags.node_monitor_grace_period.clone(),
        default_toleration_seconds: flags.default_toleration_seconds,
        settings: Default::default(),
    };
    for (component, flag, value) in &flags.settings {
        shape.settings.entry(component.clone()).or_default().insert(flag.clone(), value.clone());
    }
    let nodes = shape.machines.len() + shape.simulated as usize;
    simulated::make_room(&mut shape.settings, nodes);
    up_simulated::raise_limits(&mut shape, nodes);
    Ok(shape)
}

fn write_kubeconfigs(world: &World, directory: &ClusterDirectory, shape: &Shape, pki: &Pki) -> Result<()> {
    let url = shape.api_server_url();
    let users = [
        ("kubeconfig", "kubernetes-admin", pki.admin(world)?),
        ("super-admin.conf", "kubernetes-super-admin", pki.super_admin(world)?),
    ];
    for (file, user, pair) in users {
        if !directory.path().join(file).exists() {
            directory.write(file, &kubeconfig::with_certificate(&shape.name, &url, &pki.ca.certificate, user, &pair))?;
        }
    }
    if !directory.load_balancer().exists() {
        directory.write("load-balancer.conf", &load_balancer::kubeconfig(world, shape, pki)?)?;
    }
    Ok(())
}

fn report(flags: &Flags, directory: &ClusterDirectory, shape: &Shape, again: bool, took: Duration) -> Result<()> {
    let kubeconfig: PathBuf = directory.kubeconfig();
    let mut out = std::io::stdout().lock();
    if flags.output == Output::Json {
        let nodes: Vec<_> = shape
            .machines
            .iter()
            .map(|machine| serde_json::json!({"name": machine.name, "address": machine.address, "role": machine.role}))
            .collect();
        let report = serde_json::json!({
            "name": shape.name,
            "kubeconfig": kubeconfig,
            "server": shape.api_server_url(),
            "nodes": nodes,
            "simulated": simulated::count(shape),
            "restored": again,
            "seconds": took.as_secs_f64(),
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        return Ok(());
    }
    let word = if again { "back" } else { "up" };
    let nodes = shape.machines.len() + simulated::count(shape) as usize;
    writeln!(out, "cluster {:?} is {word}: {nodes} nodes Ready after {:.1} s", shape.name, took.as_secs_f64())?;
    writeln!(out, "\nTalk to it:\n\n    export KUBECONFIG={}\n    kubectl get nodes -o wide\n", kubeconfig.display())?;
    if let Some(worker) = shape.machines.iter().rev().find(|machine| machine.role == Role::Worker) {
        let name = if shape.name == "daruma" { String::new() } else { format!(" --name {}", shape.name) };
        writeln!(out, "Knock something over:\n\n    daruma node reset{name} {}\n", worker.name)?;
    }
    Ok(())
}
