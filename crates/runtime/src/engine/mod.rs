//! The embedded engine: keeps records, asks shims, tells events.

mod containers;
mod sandboxes;
mod start;
mod state;
mod statistics;
mod streams;
mod supervise;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use daruma_world::World;
use daruma_world::containers::{
    Container, ContainerConfig, ContainerError, ContainerRuntime, ExecConfig, ExecOutput, ExecSession, Image, RegistryAuth,
    Resources, Result, RuntimeEvent, RuntimeStatus, Sandbox, SandboxConfig, SandboxNetwork, SandboxStats,
};
use daruma_world::net::Stream;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Notify, mpsc};

use crate::cgroups::Cgroups;
use crate::images::ImageStore;
use crate::images::registry::Settings as RegistrySettings;
use crate::shim::protocol::{self, Call, Reply, Request};
use state::State;

type Answer<T> = BoxFuture<'static, Result<T>>;

/// Events that wait for the receiver; when it is further behind, a full listing is due anyway.
const EVENTS: usize = 4096;
/// `oom_score_adj` of containers that the node needs, where the kernel allows none below 0. The kubelet and the shims stay
/// below it (`host::machine::oom`), so that the kernel ends a container before them.
const LEAST_SCORE: i32 = 100;

/// Where an engine works.
#[derive(Clone)]
pub struct EngineConfig {
    /// Records, images and writable layers, on the machine's disk: `/var/lib/daruma/engine`.
    pub root: PathBuf,
    /// Sockets and mounts, on a volatile file system: `/run/daruma/engine`. At most 40 bytes long,
    /// since socket paths end at 107.
    pub run_dir: PathBuf,
    /// The program that is run as `SHIM_EXE shim --dir DIRECTORY`: `/proc/self/exe`.
    pub shim_exe: PathBuf,
    /// Gives pods their network.
    pub network: Arc<dyn SandboxNetwork>,
    /// Read-only directory of built-in images (see [`crate::builtin::prepare`]); `None` for none.
    pub builtin_images: Option<PathBuf>,
    /// Where control groups are mounted: `/sys/fs/cgroup`.
    pub cgroup_mount: PathBuf,
    /// All groups are made below this one; empty inside a machine.
    pub cgroup_root: String,
    /// The lowest `oom_score_adj` of a container; `None`: -1000 with `CAP_SYS_RESOURCE`, else above the machine's own programs.
    pub min_oom_score_adj: Option<i32>,
    /// Whom registries are believed.
    pub registries: RegistrySettings,
}

/// A container engine in the caller's process, its containers below shims of their own.
#[derive(Clone)]
pub struct EmbeddedEngine {
    inner: Arc<Inner>,
}

/// What all calls share.
struct Inner {
    world: World,
    config: EngineConfig,
    cgroups: Cgroups,
    images: Arc<ImageStore>,
    min_oom_score_adj: i32,
    state: Mutex<State>,
    /// Told whenever a container's or sandbox's state changes.
    changed: Notify,
    events: Mutex<Option<mpsc::Sender<RuntimeEvent>>>,
    /// Sizes of writable layers: when measured (monotonic), bytes, inodes.
    layer_usage: Mutex<BTreeMap<String, (Duration, u64, u64)>>,
}

