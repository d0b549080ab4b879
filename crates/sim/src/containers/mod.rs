//! The container engine of a virtual machine.
//!
//! What a container does is said by a program ([`Programs`]: a closure in a scope of its own) or by a
//! [`Behaviour`] of its image, which costs no task while nothing happens. The engine belongs to the
//! machine, as containerd and its shims do: it goes on while a kubelet is down, and a kubelet finds
//! everything again. [`SimRuntime::control`] stops, kills or holds the engine's own service: its calls
//! then fail or wait, containers go on, and what ended meanwhile is known once it is back.
//!
//! Which sandboxes and containers exist is kept on the machine's disk and survives a loss of power by the
//! disk's rules; what ran then reads exit code 255, and sandboxes have no addresses.
//!
//! Invariant: no pods' specifications in here, and no time of its own where [`Timing::none`] is asked for.

mod addresses;
mod answers;
mod exec;
mod images;
mod life;
mod log;
mod memory;
mod mounted;
mod names;
mod power;
mod programs;
mod records;
mod sandboxes;
mod statistics;
mod strain;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daruma_world::World;
use daruma_world::containers::{
    Container, ContainerConfig, ContainerError, ContainerRuntime, ExecConfig, ExecOutput, ExecSession, Image, RegistryAuth,
    Resources, Result, RuntimeEvent, RuntimeStatus, Sandbox, SandboxConfig, SandboxStats,
};
use daruma_world::links::Prefix;
use daruma_world::machines::{MachineError, Signal};
use daruma_world::net::Stream;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Notify, mpsc};

pub use crate::behaviour::{Behaviour, Behaviours, Ending};
use crate::scope::Scope;
pub use images::BuiltInImage;
pub use log::{LogSink, Output};
pub use names::full_name;
pub use programs::{Process, ProgramBody, Programs};
use records::State;
pub use statistics::MachineUse;
pub use strain::Strain;

type Answer<T> = BoxFuture<'static, Result<T>>;

/// Events that may wait for the listener.
const QUEUE: usize = 4096;
/// What a client of containerd is told while it does not run.
const UNAVAILABLE: &str = "rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing: \
                           dial unix /run/containerd/containerd.sock: connect: connection refused\"";

/// How long the engine takes; each is drawn between two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// To make a sandbox with its network.
    pub sandbox: (Duration, Duration),
    /// To make a container, and again to start it.
    pub container: (Duration, Duration),
    /// To end and to remove one.
    pub stop: (Duration, Duration),
    /// Until a registry answers.
    pub pull_answer: (Duration, Duration),
    /// How fast images come; 0 is at once.
    pub pull_bytes_per_second: u64,
}

impl Timing {
    /// Everything happens at once.
    pub const fn none() -> Self {
        const NONE: (Duration, Duration) = (Duration::ZERO, Duration::ZERO);
        Self { sandbox: NONE, container: NONE, stop: NONE, pull_answer: NONE, pull_bytes_per_second: 0 }
    }

    /// As the embedded engine was measured: 15–30 ms a sandbox, 5–15 ms to make and start a container.
    pub const fn usual() -> Self {
        const fn between(least_us: u64, most_us: u64) -> (Duration, Duration) {
            (Duration::from_micros(least_us), Duration::from_micros(most_us))
        }
        Self {
            sandbox: between(15_000, 30_000),
            container: between(2_500, 7_500),
            stop: between(1_000, 4_000),
            pull_answer: between(300_000, 900_000),
            pull_bytes_per_second: 50 << 20,
        }
    }
}

/// Where pods' addresses come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodRange {
    /// From the file that the network agent writes; no network before.
    File(PathBuf),
    /// Always these.
    Fixed(Prefix),
}

/// What an engine is made of. Machines may share the parts behind `Arc`.
#[derive(Clone)]
pub struct EngineConfig {
    /// Images that are programs.
    pub programs: Arc<Programs>,
    /// How the others behave.
    pub behaviours: Arc<Behaviours>,
    /// Images that are there from the start and stay.
    pub images: Arc<[BuiltInImage]>,
    /// How long things take.
    pub timing: Timing,
    /// Where pods' addresses come from.
    pub range: PodRange,
    /// The machine's memory in bytes; what uses more than that in all is killed. `None` is unlimited.
    pub memory_bytes: Option<u64>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            programs: Arc::default(),
            behaviours: Arc::new(Behaviours::built_in()),
            images: Arc::new([]),
            timing: Timing::usual(),
            range: PodRange::File("/etc/cni/net.d/10-daruma.conf".into()),
            memory_bytes: None,
        }
    }
}

