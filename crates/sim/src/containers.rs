//! A simulated container engine: everything starts at once and runs until it is told otherwise.
//!
//! Invariant: nothing here sleeps except where a caller's grace period is modelled.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_world::World;
use daruma_world::containers::{
    Container, ContainerConfig, ContainerError, ContainerRuntime, ContainerState, ContainerStats, ExecConfig, ExecOutput,
    ExecSession, Image, RegistryAuth, Resources, Result, RuntimeEvent, RuntimeStatus, Sandbox, SandboxConfig, SandboxStats,
};
use daruma_world::net::Stream;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Notify, mpsc};

type Answer<T> = BoxFuture<'static, Result<T>>;

/// Events that may wait for the listener.
const QUEUE: usize = 4096;

/// How containers of an image behave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// They end by themselves after this time with this exit code; they run until they are stopped where `None`.
    pub exits: Option<(Duration, i32)>,
    /// They ignore the stop signal, so that the whole grace period passes.
    pub ignores_stop: bool,
    /// Why the image cannot be pulled, where it cannot.
    pub pull_fails: Option<String>,
    /// Why they cannot be started, where they cannot.
    pub start_fails: Option<String>,
    /// CPU in use, in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory in use, in bytes.
    pub memory_bytes: u64,
}

/// The engine of one simulated machine. Clones share it.
#[derive(Clone)]
pub struct SimRuntime {
    world: World,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

struct State {
    network: (u8, u8),
    next_address: u8,
    sandboxes: BTreeMap<String, Sandbox>,
    containers: BTreeMap<String, Container>,
    images: BTreeMap<String, Image>,
    behaviours: BTreeMap<String, Behaviour>,
    events: Option<mpsc::Sender<RuntimeEvent>>,
    status: RuntimeStatus,
    counter: u64,
    exec_fails: BTreeSet<String>,
}

impl SimRuntime {
    /// An engine whose pods get addresses of `10.a.b.0/24`. Every image can be pulled at once.
    pub fn new(world: &World, a: u8, b: u8) -> Self {
        let state = State {
            network: (a, b),
            next_address: 2,
            sandboxes: BTreeMap::new(),
            containers: BTreeMap::new(),
            images: BTreeMap::new(),
            behaviours: BTreeMap::new(),
            events: None,
            status: RuntimeStatus::default(),
            counter: 0,
            exec_fails: BTreeSet::new(),
        };
        Self { world: world.clone(), state: Arc::new(Mutex::new(state)), changed: Arc::new(Notify::new()) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    /// Sets how containers of an image (by the name in pods) behave from now on.
    pub fn behave(&self, image: &str, behaviour: Behaviour) {
        self.lock().behaviours.insert(image.to_owned(), behaviour);
    }

    /// Sets what [`ContainerRuntime::status`] says.
    pub fn set_status(&self, status: RuntimeStatus) {
        self.lock().status = status;
    }

    /// Makes commands in containers of this name fail (probes), or succeed again.
    pub fn fail_exec(&self, container: &str, fails: bool) {
        let mut state = self.lock();
        if fails {
            state.exec_fails.insert(container.to_owned());
        } else {
            state.exec_fails.remove(container);
        }
    }

    /// Ends the running container of this name in every pod, as if its process had exited.
    pub fn exit(&self, container: &str, exit_code: i32) {
        let ids: Vec<String> = {
            let state = self.lock();
            let of_name = state.containers.values().filter(|one| one.config.name == container && is_running(one));
            of_name.map(|one| one.id.clone()).collect()
        };
        for id in ids {
            self.finish(&id, exit_code, if exit_code == 0 { "Completed" } else { "Error" });
        }
    }

    /// A power cut and a new start: every sandbox is dead, what ran has ended with 255.
    pub fn reset(&self) {
        let now = self.world.now();
        let mut state = self.lock();
        for sandbox in state.sandboxes.values_mut() {
            sandbox.ready = false;
            sandbox.addresses.clear();
        }
        for container in state.containers.values_mut() {
            if let ContainerState::Running { started_at } = container.state {
                container.state = ContainerState::Exited {
                    started_at: Some(started_at),
                    finished_at: now,
                    exit_code: 255,
                    reason: "Error".into(),
                    message: String::new(),
                };
            }
        }
    }

    fn finish(&self, id: &str, exit_code: i32, reason: &str) {
        let now = self.world.now();
        {
            let mut state = self.lock();
            let Some(container) = state.containers.get_mut(id) else { return };
            let started_at = match container.state {
                ContainerState::Running { started_at } => Some(started_at),
                ContainerState::Created => None,
                ContainerState::Exited { .. } => return,
            };
            container.state =
                ContainerState::Exited { started_at, finished_at: now, exit_code, reason: reason.into(), message: String::new() };
            let sandbox_id = container.sandbox_id.clone();
            state.tell(&sandbox_id, Some(id));
        }
        self.changed.notify_waiters();
    }
}

fn is_running(container: &Container) -> bool {
    matches!(container.state, ContainerState::Running { .. })
}

impl State {
    fn id(&mut self) -> String {
        self.counter += 1;
        format!("{:064x}", self.counter)
    }

    fn tell(&mut self, sandbox_id: &str, container_id: Option<&str>) {
        let pod_uid = self.sandboxes.get(sandbox_id).map(|sandbox| sandbox.config.uid.clone()).unwrap_or_default();
        let event = RuntimeEvent { pod_uid, sandbox_id: sandbox_id.into(), container_id: container_id.map(str::to_owned) };
        if let Some(events) = &self.events
            && events.try_send(event).is_err()
        {
            // The listener is gone or far behind: it lists again when the stream ends.
            self.events = None;
        }
    }

    fn behaviour(&self, image_ref: &str) -> Behaviour {
        let bare = image_ref.strip_suffix(":latest").unwrap_or(image_ref);
        self.behaviours.get(image_ref).or_else(|| self.behaviours.get(bare)).cloned().unwrap_or_default()
    }
}

fn ready<T: Send + 'static>(value: Result<T>) -> Answer<T> {
    futures::future::ready(value).boxed()
}

impl ContainerRuntime for SimRuntime {
    fn version(&self) -> String {
        "daruma://sim".into()
    }