/// Makes an [`ContainerError::Other`] that says what was being done.
fn other(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> ContainerError {
    let what = what.to_string();
    move |error| ContainerError::Other(format!("{what}: {error}"))
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A sandbox's directory on the volatile file system, which holds its shim's socket.
    fn shim_dir(&self, sandbox_id: &str) -> PathBuf {
        self.config.run_dir.join("s").join(&sandbox_id[..sandbox_id.len().min(16)])
    }

    fn socket(&self, sandbox_id: &str) -> PathBuf {
        self.shim_dir(sandbox_id).join(crate::shim::SOCKET)
    }

    fn netns(&self, sandbox_id: &str) -> PathBuf {
        self.config.run_dir.join("netns").join(sandbox_id)
    }

    fn sandbox_dir(&self, id: &str) -> PathBuf {
        self.config.root.join("sandboxes").join(id)
    }

    fn container_dir(&self, id: &str) -> PathBuf {
        self.config.root.join("containers").join(id)
    }

    /// Control group of a container.
    fn cgroup(parent: &str, id: &str) -> String {
        format!("{}/{id}", parent.trim_matches('/'))
    }

    fn new_id(&self) -> String {
        let mut bytes = [0u8; 32];
        self.world.random.fill(&mut bytes);
        crate::images::hex(&bytes)
    }

    /// Asks a sandbox's shim and waits for its first answer.
    async fn call(&self, sandbox_id: &str, request: Request, fds: Vec<std::os::fd::OwnedFd>) -> Result<Call> {
        let socket = self.socket(sandbox_id);
        let call = self
            .world
            .blocking(move || {
                let raw: Vec<_> = fds.iter().map(std::os::fd::AsRawFd::as_raw_fd).collect();
                protocol::call(&socket, &request, &raw)
            })
            .await
            .map_err(other("ask the sandbox's shim"))?;
        match call.reply {
            Reply::Refused(text) => Err(ContainerError::Other(text)),
            _ => Ok(call),
        }
    }

    fn emit(&self, sandbox_id: &str, container_id: Option<&str>) {
        let pod_uid = self.state().sandboxes.get(sandbox_id).map(|sandbox| sandbox.config.uid.clone()).unwrap_or_default();
        let event = RuntimeEvent { pod_uid, sandbox_id: sandbox_id.to_owned(), container_id: container_id.map(str::to_owned) };
        if let Some(sender) = &*self.events.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            // A full queue loses the event; the receiver lists everything from time to time.
            let _ = sender.try_send(event);
        }
        self.changed.notify_waiters();
    }
}

impl EmbeddedEngine {
    /// Opens the engine's directories and reconnects to the shims that still run. Sandboxes without
    /// one are not ready, and their containers are lost with exit code 255.
    pub async fn open(world: &World, config: EngineConfig) -> Result<Self> {
        let setup = config.clone();
        let (cgroups, images, state) = world
            .blocking(move || -> std::io::Result<_> {
                for directory in [
                    setup.root.join("sandboxes"),
                    setup.root.join("containers"),
                    setup.run_dir.join("s"),
                    setup.run_dir.join("netns"),
                ] {
                    std::fs::create_dir_all(directory)?;
                }
                let cgroups = Cgroups::detect(&setup.cgroup_mount, &setup.cgroup_root)?;
                let images = ImageStore::open(&setup.root.join("images"), setup.builtin_images.as_deref())?;
                let mut state = State::default();
                for record in state::load::<state::SandboxRecord>(&setup.root.join("sandboxes"))? {
                    state.sandboxes.insert(record.id.clone(), record);
                }
                for record in state::load::<state::ContainerRecord>(&setup.root.join("containers"))? {
                    state.containers.insert(record.id.clone(), record);
                }
                Ok((cgroups, images, state))
            })
            .await
            .map_err(other("open the container engine"))?;
        let min_oom_score_adj = config.min_oom_score_adj.unwrap_or_else(|| if has_sys_resource() { -1000 } else { LEAST_SCORE });
        let inner = Arc::new(Inner {
            world: world.clone(),
            config,
            cgroups,
            images: Arc::new(images),
            min_oom_score_adj,
            state: Mutex::new(state),
            changed: Notify::new(),
            events: Mutex::new(None),
            layer_usage: Mutex::new(BTreeMap::new()),
        });
        Inner::reconnect(&inner).await;
        Ok(Self { inner })
    }

    /// Loads images from a tar archive as `docker save` or an OCI layout has it; gives their names.
    pub async fn load_archive(&self, path: &Path) -> Result<Vec<String>> {
        let (inner, path) = (self.inner.clone(), path.to_owned());
        let world = inner.world.clone();
        world.blocking(move || crate::images::archive::load(&inner.images, &path)).await
    }

    fn with<T, F>(&self, body: impl FnOnce(Arc<Inner>) -> F) -> Answer<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        body(self.inner.clone()).boxed()
    }
}