/// Where the engine stands.
#[derive(Clone)]
struct Ground {
    world: World,
    /// The machine from power-on to power-off; `None` for an engine that has no machine.
    scope: Option<Scope>,
}

struct Inner {
    config: Mutex<Arc<EngineConfig>>,
    ground: Mutex<Option<Ground>>,
    state: Mutex<State>,
    /// Told whenever something has changed.
    changed: Notify,
}

/// The engine of one machine. Clones share it; it stays over power-offs.
#[derive(Clone)]
pub struct SimRuntime {
    inner: Arc<Inner>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    /// The lock is never held while something outside of the engine is called that could call back.
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn config(&self) -> Arc<EngineConfig> {
        lock(&self.config).clone()
    }

    fn ground(&self) -> Option<Ground> {
        lock(&self.ground).clone()
    }

    /// The machine's surroundings.
    fn world(&self) -> World {
        self.ground().expect("who calls an engine has got it from a machine that has power").world
    }

    fn scope(&self) -> Option<Scope> {
        lock(&self.ground).as_ref()?.scope.clone()
    }

    fn age_clock(&self) -> Duration {
        lock(&self.ground).as_ref().map_or(Duration::ZERO, |ground| ground.world.monotonic())
    }

    /// Takes a time between two bounds, by chance.
    async fn take(&self, (least, most): (Duration, Duration)) {
        if most.is_zero() {
            return;
        }
        let world = self.world();
        let spread = u64::try_from(most.saturating_sub(least).as_nanos()).unwrap_or(u64::MAX);
        let time = least + Duration::from_nanos(world.random.below(spread.max(1)));
        world.sleep(self.slowed(time)).await;
    }

    fn behaviour(&self, full_name: &str) -> Arc<Behaviour> {
        images::behaviour_of(&self.state().own_behaviours, &self.config().behaviours, full_name)
    }

    /// Waits while the engine's service is held or reads its records; fails while it is stopped.
    async fn admit(&self) -> Result<()> {
        loop {
            let changed = self.changed.notified();
            match self.state().service {
                records::Service::Runs => return Ok(()),
                records::Service::Stopped | records::Service::Restarting => {
                    return Err(ContainerError::Other(UNAVAILABLE.to_owned()));
                }
                records::Service::Held | records::Service::Loading => {}
            }
            changed.await;
        }
    }

    fn emit(&self, sandbox_id: &str, container_id: Option<&str>) {
        self.state().tell(sandbox_id, container_id);
        self.changed.notify_waiters();
    }
}

impl SimRuntime {
    /// An engine without a machine, for tests of its callers: everything happens at once, every image
    /// can be pulled, pods get addresses of `10.a.b.0/24` that nobody answers at.
    pub fn new(world: &World, a: u8, b: u8) -> Self {
        let range = Prefix::new(std::net::Ipv4Addr::new(10, a, b, 0), 24);
        let config = EngineConfig { timing: Timing::none(), range: PodRange::Fixed(range), ..EngineConfig::default() };
        let runtime = Self::on_machine(config);
        *lock(&runtime.inner.ground) = Some(Ground { world: world.clone(), scope: None });
        runtime
    }

    /// The engine of a machine that has no power yet; see [`SimRuntime::power_on`].
    pub fn on_machine(config: EngineConfig) -> Self {
        let inner = Inner { config: Mutex::default(), ground: Mutex::new(None), state: Mutex::default(), changed: Notify::new() };
        let runtime = Self { inner: Arc::new(inner) };
        runtime.configure(config);
        runtime
    }

    /// Changes what the engine is made of, for all that is started from now on: a machine's init does so
    /// before it starts anything. Built-in images that were there stay.
    pub fn configure(&self, config: EngineConfig) {
        let config = Arc::new(config);
        *lock(&self.inner.config) = config.clone();
        let mut guard = self.inner.state();
        let state = &mut *guard;
        state.range_read = None;
        state.steady = None;
        for image in config.images.iter() {
            state.images.add_built_in(image);
        }
        for record in state.containers.values_mut() {
            record.behaviour = images::behaviour_of(&state.own_behaviours, &config.behaviours, &record.image_name);
        }
    }

    /// What the engine is made of.
    pub fn config(&self) -> EngineConfig {
        (*self.inner.config()).clone()
    }

