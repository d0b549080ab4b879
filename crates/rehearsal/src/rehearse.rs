//! A drill played in the virtual world.

use std::time::Duration;

use daruma_api::apps::v1::Deployment;
use daruma_api::core::v1::{Node, Pod};
use daruma_client::{Client, ClientError, ListOptions, Patch};
use daruma_drill::checks::Verdict;
use daruma_drill::file::Drill;
use daruma_drill::record::Record;
use daruma_drill::report::Report;
use daruma_drill::{Progress, Stage, WorldKind};
use serde_json::json;

use crate::EventLog;
use crate::cluster::{StartError, VirtualCluster};
use crate::invariants::Violation;
use crate::options::Options;

/// How long a cluster may take to become ready, in virtual time.
const READY_WITHIN: Duration = Duration::from_secs(600);
/// Nodes of a loaded cluster are switched on within one period of their heartbeats.
const SPREAD: Duration = Duration::from_secs(10);
/// How often a loaded cluster is looked at while its pods start.
const LOOK: Duration = Duration::from_secs(5);

/// Why a drill was not played.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// The cluster cannot be made.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The API refused what the set-up needs.
    #[error("setting the cluster up: {0}")]
    SetUp(#[from] ClientError),
    /// It never became ready.
    #[error("the cluster was not ready after {within:?} of virtual time: {what}")]
    NotReady {
        /// How long was waited.
        within: Duration,
        /// What is missing.
        what: &'static str,
    },
}

/// How a drill is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rehearsal {
    /// The same seed gives the same run.
    pub seed: u64,
    /// Whether the standing invariants are checked; a run of thousands of nodes is faster without.
    pub invariants: bool,
    /// Whether [`Rehearsed::log`] is kept.
    pub keeps_log: bool,
}

/// A drill that was played.
pub struct Rehearsed {
    /// What was seen.
    pub record: Record,
    /// Invariants that were broken.
    pub violations: Vec<Violation>,
    /// What happened, line by line; the same for the same seed. Empty where it was not to be kept.
    pub log: EventLog,
}

impl Rehearsed {
    /// Judges and measures the run. A broken invariant counts as a check that did not hold.
    pub fn report(&self, drill: &Drill) -> Report {
        let mut report = Report::new(self.record.clone(), &drill.spec.checks);
        for violation in &self.violations {
            report.held = false;
            report.verdicts.push(Verdict {
                check: format!("invariant {}", violation.invariant),
                demand: "holds in every run".into(),
                held: false,
                text: violation.to_string(),
            });
        }
        report
    }
}

/// A cluster that stands ready for a drill.
pub struct Prepared {
    cluster: VirtualCluster,
    seed: u64,
}

impl Rehearsal {
    /// Starts the drill's cluster, waits until it is ready, labels its nodes and loads it.
    ///
    /// # Errors
    /// See [`RehearsalError`].
    pub fn prepare(self, drill: &Drill) -> Result<Prepared, RehearsalError> {
        let cluster = VirtualCluster::start(options(drill, self))?;
        let preloads = &drill.spec.cluster.preload;
        if !preloads.is_empty() {
            cluster.hold("kube-controller-manager");
        }
        cluster.run(async {
            let client = cluster.client();
            let world = cluster.world();
            if !preloads.is_empty() {
                reach(&client).await;
                cluster.load(&drill.spec.cluster).await?;
                cluster.power_on_workers(SPREAD);
                if world.timeout(READY_WITHIN, cluster.standing().all()).await.is_err() {
                    return Err(not_ready("a node does not stand"));
                }
                cluster.release();
            }
            match world.timeout(READY_WITHIN, cluster.wait_ready()).await {
                Ok(ready) => ready?,
                Err(_) => return Err(not_ready("a node is not Ready")),
            }
            label(&client, drill).await?;
            if world.timeout(READY_WITHIN, all_run(&client)).await.is_err() {
                return Err(not_ready("a pod does not run"));
            }
            // A cluster that is said to have stood for long has been scraped before, too.
            if !preloads.is_empty() && world.timeout(READY_WITHIN, add_ons_available(&client)).await.is_err() {
                return Err(not_ready("an add-on is not available"));
            }
            Ok(())
        })?;
        Ok(Prepared { cluster, seed: self.seed })
    }

    /// [`Rehearsal::prepare`], [`Prepared::play`], and the end of that world.
    ///
    /// # Errors
    /// See [`RehearsalError`].
    pub fn play(
        self,
        drill: &Drill,
        progress: &mut dyn Progress,
        interrupted: &(dyn Fn() -> bool + Sync),
    ) -> Result<Rehearsed, RehearsalError> {
        Ok(self.prepare(drill)?.play(drill, progress, interrupted))
    }
}