    fn status(&self) -> Answer<RuntimeStatus> {
        ready(Ok(self.lock().status.clone()))
    }

    fn events(&self) -> mpsc::Receiver<RuntimeEvent> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.lock().events = Some(sender);
        receiver
    }

    fn run_sandbox(&self, config: SandboxConfig) -> Answer<String> {
        let now = self.world.now();
        let mut state = self.lock();
        if let Some(problem) = state.status.network_problem.clone().filter(|_| !config.shared.network) {
            return ready(Err(ContainerError::Network(problem)));
        }
        let id = state.id();
        let addresses = if config.shared.network {
            vec![]
        } else {
            let (a, b) = state.network;
            let address = IpAddr::V4(Ipv4Addr::new(10, a, b, state.next_address));
            state.next_address = if state.next_address == 254 { 2 } else { state.next_address + 1 };
            vec![address]
        };
        state.sandboxes.insert(id.clone(), Sandbox { id: id.clone(), config, ready: true, created_at: now, addresses });
        state.tell(&id, None);
        ready(Ok(id))
    }

    fn stop_sandbox(&self, id: &str) -> Answer<()> {
        let inside: Vec<String> = {
            let mut state = self.lock();
            if let Some(sandbox) = state.sandboxes.get_mut(id) {
                sandbox.ready = false;
            }
            let inside = state
                .containers
                .values()
                .filter(|one| one.sandbox_id == id && is_running(one))
                .map(|one| one.id.clone())
                .collect();
            state.tell(id, None);
            inside
        };
        for container in inside {
            self.finish(&container, 137, "Error");
        }
        ready(Ok(()))
    }

    fn remove_sandbox(&self, id: &str) -> Answer<()> {
        let mut state = self.lock();
        state.sandboxes.remove(id);
        state.containers.retain(|_, container| container.sandbox_id != id);
        ready(Ok(()))
    }