    /// Sets how containers of an image (by the name in pods, or a pattern) behave from now on.
    pub fn behave(&self, image: &str, behaviour: Behaviour) {
        let shared = self.inner.config().behaviours.clone();
        let mut guard = self.inner.state();
        let state = &mut *guard;
        state.own_behaviours.set(image, behaviour);
        state.steady = None;
        for record in state.containers.values_mut() {
            record.behaviour = images::behaviour_of(&state.own_behaviours, &shared, &record.image_name);
        }
    }

    /// Sets what [`ContainerRuntime::status`] says, in addition to what is so.
    pub fn set_status(&self, status: RuntimeStatus) {
        self.inner.state().status = status;
        self.inner.changed.notify_waiters();
    }

    /// Makes commands in containers of this name fail (probes), or succeed again.
    pub fn fail_exec(&self, container: &str, fails: bool) {
        let mut state = self.inner.state();
        if fails {
            state.exec_fails.insert(container.to_owned());
        } else {
            state.exec_fails.remove(container);
        }
    }

    /// Makes a container unready, whatever its behaviour says: HTTP answers 503, commands fail.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn set_unready(&self, container_id: &str, unready: bool) -> Result<()> {
        let mut state = self.inner.state();
        let record = state.containers.get_mut(container_id);
        record.ok_or_else(|| ContainerError::NotFound(format!("container {container_id}")))?.unready = unready;
        Ok(())
    }

    /// Ends the running container of this name in every pod, as if its process had exited.
    pub fn exit(&self, container: &str, exit_code: i32) {
        // The state is let go before a container ends, which needs it.
        let ids = self.inner.state().running_named(container);
        for id in ids {
            self.inner.finish(&id, exit_code, records::reason_of(exit_code));
        }
    }

    /// A power cut and a new start, for an engine without a machine: every sandbox is dead, what ran has
    /// ended with 255.
    pub fn reset(&self) {
        let now = self.inner.world().now();
        self.inner.state().lose_all(now);
    }

    /// Containers whose processes live.
    pub fn living(&self) -> BTreeSet<String> {
        if self.turns().is_some() { self.inner.state().running() } else { BTreeSet::new() }
    }

    /// A number that changes whenever a container's process begins or ends; `None` without power, when none lives.
    pub fn turns(&self) -> Option<u64> {
        let ground = lock(&self.inner.ground);
        let has_power = ground.as_ref().is_some_and(|ground| ground.scope.as_ref().is_none_or(|scope| !scope.is_dead()));
        drop(ground);
        has_power.then(|| self.inner.state().turns)
    }

    /// Shows every container whose process lives, by the configurations of its sandbox and its own, whether the engine's
    /// service runs or not.
    pub fn each_living(&self, mut show: impl FnMut(&SandboxConfig, &ContainerConfig)) {
        if self.turns().is_none() {
            return;
        }
        let state = self.inner.state();
        for record in state.containers.values().filter(|record| record.is_running()) {
            if let Some(sandbox) = state.sandboxes.get(&record.container.sandbox_id) {
                show(&sandbox.sandbox.config, &record.container.config);
            }
        }
    }

    /// The surroundings as a process in a sandbox sees them, for probes from inside of a pod; `None` where
    /// the sandbox does not run, or the engine has no machine. What is done in it ends with the sandbox.
    pub fn pod_world(&self, sandbox_id: &str) -> Option<World> {
        let scope = self.inner.state().sandboxes.get(sandbox_id)?.scope.clone()?;
        Some(scope.world())
    }

    /// Sends a signal to a container's main process.
    ///
    /// # Errors
    /// Where it does not run, or cannot take the signal.
    pub fn signal(&self, container_id: &str, signal: Signal) -> std::result::Result<(), MachineError> {
        self.inner.signal(container_id, signal)
    }

    /// Sends a signal to the engine's own service.
    pub fn control(&self, signal: Signal) {
        self.inner.control(signal);
    }

    fn with<T, F>(&self, body: impl FnOnce(Arc<Inner>) -> F + Send + 'static) -> Answer<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let inner = self.inner.clone();
        async move {
            inner.admit().await?;
            body(inner).await
        }
        .boxed()
    }
}

impl ContainerRuntime for SimRuntime {
    fn version(&self) -> String {
        "daruma://sim".into()
    }

    fn status(&self) -> Answer<RuntimeStatus> {
        self.with(|inner| async move { Ok(inner.status().await) })
    }

