//! Containers: what a node agent asks of a container engine.
//!
//! The shape follows the Kubernetes CRI (sandbox, container, image), so that an embedded engine,
//! a CRI client and a simulation can stand behind it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::mpsc;

use crate::net::Stream;

/// Why an engine call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ContainerError {
    /// No sandbox or container of that id.
    #[error("not found: {0}")]
    NotFound(String),
    /// No such image here.
    #[error("image {0:?} not found")]
    ImageNotFound(String),
    /// The registry refused or could not be reached. The text is fit for an event.
    #[error("{0}")]
    Pull(String),
    /// The image reference cannot be parsed.
    #[error("couldn't parse image reference {0:?}: invalid reference format")]
    InvalidReference(String),
    /// The container could not be started (its command is missing, a mount failed); fit for an event.
    #[error("{0}")]
    Start(String),
    /// The pod network is not there or refused.
    #[error("network: {0}")]
    Network(String),
    /// Anything else, with what was being done.
    #[error("{0}")]
    Other(String),
}

/// Result of an engine call.
pub type Result<T> = std::result::Result<T, ContainerError>;
type Answer<T> = BoxFuture<'static, Result<T>>;

/// Which name spaces a sandbox shares with its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct SharedNamespaces {
    /// Uses the machine's network.
    pub network: bool,
    /// Sees the machine's processes.
    pub pid: bool,
    /// Uses the machine's System V IPC.
    pub ipc: bool,
    /// Containers of the sandbox see each other's processes.
    pub pod_pid: bool,
}

/// A pod's sandbox to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct SandboxConfig {
    /// Pod name.
    pub name: String,
    /// Pod namespace.
    pub namespace: String,
    /// Pod UID.
    pub uid: String,
    /// How many sandboxes of this pod came before.
    pub attempt: u32,
    /// Host name inside.
    pub hostname: String,
    /// Directory for container logs.
    pub log_directory: PathBuf,
    /// Content of `/etc/resolv.conf`: servers, search domains, options.
    pub dns: DnsConfig,
    /// Shared name spaces.
    pub shared: SharedNamespaces,
    /// Parent of the containers' cgroups, relative to the machine's root, e.g. `kubepods/burstable/pod<uid>`.
    pub cgroup_parent: String,
    /// Limits of the pod as a whole.
    pub resources: Resources,
    /// Kernel parameters in the pod's name spaces.
    pub sysctls: BTreeMap<String, String>,
    /// Free-form labels that come back in listings.
    pub labels: BTreeMap<String, String>,
    /// Free-form annotations that come back in listings.
    pub annotations: BTreeMap<String, String>,
}

/// Name resolution inside a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct DnsConfig {
    /// Server addresses.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Resolver options, e.g. `ndots:5`.
    pub options: Vec<String>,
}

/// A sandbox as the engine knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// The engine's id, 64 hexadecimal digits.
    pub id: String,
    /// What it was made from.
    pub config: Arc<SandboxConfig>,
    /// Whether its name spaces are alive.
    pub ready: bool,
    /// Creation time.
    pub created_at: jiff::Timestamp,
    /// Pod addresses; empty for the machine's network.
    pub addresses: Vec<IpAddr>,
}

/// Resource limits. `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Resources {
    /// Relative weight (cgroup v1 `cpu.shares`, 2 to 262144).
    pub cpu_shares: Option<u64>,
    /// CPU time in microseconds per period.
    pub cpu_quota_us: Option<i64>,
    /// Length of the period in microseconds.
    pub cpu_period_us: Option<u64>,
    /// Memory limit in bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Tasks that may run at once.
    pub pids_limit: Option<u64>,
    /// Preference of the kernel's out-of-memory killer, -1000 to 1000.
    pub oom_score_adj: i32,
}