impl Prepared {
    /// The cluster.
    pub fn cluster(&self) -> &VirtualCluster {
        &self.cluster
    }

    /// Plays the drill to its end. `interrupted` is asked once a virtual second. The world stays as it is then.
    pub fn play(&self, drill: &Drill, progress: &mut dyn Progress, interrupted: &(dyn Fn() -> bool + Sync)) -> Rehearsed {
        let cluster = &self.cluster;
        let world = cluster.world();
        let stage = Stage { kind: WorldKind::Sim, world: world.clone(), client: cluster.client(), machines: cluster.machines() };
        let options = daruma_drill::Options { seed: Some(self.seed), ends_world: true, ..daruma_drill::Options::default() };
        let asked = async {
            while !interrupted() {
                world.sleep(Duration::from_secs(1)).await;
            }
        };
        let record = cluster.run(daruma_drill::run_with(&stage, drill, &options, progress, asked));
        if let Some(guard) = cluster.guard()
            && record.aborted.is_none()
            && !drill.spec.converge_within.is_zero()
        {
            let converged = async {
                while guard.converged().is_err() {
                    world.sleep(LOOK).await;
                }
            };
            // What has not converged by then is what the invariant will say.
            let _ = cluster.run(world.timeout(drill.spec.converge_within.duration(), converged));
            guard.settled(world.monotonic());
        }
        Rehearsed { record, log: cluster.log().clone(), violations: cluster.violations() }
    }
}

/// What a drill asks a virtual cluster to be.
fn options(drill: &Drill, rehearsal: Rehearsal) -> Options {
    let (cluster, settings) = (&drill.spec.cluster, &drill.spec.settings);
    let mut options = Options {
        seed: rehearsal.seed,
        controllers: u16::try_from(cluster.controllers).unwrap_or(u16::MAX),
        workers: u16::try_from(cluster.workers).unwrap_or(u16::MAX),
        simulated: u16::try_from(cluster.simulated).unwrap_or(u16::MAX),
        cpu_millis: (cluster.cpus * 1000.0) as u64,
        memory_bytes: cluster.memory.0,
        disk_bytes: cluster.disk.0,
        boot_time: cluster.boot_time.duration(),
        node_agents: cluster.node_agents,
        workers_wait: !cluster.preload.is_empty(),
        invariants: rehearsal.invariants,
        keeps_log: rehearsal.keeps_log,
        ..Options::default()
    };
    if let Some(grace) = settings.node_monitor_grace_period {
        options.node_monitor_grace_period = format!("{}ms", grace.as_ms());
    }
    if let Some(seconds) = settings.default_toleration_seconds {
        options.default_toleration_seconds = seconds;
    }
    for (name, value) in &settings.set {
        // The file's reader has seen to the dot.
        if let Some((component, flag)) = name.split_once('.') {
            options.settings.push((component.to_owned(), flag.to_owned(), value.clone()));
        }
    }
    options
}

/// Gives the nodes the labels of the drill's file.
///
/// # Errors
/// The API refused one.
pub async fn label(client: &Client, drill: &Drill) -> Result<(), ClientError> {
    let nodes = client.cluster::<Node>();
    for machine in drill.spec.cluster.machines() {
        let labels = drill.spec.cluster.labels_of(&machine);
        if !labels.is_empty() {
            nodes.patch(&machine, &Patch::Merge(json!({"metadata": {"labels": labels}}))).await?;
        }
    }
    Ok(())
}

fn not_ready(what: &'static str) -> RehearsalError {
    RehearsalError::NotReady { within: READY_WITHIN, what }
}

/// Completes when the API answers.
async fn reach(client: &Client) {
    while client.cluster::<Node>().list(&ListOptions::default()).await.is_err() {
        client.world().sleep(Duration::from_millis(100)).await;
    }
}

/// Completes when every pod runs.
async fn all_run(client: &Client) {
    let waiting = ListOptions { field_selector: "status.phase!=Running".into(), limit: Some(1), ..ListOptions::default() };
    loop {
        match client.all::<Pod>().list(&waiting).await {
            Ok(pods) if pods.items.is_empty() => return,
            _ => client.world().sleep(LOOK).await,
        }
    }
}

/// Completes when every add-on that is a Deployment is there in full.
async fn add_ons_available(client: &Client) {
    let is_available = |deployment: &Deployment| {
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        deployment.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0) >= wanted
    };
    loop {
        match client.namespaced::<Deployment>("kube-system").list(&ListOptions::default()).await {
            Ok(deployments) if deployments.items.iter().all(is_available) => return,
            _ => client.world().sleep(LOOK).await,
        }
    }
}
