//! What the engine knows of sandboxes and containers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use daruma_world::Task;
use daruma_world::containers::{Container, ContainerError, ContainerState, Result, RuntimeEvent, RuntimeStatus, Sandbox};
use daruma_world::links::Prefix;
use tokio::sync::mpsc;

use super::addresses::Addresses;
use super::answers::OpenPort;
use super::images::Images;
use super::log::LogSink;
use super::programs::Used;
use super::statistics::Steady;
use super::strain::{Strain, slow};
use crate::behaviour::{Behaviour, Behaviours};
use crate::scope::Scope;

/// Whether the engine's own service answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Service {
    #[default]
    Runs,
    /// It reads its records after a power-on.
    Loading,
    Held,
    /// Its init starts it again soon.
    Restarting,
    Stopped,
}

/// A sandbox.
pub(super) struct SandboxRecord {
    pub(super) sandbox: Sandbox,
    /// Its network and its containers; `None` where the engine has no machine, and once it has ended.
    pub(super) scope: Option<Scope>,
}

/// A container's process while it runs.
#[derive(Default)]
pub(super) struct Life {
    /// Made when the process first needs one.
    pub(super) scope: Option<Scope>,
    /// Its tasks, where the engine has no machine.
    pub(super) tasks: Vec<Task>,
    pub(super) is_program: bool,
    pub(super) used: Arc<Used>,
    /// Monotonic.
    pub(super) started: Duration,
    pub(super) paused_since: Option<Duration>,
    pub(super) paused_for: Duration,
    /// How long its start-up takes, in percent of the usual.
    pub(super) slowness_percent: u32,
    /// SIGTERM arrived during a pause.
    pub(super) must_terminate: bool,
    pub(super) log: Option<LogSink>,
    pub(super) requests: u64,
    pub(super) ports: Vec<OpenPort>,
}

/// A container.
pub(super) struct ContainerRecord {
    pub(super) container: Container,
    /// Id of its image.
    pub(super) image_key: String,
    /// Full name of its image.
    pub(super) image_name: String,
    pub(super) argv: Vec<String>,
    pub(super) behaviour: Arc<Behaviour>,
    pub(super) unready: bool,
    /// While it runs.
    pub(super) life: Option<Life>,
    /// Bytes of its own layer when it ended.
    pub(super) layer_bytes: u64,
}

impl ContainerRecord {
    pub(super) fn is_running(&self) -> bool {
        self.life.is_some()
    }

    /// Time that the process has run, pauses aside.
    pub(super) fn age(&self, now: Duration) -> Duration {
        self.life.as_ref().map_or(Duration::ZERO, |life| {
            life.paused_since.unwrap_or(now).saturating_sub(life.started).saturating_sub(life.paused_for)
        })
    }

    pub(super) fn is_ready(&self, now: Duration) -> bool {
        let slowness = self.life.as_ref().map_or(0, |life| life.slowness_percent);
        !self.unready && self.age(now) >= slow(self.behaviour.ready_after, slowness)
    }

    /// Memory in use in bytes.
    pub(super) fn memory(&self, now: Duration) -> u64 {
        let Some(life) = &self.life else { return 0 };
        self.behaviour.memory_at(self.age(now)).saturating_add(life.used.memory_bytes.load(Ordering::Relaxed))
    }

    /// CPU time used in nanoseconds.
    pub(super) fn cpu_ns(&self, now: Duration) -> u64 {
        self.life.as_ref().map_or(0, |life| cpu_ns(self.age(now), self.cpu_millis(life)))
    }

    /// What it uses of the CPUs now, in thousandths of one.
    fn cpu_millis(&self, life: &Life) -> u64 {
        let millis = self.behaviour.cpu_millis + life.used.cpu_millis.load(Ordering::Relaxed);
        // The kernel lets nobody use more than the limit.
        let resources = &self.container.config.resources;
        let limit = resources.cpu_quota_us.filter(|quota| *quota > 0).zip(resources.cpu_period_us.filter(|period| *period > 0));
        let most = limit.map_or(u64::MAX, |(quota, period)| quota as u64 * 1000 / period);
        millis.min(most)
    }

    /// The moment from which its age counts and thousandths of a core, where these and its memory stay as they are.
    pub(super) fn steady_cpu(&self) -> Option<(Duration, u64)> {
        let life = self.life.as_ref()?;
        let is_steady = !life.is_program && life.paused_since.is_none() && self.behaviour.memory_growth.is_empty();
        is_steady.then(|| (life.started + life.paused_for, self.cpu_millis(life)))
    }

    /// Bytes of its own layer.
    pub(super) fn layer(&self, now: Duration) -> u64 {
        if self.is_running() { self.behaviour.disk_at(self.age(now)) } else { self.layer_bytes }
    }

    /// Marks a container whose end nobody saw.
    pub(super) fn lose(&mut self, now: jiff::Timestamp) {
        let started_at = match &self.container.state {
            ContainerState::Exited { .. } => return,
            ContainerState::Running { started_at } => Some(*started_at),
            ContainerState::Created => None,
        };
        self.life = None;
        self.container.state = ContainerState::Exited {
            started_at,
            finished_at: now,
            exit_code: 255,
            reason: "Error".to_owned(),
            message: "the container was lost: its machine or its shim ended before it".to_owned(),
        };
    }
}