/// A path of the machine shown inside a container.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mount {
    /// On the machine.
    pub host_path: PathBuf,
    /// Inside the container.
    pub container_path: PathBuf,
    /// No writes.
    pub read_only: bool,
    /// How mounts pass between the two.
    pub propagation: Propagation,
}

/// How mounts pass between machine and container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Propagation {
    /// None.
    #[default]
    Private,
    /// New mounts of the machine appear inside.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// Rights of a container's processes.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Security {
    /// Everything allowed, all devices visible.
    pub privileged: bool,
    /// Capabilities added, without the `CAP_` prefix, or `ALL`.
    pub add_capabilities: Vec<String>,
    /// Capabilities dropped, without the `CAP_` prefix, or `ALL`.
    pub drop_capabilities: Vec<String>,
    /// Numeric user.
    pub run_as_user: Option<i64>,
    /// User name to be looked up in the image's `/etc/passwd`.
    pub run_as_user_name: Option<String>,
    /// Numeric group.
    pub run_as_group: Option<i64>,
    /// Additional groups.
    pub supplemental_groups: Vec<i64>,
    /// The root file system is read-only.
    pub read_only_root: bool,
    /// No gain of privileges over execve.
    pub no_new_privileges: bool,
}

/// A container to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct ContainerConfig {
    /// Name within the pod.
    pub name: String,
    /// How many containers of this name came before.
    pub attempt: u32,
    /// Image id as [`ContainerRuntime::image_status`] gave it.
    pub image: String,
    /// Replaces the image's entry point.
    pub command: Vec<String>,
    /// Replaces the image's arguments.
    pub args: Vec<String>,
    /// Replaces the image's working directory.
    pub working_dir: Option<PathBuf>,
    /// Added to the image's environment.
    pub env: Vec<(String, String)>,
    /// Paths of the machine shown inside.
    pub mounts: Vec<Mount>,
    /// Log file relative to the sandbox's log directory, in CRI format
    /// (`2006-01-02T15:04:05.999999999Z07:00 stdout|stderr F|P text`).
    pub log_path: PathBuf,
    /// Keeps a standard input open.
    pub stdin: bool,
    /// Closes the standard input after the first attach session.
    pub stdin_once: bool,
    /// Has a terminal.
    pub tty: bool,
    /// Limits.
    pub resources: Resources,
    /// Rights.
    pub security: Security,
    /// Signal that asks the container to stop, e.g. `SIGTERM`; the image's, else SIGTERM, where `None`.
    pub stop_signal: Option<String>,
    /// Free-form labels that come back in listings.
    pub labels: BTreeMap<String, String>,
    /// Free-form annotations that come back in listings.
    pub annotations: BTreeMap<String, String>,
}

/// Life of a container.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Running since then.
    Running {
        /// Start time.
        started_at: jiff::Timestamp,
    },
    /// Ended.
    Exited {
        /// Start time; `None` when it never ran.
        started_at: Option<jiff::Timestamp>,
        /// End time.
        finished_at: jiff::Timestamp,
        /// Exit code; 128 + signal when killed by a signal; 255 when lost in a power cut.
        exit_code: i32,
        /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerCannotRun`.
        reason: String,
        /// Details for a person.
        message: String,
    },
}

/// A container as the engine knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The engine's id, 64 hexadecimal digits.
    pub id: String,
    /// Its sandbox.
    pub sandbox_id: String,
    /// What it was made from.
    pub config: Arc<ContainerConfig>,
    /// The image reference that was asked for, as a person wrote it.
    pub image_ref: String,
    /// Digest reference of the image, e.g. `name@sha256:…` or `sha256:…`.
    pub image_id: String,
    /// Creation time.
    pub created_at: jiff::Timestamp,
    /// Where it is in its life.
    pub state: ContainerState,
    /// Absolute path of the log file.
    pub log_path: PathBuf,
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…` of the configuration.
    pub id: String,
    /// Names with tags.
    pub tags: Vec<String>,
    /// Names with digests.
    pub digests: Vec<String>,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// Numeric user that the image asks for.
    pub uid: Option<i64>,
    /// User name that the image asks for.
    pub username: Option<String>,
    /// Never removed by clean-up (built in).
    pub pinned: bool,
}