    fn list_sandboxes(&self) -> Answer<Vec<Sandbox>> {
        ready(Ok(self.lock().sandboxes.values().cloned().collect()))
    }

    fn create_container(&self, sandbox_id: &str, config: ContainerConfig) -> Answer<String> {
        let now = self.world.now();
        let mut state = self.lock();
        let Some(sandbox) = state.sandboxes.get(sandbox_id) else {
            return ready(Err(ContainerError::NotFound(sandbox_id.into())));
        };
        let log_path = sandbox.config.log_directory.join(&config.log_path);
        let image_ref = state.images.get(&config.image).and_then(|image| image.tags.first().cloned()).unwrap_or_default();
        let id = state.id();
        let container = Container {
            id: id.clone(),
            sandbox_id: sandbox_id.into(),
            image_id: config.image.clone(),
            config,
            image_ref,
            created_at: now,
            state: ContainerState::Created,
            log_path,
        };
        state.containers.insert(id.clone(), container);
        ready(Ok(id))
    }

    fn start_container(&self, id: &str) -> Answer<()> {
        let now = self.world.now();
        let mut state = self.lock();
        let Some(container) = state.containers.get(id) else { return ready(Err(ContainerError::NotFound(id.into()))) };
        let behaviour = state.behaviour(&container.image_ref);
        let sandbox_id = container.sandbox_id.clone();
        if let Some(why) = behaviour.start_fails {
            if let Some(container) = state.containers.get_mut(id) {
                container.state = ContainerState::Exited {
                    started_at: None,
                    finished_at: now,
                    exit_code: 128,
                    reason: "StartError".into(),
                    message: why.clone(),
                };
            }
            return ready(Err(ContainerError::Start(why)));
        }
        if let Some(container) = state.containers.get_mut(id) {
            container.state = ContainerState::Running { started_at: now };
        }
        state.tell(&sandbox_id, Some(id));
        drop(state);
        if let Some((after, exit_code)) = behaviour.exits {
            let (runtime, id) = (self.clone(), id.to_owned());
            self.world.spawn("simulated process", async move {
                runtime.world.sleep(after).await;
                runtime.finish(&id, exit_code, if exit_code == 0 { "Completed" } else { "Error" });
            });
        }
        ready(Ok(()))
    }

    fn stop_container(&self, id: &str, grace: Duration) -> Answer<()> {
        let (runtime, id) = (self.clone(), id.to_owned());
        let stubborn = {
            let state = self.lock();
            let Some(container) = state.containers.get(&id) else { return ready(Err(ContainerError::NotFound(id))) };
            if !is_running(container) {
                return ready(Ok(()));
            }
            state.behaviour(&container.image_ref).ignores_stop
        };
        Box::pin(async move {
            if stubborn {
                runtime.world.sleep(grace).await;
                runtime.finish(&id, 137, "Error");
            } else {
                runtime.finish(&id, 143, "Error");
            }
            Ok(())
        })
    }

    fn remove_container(&self, id: &str) -> Answer<()> {
        self.lock().containers.remove(id);
        ready(Ok(()))
    }

    fn list_containers(&self) -> Answer<Vec<Container>> {
        ready(Ok(self.lock().containers.values().cloned().collect()))
    }

    fn update_resources(&self, id: &str, resources: Resources) -> Answer<()> {
        let mut state = self.lock();
        match state.containers.get_mut(id) {
            Some(container) => {
                container.config.resources = resources;
                ready(Ok(()))
            }
            None => ready(Err(ContainerError::NotFound(id.into()))),
        }
    }

    fn reopen_log(&self, _id: &str) -> Answer<()> {
        ready(Ok(()))
    }

