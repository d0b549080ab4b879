//! A drill on real machines: a cluster of its own, or one that is up already.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use daruma_cluster::shape::Shape;
use daruma_cluster::simulated;
use daruma_drill::file::{Drill, Placed, Problem};
use daruma_drill::report::Report;
use daruma_drill::{Options, Progress, Stage, WorldKind, preflight, undo as undoing};
use daruma_host::supervisor::{self, SupervisorError};

use super::interrupt::Interrupt;
use super::lock::Lock;
use super::source::settings_problems;
use crate::cli::Which;
use crate::cli::cluster_directory::ClusterDirectory;
use crate::cli::cluster_machines::ClusterMachines;
use crate::cli::up_machines::SERVICE;

/// File in the cluster's directory that says what a drill must still take back.
const JOURNAL: &str = "drill-journal.json";

/// Plays the drill. Where the chosen cluster is up it is used as it is and stays up; else one of the drill's shape is
/// started, and taken down at the end unless `keep`.
pub fn play(placed: &Placed, which: &Which, keep: bool, progress: &mut dyn Progress, interrupt: &Interrupt) -> Result<Report> {
    let drill = &placed.drill;
    let directory = ClusterDirectory::of(which);
    let found = is_up(which)?;
    if found {
        fits(placed, &directory)?;
    } else if directory.shape()?.is_some() {
        bail!(
            "cluster {:?} is down, but its disks are there; bring it back with `daruma up`, remove it with `daruma down`, \
             or choose another name for the drill's own cluster (--name)",
            which.name
        );
    }
    let end = Ending { which, active: !found && !keep };
    if !found {
        up(drill, which)?;
    }
    let lock = Lock::take(directory.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let record = runtime.block_on(async {
        let stage = stage(which, &directory)?;
        for line in recover(&stage, which).await? {
            eprintln!("left by an earlier drill: {line}");
        }
        daruma_rehearsal::label(&stage.client, drill).await?;
        let options = Options { journal: Some(directory.path().join(JOURNAL)), ..Options::default() };
        anyhow::Ok(daruma_drill::run_with(&stage, drill, &options, progress, interrupt.wait()).await)
    })?;
    drop(lock);
    drop(end);
    Ok(Report::new(record, &drill.spec.checks))
}

/// `daruma drill undo`.
pub fn undo(which: &Which) -> Result<ExitCode> {
    if !is_up(which)? {
        bail!("cluster {:?} is not up", which.name);
    }
    let directory = ClusterDirectory::of(which);
    let _lock = Lock::take(directory.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let lines = runtime.block_on(async { recover(&stage(which, &directory)?, which).await })?;
    if lines.is_empty() {
        println!("nothing is broken");
    }
    for line in lines {
        println!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes back what a drill that was killed left broken, before another command looks at the cluster; says so on the
/// standard error. A drill that is being played is left alone.
pub fn mend(which: &Which) -> Result<()> {
    let directory = ClusterDirectory::of(which);
    if !directory.path().join(JOURNAL).exists() || !is_up(which)? {
        return Ok(());
    }
    let Ok(_lock) = Lock::take(directory.path()) else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for line in runtime.block_on(async { recover(&stage(which, &directory)?, which).await })? {
        eprintln!("a drill that was killed had left something broken: {line}");
    }
    Ok(())
}

/// Takes back what an earlier drill's journal holds, and whatever else the supervisor knows to be broken.
async fn recover(stage: &Stage, which: &Which) -> Result<Vec<String>> {
    let journal = ClusterDirectory::of(which).path().join(JOURNAL);
    let mut done = undoing::recover(stage, &journal).await?;
    done.extend(ClusterMachines::connect(which)?.undo().await?);
    Ok(done)
}

fn stage(which: &Which, directory: &ClusterDirectory) -> Result<Stage> {
    let world = daruma_host::world::real();
    let client = directory.client(&world)?;
    let machines = ClusterMachines::connect(which)?;
    Ok(Stage { kind: WorldKind::Real, world, client, machines: Arc::new(machines) })
}

fn is_up(which: &Which) -> Result<bool> {
    match supervisor::Client::connect(&which.root, &which.name) {
        Ok(_) => Ok(true),
        Err(SupervisorError::NotUp { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What real machines refuse, beside what the drill itself does wrong.
pub fn problems(drill: &Drill) -> Vec<Problem> {
    let services = BTreeSet::from([SERVICE.to_owned()]);
    let mut problems =
        preflight::problems(drill, WorldKind::Real, &|ability| daruma_host::machines::supports(&services, ability));
    problems.extend(settings_problems(drill));
    if drill.spec.cluster.simulated > simulated::MOST {
        let message = format!("beside real machines there can be at most {} simulated nodes", simulated::MOST);
        problems.push(Problem::new("spec.cluster.simulated", message));
    }
    problems
}

/// Whether a cluster that is up has the machines that the drill names.
fn fits(placed: &Placed, directory: &ClusterDirectory) -> Result<()> {
    let shape = directory.existing_shape()?;
    let missing: Vec<String> = placed.drill.spec.cluster.machines().filter(|machine| !has(&shape, machine)).collect();
    let problem = || {
        let message = format!(
            "the drill needs {}, which cluster {:?} does not have; choose another name for a cluster of its own (--name), \
             or add nodes (`daruma node add`)",
            missing.join(", "),
            shape.name
        );
        Problem::new("spec.cluster", message)
    };
    Ok(placed.refuse((!missing.is_empty()).then(problem).into_iter().collect())?)
}

fn has(shape: &Shape, machine: &str) -> bool {
    shape.machines.iter().any(|one| one.name == machine)
        || simulated::number(machine).is_some_and(|number| simulated::numbers(shape).any(|one| one == number))
}

fn up(drill: &Drill, which: &Which) -> Result<()> {
    let (cluster, settings) = (&drill.spec.cluster, &drill.spec.settings);
    let host = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    let mut arguments = vec![
        "up".to_owned(),
        format!("--controllers={}", cluster.controllers),
        format!("--workers={}", cluster.workers),
        format!("--simulated={}", cluster.simulated),
        format!("--cpus={}", cluster.cpus.min(host)),
        format!("--memory={}", cluster.memory.0),
        format!("--disk={}", cluster.disk.0),
        format!("--boot-time={}ms", cluster.boot_time.as_ms()),
    ];
    if let Some(grace) = settings.node_monitor_grace_period {
        arguments.push(format!("--node-monitor-grace-period={}ms", grace.as_ms()));
    }
    if let Some(seconds) = settings.default_toleration_seconds {
        arguments.push(format!("--default-toleration-seconds={seconds}"));
    }
    arguments.extend(settings.set.iter().map(|(flag, value)| format!("--set={flag}={value}")));
    this(which, &arguments).context("starting the drill's cluster")
}

/// Runs this program with other arguments, for the same cluster.
fn this(which: &Which, arguments: &[String]) -> Result<()> {
    let binary: PathBuf = std::env::current_exe()?;
    let status = Command::new(binary)
        .args(arguments)
        .args(["--name", &which.name, "--root"])
        .arg(&which.root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        bail!("`daruma {}`: {status}", arguments.first().map_or("", String::as_str));
    }
    Ok(())
}

/// Takes the drill's own cluster down, also after an error.
struct Ending<'a> {
    which: &'a Which,
    active: bool,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if self.active
            && let Err(error) = this(self.which, &["down".to_owned()])
        {
            eprintln!("the drill's cluster is not down: {error:#}");
        }
    }
}