/// Registry credentials.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RegistryAuth {
    /// User name.
    pub username: String,
    /// Password or token.
    pub password: String,
}

/// What a container uses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerStats {
    /// The container.
    pub container_id: String,
    /// When it was measured.
    pub at: jiff::Timestamp,
    /// CPU time used since its start, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory in use in bytes, page cache included.
    pub memory_usage_bytes: u64,
    /// Memory in use less inactive page cache, in bytes.
    pub memory_working_set_bytes: u64,
    /// Anonymous memory in bytes.
    pub memory_rss_bytes: u64,
    /// Page faults since its start.
    pub page_faults: u64,
    /// Major page faults since its start.
    pub major_page_faults: u64,
    /// Bytes of its writable layer.
    pub root_fs_used_bytes: u64,
    /// Inodes of its writable layer.
    pub root_fs_inodes_used: u64,
}

/// What a sandbox uses beyond its containers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SandboxStats {
    /// The sandbox.
    pub sandbox_id: String,
    /// Bytes received on the pod's network card.
    pub network_rx_bytes: u64,
    /// Bytes sent on the pod's network card.
    pub network_tx_bytes: u64,
    /// Tasks that run in the pod.
    pub tasks: u64,
    /// The pod's containers.
    pub containers: Vec<ContainerStats>,
}

/// Something happened to a container or sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeEvent {
    /// Pod UID from the sandbox's configuration.
    pub pod_uid: String,
    /// The sandbox.
    pub sandbox_id: String,
    /// The container; `None` for the sandbox itself.
    pub container_id: Option<String>,
}

/// A process to be run inside a running container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecConfig {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Gives it a terminal.
    pub tty: bool,
    /// Gives it a standard input.
    pub stdin: bool,
}

/// Streams of a process inside a container. Absent ones were not asked for.
pub struct ExecSession {
    /// Standard input; dropping the sender closes it.
    pub stdin: Option<mpsc::Sender<Vec<u8>>>,
    /// Standard output (with a terminal: everything).
    pub stdout: mpsc::Receiver<Vec<u8>>,
    /// Standard error.
    pub stderr: mpsc::Receiver<Vec<u8>>,
    /// Window sizes (columns, rows) for a terminal.
    pub resize: mpsc::Sender<(u16, u16)>,
    /// The exit code, once it ended; after both outputs were drained.
    pub exit_code: BoxFuture<'static, Result<i32>>,
}

/// Result of [`ContainerRuntime::exec_sync`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecOutput {
    /// Standard output, at most 16 KiB.
    pub stdout: Vec<u8>,
    /// Standard error, at most 16 KiB.
    pub stderr: Vec<u8>,
    /// Exit code.
    pub exit_code: i32,
}

/// State of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuntimeStatus {
    /// `None` when containers can be run, else why not.
    pub runtime_problem: Option<String>,
    /// `None` when pods can get a network, else why not (reason `NetworkPluginNotReady`).
    pub network_problem: Option<String>,
}

/// A container engine. Every call is idempotent where its name allows it.
pub trait ContainerRuntime: Send + Sync {
    /// Engine name and version, as a node reports it: `name://version`.
    fn version(&self) -> String;
    /// Whether containers and pod networks work.
    fn status(&self) -> Answer<RuntimeStatus>;
    /// The stream of events since this call. One receiver at a time; a new call replaces the old one.
    fn events(&self) -> mpsc::Receiver<RuntimeEvent>;