    fn exec(&self, id: &str, config: ExecConfig) -> Answer<ExecSession> {
        let output = self.exec_sync(id, config.command, Duration::MAX);
        Box::pin(async move {
            let output = output.await?.unwrap_or_default();
            let (stdout_sender, stdout) = mpsc::channel(1);
            let (_, stderr) = mpsc::channel(1);
            let (resize, _) = mpsc::channel(1);
            // The channel is empty and open.
            let _ = stdout_sender.try_send(output.stdout);
            let exit_code = output.exit_code;
            Ok(ExecSession { stdin: None, stdout, stderr, resize, exit_code: Box::pin(async move { Ok(exit_code) }) })
        })
    }

    fn exec_sync(&self, id: &str, command: Vec<String>, _limit: Duration) -> Answer<Option<ExecOutput>> {
        let state = self.lock();
        let Some(container) = state.containers.get(id).filter(|container| is_running(container)) else {
            return ready(Err(ContainerError::NotFound(id.into())));
        };
        let exit_code = i32::from(state.exec_fails.contains(&container.config.name));
        ready(Ok(Some(ExecOutput { stdout: command.join(" ").into_bytes(), stderr: vec![], exit_code })))
    }

    fn attach(&self, _id: &str, _stdin: bool, _tty: bool) -> Answer<ExecSession> {
        ready(Err(ContainerError::Other("simulated containers have no output to attach to".into())))
    }

    fn port_forward(&self, sandbox_id: &str, port: u16) -> Answer<Box<dyn Stream>> {
        let address = self.lock().sandboxes.get(sandbox_id).and_then(|sandbox| sandbox.addresses.first().copied());
        let world = self.world.clone();
        Box::pin(async move {
            let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let connected = world.net.connect(std::net::SocketAddr::new(address, port)).await;
            connected.map_err(|error| ContainerError::Other(error.to_string()))
        })
    }

    fn stats(&self) -> Answer<Vec<SandboxStats>> {
        let now = self.world.now();
        let state = self.lock();
        let of = |sandbox: &Sandbox| SandboxStats {
            sandbox_id: sandbox.id.clone(),
            containers: state
                .containers
                .values()
                .filter(|one| one.sandbox_id == sandbox.id)
                .filter_map(|one| {
                    let ContainerState::Running { started_at } = one.state else { return None };
                    let behaviour = state.behaviour(&one.image_ref);
                    let age = Duration::try_from(now.duration_since(started_at)).unwrap_or_default();
                    Some(ContainerStats {
                        container_id: one.id.clone(),
                        at: now,
                        cpu_ns: age.as_nanos() as u64 / 1000 * behaviour.cpu_millis,
                        memory_usage_bytes: behaviour.memory_bytes,
                        memory_working_set_bytes: behaviour.memory_bytes,
                        ..ContainerStats::default()
                    })
                })
                .collect(),
            ..SandboxStats::default()
        };
        ready(Ok(state.sandboxes.values().filter(|sandbox| sandbox.ready).map(of).collect()))
    }

    fn pull_image(&self, reference: &str, _auth: Option<RegistryAuth>) -> Answer<String> {
        let mut state = self.lock();
        if let Some(why) = state.behaviour(reference).pull_fails {
            return ready(Err(ContainerError::Pull(why)));
        }
        let id = format!(
            "sha256:{:064x}",
            reference.bytes().fold(7u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)))
        );
        let image = Image {
            id: id.clone(),
            tags: vec![reference.into()],
            digests: vec![],
            size_bytes: 1 << 20,
            uid: None,
            username: None,
            pinned: false,
        };
        state.images.insert(id.clone(), image);
        ready(Ok(id))
    }

    fn image_status(&self, reference: &str) -> Answer<Option<Image>> {
        let state = self.lock();
        let found = state.images.values().find(|image| image.id == reference || image.tags.iter().any(|tag| tag == reference));
        ready(Ok(found.cloned()))
    }

    fn list_images(&self) -> Answer<Vec<Image>> {
        ready(Ok(self.lock().images.values().cloned().collect()))
    }

    fn remove_image(&self, reference: &str) -> Answer<()> {
        self.lock().images.retain(|id, image| id != reference && !image.tags.iter().any(|tag| tag == reference));
        ready(Ok(()))
    }
}