/// The reason that goes with an exit code.
pub(super) fn reason_of(exit_code: i32) -> &'static str {
    if exit_code == 0 { "Completed" } else { "Error" }
}

/// CPU time in nanoseconds of a process of this age that uses so many thousandths of a core.
pub(super) fn cpu_ns(age: Duration, millis: u64) -> u64 {
    (age.as_nanos() as u64 / 1000).saturating_mul(millis)
}

/// Everything that the engine knows.
#[derive(Default)]
pub(super) struct State {
    pub(super) sandboxes: BTreeMap<String, SandboxRecord>,
    pub(super) containers: BTreeMap<String, ContainerRecord>,
    pub(super) images: Images,
    pub(super) own_behaviours: Behaviours,
    pub(super) addresses: Addresses,
    /// What the file with the range of pods' addresses said, and the state of the disk at which it was read.
    pub(super) range_read: Option<(u64, std::result::Result<Prefix, String>)>,
    pub(super) events: Option<mpsc::Sender<RuntimeEvent>>,
    pub(super) service: Service,
    pub(super) status: RuntimeStatus,
    pub(super) exec_fails: BTreeSet<String>,
    /// What others than containers use of the machine.
    pub(super) strain: Strain,
    /// CPU time of containers that have ended since power-on, in nanoseconds.
    pub(super) ended_cpu_ns: u64,
    /// How often a container's process has begun or ended.
    pub(super) turns: u64,
    /// What the containers use together, while that is simply said.
    pub(super) steady: Option<Steady>,
    /// Directories of records were made since power-on.
    pub(super) has_directories: bool,
}

impl State {
    pub(super) fn tell(&mut self, sandbox_id: &str, container_id: Option<&str>) {
        if matches!(self.service, Service::Held | Service::Restarting | Service::Stopped) {
            return;
        }
        let pod_uid = self.sandboxes.get(sandbox_id).map(|record| record.sandbox.config.uid.clone()).unwrap_or_default();
        let event = RuntimeEvent { pod_uid, sandbox_id: sandbox_id.into(), container_id: container_id.map(str::to_owned) };
        if let Some(events) = &self.events
            && events.try_send(event).is_err()
        {
            // The listener is gone or far behind: it lists again when the stream ends.
            self.events = None;
        }
    }

    pub(super) fn sandbox(&self, id: &str) -> Result<&SandboxRecord> {
        self.sandboxes.get(id).ok_or_else(|| ContainerError::NotFound(format!("sandbox {id}")))
    }

    pub(super) fn container(&self, id: &str) -> Result<&ContainerRecord> {
        self.containers.get(id).ok_or_else(|| ContainerError::NotFound(format!("container {id}")))
    }

    pub(super) fn running_record(&self, id: &str) -> Result<&ContainerRecord> {
        let record = self.container(id)?;
        if record.is_running() { Ok(record) } else { Err(ContainerError::Other(format!("container {id} is not running"))) }
    }

    pub(super) fn list_sandboxes(&self) -> Vec<Sandbox> {
        self.sandboxes.values().map(|record| record.sandbox.clone()).collect()
    }

    pub(super) fn list_pod(&self, uid: &str) -> (Vec<Sandbox>, Vec<Container>) {
        let of_pod = self.sandboxes.values().filter(|record| record.sandbox.config.uid == uid);
        let sandboxes: Vec<Sandbox> = of_pod.map(|record| record.sandbox.clone()).collect();
        let is_inside = |container: &Container| sandboxes.iter().any(|sandbox| sandbox.id == container.sandbox_id);
        let containers = self.containers.values().map(|record| &record.container).filter(|container| is_inside(container));
        let containers = containers.cloned().collect();
        (sandboxes, containers)
    }

    pub(super) fn list_containers(&self) -> Vec<Container> {
        self.containers.values().map(|record| record.container.clone()).collect()
    }

    pub(super) fn running(&self) -> BTreeSet<String> {
        self.containers.iter().filter(|(_, record)| record.is_running()).map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn running_named(&self, name: &str) -> Vec<String> {
        let of_name = self.containers.iter().filter(|(_, record)| record.is_running() && record.container.config.name == name);
        of_name.map(|(id, _)| id.clone()).collect()
    }

    /// Ids of a sandbox's containers.
    pub(super) fn inside(&self, sandbox_id: &str) -> Vec<String> {
        let inside = self.containers.iter().filter(|(_, record)| record.container.sandbox_id == sandbox_id);
        inside.map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn remove_image(&mut self, reference: &str) -> Result<()> {
        let used: Vec<String> = self.containers.values().map(|record| record.image_key.clone()).collect();
        self.images.remove(reference, &used)
    }

    /// The power was gone.
    pub(super) fn lose_all(&mut self, now: jiff::Timestamp) {
        self.turns += 1;
        for record in self.sandboxes.values_mut() {
            record.sandbox.ready = false;
            record.sandbox.addresses.clear();
            record.scope = None;
        }
        for record in self.containers.values_mut() {
            record.lose(now);
        }
        self.addresses.clear();
        self.events = None;
    }
}