    fn events(&self) -> mpsc::Receiver<RuntimeEvent> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut state = self.inner.state();
        // Whoever holds a stream without a sender sees its end, and asks again.
        if !matches!(state.service, records::Service::Stopped | records::Service::Restarting) {
            state.events = Some(sender);
        }
        receiver
    }

    fn run_sandbox(&self, config: SandboxConfig) -> Answer<String> {
        self.with(|inner| async move { inner.run_sandbox(config).await })
    }

    fn stop_sandbox(&self, id: &str) -> Answer<()> {
        let id = id.to_owned();
        self.with(|inner| async move { inner.stop_sandbox(&id).await })
    }

    fn remove_sandbox(&self, id: &str) -> Answer<()> {
        let id = id.to_owned();
        self.with(|inner| async move { inner.remove_sandbox(&id).await })
    }

    fn list_sandboxes(&self) -> Answer<Vec<Sandbox>> {
        self.with(|inner| async move { Ok(inner.state().list_sandboxes()) })
    }

    fn create_container(&self, sandbox_id: &str, config: ContainerConfig) -> Answer<String> {
        let sandbox_id = sandbox_id.to_owned();
        self.with(|inner| async move { inner.create_container(&sandbox_id, config).await })
    }

    fn start_container(&self, id: &str) -> Answer<()> {
        let id = id.to_owned();
        self.with(|inner| async move { inner.start_container(&id).await })
    }

    fn stop_container(&self, id: &str, grace: Duration) -> Answer<()> {
        let id = id.to_owned();
        self.with(move |inner| async move { inner.stop_container(&id, grace).await })
    }

    fn remove_container(&self, id: &str) -> Answer<()> {
        let id = id.to_owned();
        self.with(|inner| async move { inner.remove_container(&id).await })
    }

    fn list_pod(&self, pod_uid: &str) -> Answer<(Vec<Sandbox>, Vec<Container>)> {
        let uid = pod_uid.to_owned();
        self.with(move |inner| async move { Ok(inner.state().list_pod(&uid)) })
    }

    fn list_containers(&self) -> Answer<Vec<Container>> {
        self.with(|inner| async move { Ok(inner.state().list_containers()) })
    }

    fn update_resources(&self, id: &str, resources: Resources) -> Answer<()> {
        let id = id.to_owned();
        self.with(move |inner| async move { inner.update_resources(&id, resources) })
    }

    fn reopen_log(&self, id: &str) -> Answer<()> {
        let id = id.to_owned();
        // Every line opens the file anew.
        self.with(|inner| async move { inner.state().running_record(&id).map(|_| ()) })
    }

    fn exec(&self, id: &str, config: ExecConfig) -> Answer<ExecSession> {
        let id = id.to_owned();
        self.with(|inner| async move { inner.exec(&id, config) })
    }

    fn exec_sync(&self, id: &str, command: Vec<String>, limit: Duration) -> Answer<Option<ExecOutput>> {
        let id = id.to_owned();
        self.with(move |inner| async move { inner.exec_sync(&id, &command, limit).await })
    }

    fn attach(&self, id: &str, _stdin: bool, _tty: bool) -> Answer<ExecSession> {
        let id = id.to_owned();
        self.with(|inner| async move { inner.attach(&id) })
    }

    fn port_forward(&self, sandbox_id: &str, port: u16) -> Answer<Box<dyn Stream>> {
        let id = sandbox_id.to_owned();
        self.with(move |inner| async move { inner.port_forward(&id, port).await })
    }

    fn stats(&self) -> Answer<Vec<SandboxStats>> {
        self.with(|inner| async move { Ok(inner.statistics()) })
    }

    fn pull_image(&self, reference: &str, _auth: Option<RegistryAuth>) -> Answer<String> {
        let reference = reference.to_owned();
        self.with(|inner| async move { inner.pull_image(&reference).await })
    }

    fn image_status(&self, reference: &str) -> Answer<Option<Image>> {
        let reference = reference.to_owned();
        self.with(|inner| async move { Ok(inner.state().images.find(&reference).map(|stored| stored.image.clone())) })
    }

    fn list_images(&self) -> Answer<Arc<[Image]>> {
        self.with(|inner| async move { Ok(inner.state().images.list()) })
    }

    fn remove_image(&self, reference: &str) -> Answer<()> {
        let reference = reference.to_owned();
        self.with(|inner| async move {
            let removed = inner.state().remove_image(&reference);
            inner.settle_disk();
            removed
        })
    }
}

#[cfg(test)]
mod tests;