    /// Makes and starts a sandbox with its network; gives its id.
    fn run_sandbox(&self, config: SandboxConfig) -> Answer<String>;
    /// Ends every process in the sandbox and takes its network away. Idempotent.
    fn stop_sandbox(&self, id: &str) -> Answer<()>;
    /// Removes a stopped sandbox and its containers. Idempotent.
    fn remove_sandbox(&self, id: &str) -> Answer<()>;
    /// All sandboxes, ready or not, ordered by id.
    fn list_sandboxes(&self) -> Answer<Vec<Sandbox>>;

    /// Makes a container; gives its id.
    fn create_container(&self, sandbox_id: &str, config: ContainerConfig) -> Answer<String>;
    /// Starts a created container.
    fn start_container(&self, id: &str) -> Answer<()>;
    /// Sends the stop signal, waits `grace`, then SIGKILL; completes when it has ended. Idempotent.
    fn stop_container(&self, id: &str, grace: Duration) -> Answer<()>;
    /// Removes a container that is not running, and its log. Idempotent.
    fn remove_container(&self, id: &str) -> Answer<()>;
    /// All containers, ordered by id.
    fn list_containers(&self) -> Answer<Vec<Container>>;
    /// The sandboxes and containers of one pod, ordered by id. Engines that keep them by pod answer without copying all others.
    fn list_pod(&self, pod_uid: &str) -> Answer<(Vec<Sandbox>, Vec<Container>)> {
        let (sandboxes, containers, uid) = (self.list_sandboxes(), self.list_containers(), pod_uid.to_owned());
        Box::pin(async move {
            let (mut sandboxes, mut containers) = (sandboxes.await?, containers.await?);
            sandboxes.retain(|sandbox| sandbox.config.uid == uid);
            containers.retain(|container| sandboxes.iter().any(|sandbox| sandbox.id == container.sandbox_id));
            Ok((sandboxes, containers))
        })
    }
    /// Changes limits of a running container.
    fn update_resources(&self, id: &str, resources: Resources) -> Answer<()>;
    /// Reopens the log file (after rotation).
    fn reopen_log(&self, id: &str) -> Answer<()>;

    /// Runs a process inside a running container, with streams.
    fn exec(&self, id: &str, config: ExecConfig) -> Answer<ExecSession>;
    /// Runs a process inside a running container to its end. `None` when `limit` passed first (it is killed).
    fn exec_sync(&self, id: &str, command: Vec<String>, limit: Duration) -> Answer<Option<ExecOutput>>;
    /// Attaches to the main process of a running container.
    fn attach(&self, id: &str, stdin: bool, tty: bool) -> Answer<ExecSession>;
    /// Connects to a TCP port inside a sandbox's network.
    fn port_forward(&self, sandbox_id: &str, port: u16) -> Answer<Box<dyn Stream>>;

    /// Usage of every running sandbox.
    fn stats(&self) -> Answer<Vec<SandboxStats>>;

    /// Fetches an image; gives its id.
    fn pull_image(&self, reference: &str, auth: Option<RegistryAuth>) -> Answer<String>;
    /// The image, where present; `reference` is a name, digest or id.
    fn image_status(&self, reference: &str) -> Answer<Option<Image>>;
    /// All images, ordered by id.
    fn list_images(&self) -> Answer<Arc<[Image]>>;
    /// Removes an image. Idempotent.
    fn remove_image(&self, reference: &str) -> Answer<()>;
}

/// Gives sandboxes their network, as a CNI plugin does.
pub trait SandboxNetwork: Send + Sync {
    /// `None` when sandboxes can be attached, else why not.
    fn problem(&self) -> BoxFuture<'static, Option<String>>;
    /// Connects the network name space at `namespace` (a path) and gives its addresses.
    fn attach(&self, sandbox_id: &str, namespace: PathBuf) -> BoxFuture<'static, std::result::Result<Vec<IpAddr>, String>>;
    /// Takes the sandbox's link and addresses back. Idempotent.
    fn detach(&self, sandbox_id: &str) -> BoxFuture<'static, std::result::Result<(), String>>;
}