/// Whether the preference of the out-of-memory killer may be lowered (`CAP_SYS_RESOURCE` is bit 24).
fn has_sys_resource() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask =
        status.lines().find_map(|line| line.strip_prefix("CapEff:")).and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << 24) != 0)
}

impl ContainerRuntime for EmbeddedEngine {
    fn version(&self) -> String {
        format!("daruma://{}", env!("CARGO_PKG_VERSION"))
    }

    fn status(&self) -> Answer<RuntimeStatus> {
        self.with(|inner| async move {
            Ok(RuntimeStatus { runtime_problem: None, network_problem: inner.config.network.problem().await })
        })
    }

    fn events(&self) -> mpsc::Receiver<RuntimeEvent> {
        let (sender, receiver) = mpsc::channel(EVENTS);
        *self.inner.events.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(sender);
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
        self.with(|inner| async move { Ok(inner.state().sandboxes.values().map(state::SandboxRecord::view).collect()) })
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
        self.with(|inner| async move { inner.stop_container(&id, grace).await })
    }

    fn remove_container(&self, id: &str) -> Answer<()> {
        let id = id.to_owned();
        self.with(|inner| async move { inner.remove_container(&id).await })
    }

    fn list_containers(&self) -> Answer<Vec<Container>> {
        self.with(|inner| async move { Ok(inner.state().containers.values().map(state::ContainerRecord::view).collect()) })
    }

    fn update_resources(&self, id: &str, resources: Resources) -> Answer<()> {
        let id = id.to_owned();
        self.with(|inner| async move { inner.update_resources(&id, resources).await })
    }

    fn reopen_log(&self, id: &str) -> Answer<()> {
        let id = id.to_owned();
        self.with(|inner| async move {
            let container = inner.running(&id)?;
            inner.call(&container.sandbox_id, Request::ReopenLog { container: id }, Vec::new()).await.map(|_| ())
        })
    }

    fn exec(&self, id: &str, config: ExecConfig) -> Answer<ExecSession> {
        let id = id.to_owned();
        self.with(|inner| async move { streams::exec(&inner, &id, config).await })
    }

    fn exec_sync(&self, id: &str, command: Vec<String>, limit: Duration) -> Answer<Option<ExecOutput>> {
        let id = id.to_owned();
        self.with(|inner| async move { streams::exec_sync(&inner, &id, command, limit).await })
    }

    fn attach(&self, id: &str, stdin: bool, tty: bool) -> Answer<ExecSession> {
        let id = id.to_owned();
        self.with(|inner| async move { streams::attach(&inner, &id, stdin, tty).await })
    }

    fn port_forward(&self, sandbox_id: &str, port: u16) -> Answer<Box<dyn Stream>> {
        let id = sandbox_id.to_owned();
        self.with(|inner| async move { streams::port_forward(&inner, &id, port).await })
    }

    fn stats(&self) -> Answer<Vec<SandboxStats>> {
        self.with(|inner| async move {
            let world = inner.world.clone();
            Ok(world.blocking(move || inner.statistics()).await)
        })
    }

    fn pull_image(&self, reference: &str, auth: Option<RegistryAuth>) -> Answer<String> {
        let reference = reference.to_owned();
        self.with(|inner| async move {
            crate::images::pull::pull(&inner.world, &inner.images, &reference, auth, &inner.config.registries).await
        })
    }

    fn image_status(&self, reference: &str) -> Answer<Option<Image>> {
        let reference = reference.to_owned();
        self.with(|inner| async move { Ok(inner.images.find(&reference)?.map(|record| record.view())) })
    }

    fn list_images(&self) -> Answer<Arc<[Image]>> {
        self.with(|inner| async move { Ok(inner.images.list().iter().map(crate::images::ImageRecord::view).collect()) })
    }

    fn remove_image(&self, reference: &str) -> Answer<()> {
        let reference = reference.to_owned();
        self.with(|inner| async move {
            let used: Vec<String> = inner.state().containers.values().map(|container| container.image_key.clone()).collect();
            let world = inner.world.clone();
            world.blocking(move || inner.images.remove(&reference, &used)).await
        })
    }
}

/// Removes a file; a missing one is fine.
pub(crate) fn remove_file(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
