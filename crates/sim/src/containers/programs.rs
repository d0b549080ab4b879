//! Programs: images whose containers are closures of ours, each in a scope of its own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daruma_world::World;
use daruma_world::containers::{Mount, SandboxConfig};
use futures::future::BoxFuture;

use super::log::LogSink;
use super::names::full_name;
use crate::scope::Scope;

/// A container's process: its result is the exit code.
pub type ProgramBody = Arc<dyn Fn(Process) -> BoxFuture<'static, i32> + Send + Sync>;

/// Programs by image.
#[derive(Clone, Default)]
pub struct Programs {
    bodies: BTreeMap<String, ProgramBody>,
}

impl Programs {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `body` the process of every container of this image.
    pub fn add<F>(&mut self, image: &str, body: F)
    where
        F: Fn(Process) -> BoxFuture<'static, i32> + Send + Sync + 'static,
    {
        let name = full_name(image).unwrap_or_else(|_| image.to_owned());
        self.bodies.insert(name, Arc::new(body));
    }

    /// The program of an image, by its full name.
    pub(super) fn of(&self, full: &str) -> Option<ProgramBody> {
        self.bodies.get(full).cloned()
    }
}

/// What a program says it uses, beyond its image's behaviour.
#[derive(Debug, Default)]
pub(super) struct Used {
    pub(super) memory_bytes: AtomicU64,
    pub(super) cpu_millis: AtomicU64,
}

/// A started container as its program sees it.
pub struct Process {
    /// Its own scope; the container's end is this scope's end.
    pub scope: Scope,
    /// Name of the machine it runs on.
    pub machine: String,
    /// The container's id.
    pub container_id: String,
    /// The container's name in its pod.
    pub container_name: String,
    /// Image, as the pod is shown it.
    pub image: String,
    /// Entry point and arguments.
    pub argv: Vec<String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Paths of the machine shown inside.
    pub mounts: Vec<Mount>,
    /// The pod's addresses; the machine's, where the pod uses the machine's network.
    pub addresses: Vec<IpAddr>,
    /// The pod uses the machine's network.
    pub host_network: bool,
    /// Host name inside.
    pub hostname: String,
    /// The pod's sandbox: its name, namespace, uid, DNS settings, labels.
    pub sandbox: SandboxConfig,
    /// Takes output.
    pub log: LogSink,
    pub(super) world: World,
    pub(super) root: PathBuf,
    pub(super) used: Arc<Used>,
}

impl Process {
    /// The surroundings as seen from inside: sockets of the pod, files by way of the mounts.
    pub fn world(&self) -> World {
        self.world.clone()
    }

    /// Completes when the process is asked to end (SIGTERM), as [`Scope::termination`] of its scope does.
    /// One that has asked for neither is ended by the signal, with exit code 143.
    pub fn terminated(&self) -> BoxFuture<'static, ()> {
        Box::pin(self.scope.termination())
    }

    /// Where a path of the container is on the machine.
    pub fn path(&self, inside: &Path) -> PathBuf {
        super::mounted::machine_path(&self.mounts, &self.root, inside).0
    }

    /// Says how much memory it uses, in bytes.
    pub fn use_memory(&self, bytes: u64) {
        self.used.memory_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Says how much CPU it uses, in thousandths of a core.
    pub fn use_cpu(&self, millis: u64) {
        self.used.cpu_millis.store(millis, Ordering::Relaxed);
    }
}
