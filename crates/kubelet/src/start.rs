//! Starting one container.
//!
//! Source: kubernetes pkg/kubelet/kuberuntime/kuberuntime_container.go (startContainer, generateContainerConfig).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::{Container as Spec, EphemeralContainer, Pod};
use daruma_api::meta::ObjectExt;
use daruma_world::containers::{ContainerConfig, ContainerError, Image, Mount, Propagation};
use daruma_world::disk::WriteOptions;

use crate::cell::PodCell;
use crate::env::expand::expand_with;
use crate::env::fields::FieldContext;
use crate::plan::{container_hash, is_host_network};
use crate::shared::Shared;
use crate::view::keys;
use crate::volumes::{Mounted, sub_path};
use crate::{cgroups, env, hooks, images, kill, sandbox, security};

/// Why a container was not started; shown as the reason and message of its waiting state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartError {
    /// `ErrImagePull`, `CreateContainerConfigError` …
    pub reason: &'static str,
    /// Details.
    pub message: String,
    /// When the next attempt makes sense; the worker's own pace where `None`.
    pub retry_after: Option<Duration>,
}

impl StartError {
    /// A failure.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), retry_after: None }
    }

    /// The pod has to end; nothing failed.
    pub fn stopped() -> Self {
        Self::new("", "")
    }

    /// Sets when to try again.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }
}

/// Everything that the containers of one pod share at their start.
pub struct Surroundings {
    /// The sandbox.
    pub sandbox_id: String,
    /// The volumes.
    pub mounted: Mounted,
    /// The pod's own facts.
    pub context: FieldContext,
}

/// An ephemeral container as a plain one.
pub fn ephemeral_as_container(ephemeral: &EphemeralContainer) -> Spec {
    let value = serde_json::to_value(ephemeral).unwrap_or_default();
    serde_json::from_value(value).unwrap_or_else(|_| Spec { name: ephemeral.name.clone(), ..Spec::default() })
}

/// Gets the image, makes the container, starts it and runs its post-start hook.
pub async fn start(
    shared: &Arc<Shared>,
    cell: &PodCell,
    pod: &Pod,
    spec: &Spec,
    around: &Surroundings,
) -> Result<(), StartError> {
    let recorder = &shared.recorder;
    let image = images::ensure(shared, cell, pod, spec).await?;
    if cell.is_ending() {
        return Err(StartError::stopped());
    }
    let config = match config(shared, cell, pod, spec, &image, around).await {
        Ok(config) => config,
        Err(message) => {
            recorder.container_warning(pod, &spec.name, "Failed", format!("Error: {message}"));
            return Err(StartError::new("CreateContainerConfigError", message));
        }
    };
    let id = match shared.runtime.create_container(&around.sandbox_id, config).await {
        Ok(id) => id,
        Err(error) => {
            recorder.container_warning(pod, &spec.name, "Failed", format!("Error: {error}"));
            return Err(StartError::new("CreateContainerError", error.to_string()));
        }
    };
    recorder.container(pod, &spec.name, "Created", "Container created");
    if let Err(error) = shared.runtime.start_container(&id).await {
        recorder.container_warning(pod, &spec.name, "Failed", format!("Error: {error}"));
        return Err(StartError::new("RunContainerError", error.to_string()));
    }
    recorder.container(pod, &spec.name, "Started", "Container started");
    let Some(hook) = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref()) else { return Ok(()) };
    let ran = tokio::select! {
        biased;
        () = cell.ending() => return Ok(()),
        ran = Box::pin(hooks::run(shared, pod, spec, &id, hook, &around.context.pod_ips)) => ran,
    };
    if let Err(message) = ran {
        recorder.container_warning(pod, &spec.name, "FailedPostStartHook", "PostStartHook failed");
        kill::container(shared, cell, pod, spec, &id, Some("FailedPostStartHook"), kill::grace(pod, spec, kill::Why::Other))
            .await;
        return Err(StartError::new("PostStartHookError", message));
    }
    Ok(())
}

/// What the container is to be, its files on the node made.
///
/// # Errors
/// Why it cannot be, in the words of `CreateContainerConfigError`.
pub async fn config(
    shared: &Arc<Shared>,
    cell: &PodCell,
    pod: &Pod,
    spec: &Spec,
    image: &Image,
    around: &Surroundings,
) -> Result<ContainerConfig, String> {
    let attempt = cell.lock().view.latest(&spec.name).map(|before| before.config.attempt + 1);
    let attempt = match attempt {
        Some(attempt) => attempt,
        None => attempt_from_logs(shared, pod, &spec.name).await,
    };
    let security = security::security(pod, spec, image)?;
    let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
    let services = shared.services.variables(&shared.client, pod.namespace(), links, !cell.is_static()).await?;
    let env = env::make(shared, pod, spec, &around.context, &services).await?;
    let expand = |texts: Option<&Vec<String>>| -> Vec<String> {
        texts.into_iter().flatten().map(|text| expand_with(text, &env)).collect()
    };
    let (command, args) = (expand(spec.command.as_ref()), expand(spec.args.as_ref()));
    let (mounts, message_file) = mounts(shared, cell, pod, spec, around, &env).await?;
    let mut annotations = std::collections::BTreeMap::from([
        (keys::CONTAINER_HASH.to_owned(), container_hash(spec)),
        (keys::MESSAGE_POLICY.to_owned(), spec.termination_message_policy.clone().unwrap_or_else(|| "File".into())),
    ]);
    annotations.insert(keys::MESSAGE_FILE.into(), message_file.display().to_string());
    let labels = std::collections::BTreeMap::from([
        (keys::POD_NAME.to_owned(), pod.name().to_owned()),
        (keys::POD_NAMESPACE.to_owned(), pod.namespace().to_owned()),
        (keys::POD_UID.to_owned(), pod.uid().to_owned()),
        (keys::CONTAINER_NAME.to_owned(), spec.name.clone()),
    ]);
    Ok(ContainerConfig {
        name: spec.name.clone(),
        attempt,
        image: image.id.clone(),
        command,
        args,
        working_dir: spec.working_dir.as_ref().filter(|directory| !directory.is_empty()).map(PathBuf::from),
        env,
        mounts,
        log_path: PathBuf::from(&spec.name).join(format!("{attempt}.log")),
        stdin: spec.stdin == Some(true),
        stdin_once: spec.stdin_once == Some(true),
        tty: spec.tty == Some(true),
        resources: cgroups::container_resources(pod, spec, shared.facts.memory_bytes, shared.config.oom_score_adj_floor),
        security,
        stop_signal: spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.clone()),
        labels,
        annotations,
    })
}

/// Log files tell how often a container ran where the runtime has forgotten it.
async fn attempt_from_logs(shared: &Shared, pod: &Pod, name: &str) -> u32 {
    let directory = shared.config.pod_log_dir(pod.namespace(), pod.name(), pod.uid()).join(name);
    let Ok(entries) = shared.world.disk.read_dir(&directory).await else { return 0 };
    let numbers = entries.iter().filter_map(|(file, _)| file.split('.').next()?.parse::<u32>().ok());
    numbers.max().map_or(0, |last| last + 1)
}

async fn mounts(
    shared: &Shared,
    cell: &PodCell,
    pod: &Pod,
    spec: &Spec,
    around: &Surroundings,
    env: &[(String, String)],
) -> Result<(Vec<Mount>, PathBuf), String> {
    let mut mounts = Vec::new();
    for wanted in spec.volume_mounts.iter().flatten() {
        let volume = around
            .mounted
            .get(&wanted.name)
            .ok_or_else(|| format!("cannot find volume {:?} to mount into container {:?}", wanted.name, spec.name))?;
        let inside = match (&wanted.sub_path, &wanted.sub_path_expr) {
            (Some(path), _) => path.clone(),
            (None, Some(expression)) => expand_with(expression, env),
            (None, None) => String::new(),
        };
        let propagation = match wanted.mount_propagation.as_deref() {
            Some("Bidirectional") => Propagation::Bidirectional,
            Some("HostToContainer") => Propagation::HostToContainer,
            _ => Propagation::Private,
        };
        mounts.push(Mount {
            host_path: sub_path(shared, volume, &inside).await?,
            container_path: wanted.mount_path.clone().into(),
            read_only: wanted.read_only == Some(true) || volume.read_only,
            propagation,
        });
    }
    let directory = shared.config.pod_dir(&cell.uid);
    let disk = &shared.world.disk;
    let failed = |error: std::io::Error| format!("cannot make the pod's files: {error}");
    let container_dir = directory.join("containers").join(&spec.name);
    disk.create_dir_all(&container_dir, 0o750).await.map_err(failed)?;
    let has = |mounts: &[Mount], path: &str| mounts.iter().any(|mount| mount.container_path.as_os_str() == path);
    if !has(&mounts, "/etc/hosts") {
        let node_file = if is_host_network(pod) {
            disk.read(std::path::Path::new("/etc/hosts")).await.unwrap_or_default()
        } else {
            Vec::new()
        };
        let text = sandbox::hosts_file(pod, &shared.config, &around.context.pod_ips, &String::from_utf8_lossy(&node_file));
        let file = directory.join("etc-hosts");
        // Written in place of the old one only where it differs: running containers have the old file mounted.
        if disk.read(&file).await.ok().as_deref() != Some(text.as_bytes()) {
            disk.write(&file, text.into_bytes(), WriteOptions { mode: 0o644, durable: false }).await.map_err(failed)?;
        }
        mounts.push(Mount {
            host_path: file,
            container_path: "/etc/hosts".into(),
            read_only: false,
            propagation: Propagation::Private,
        });
    }
    let message_file = container_dir.join(format!("{:08x}", shared.world.random.next_u64() as u32));
    disk.write(&message_file, Vec::new(), WriteOptions { mode: 0o666, durable: false }).await.map_err(failed)?;
    disk.set_owner(&message_file, None, None, Some(0o666)).await.map_err(failed)?;
    let message_path = spec.termination_message_path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/dev/termination-log");
    mounts.push(Mount {
        host_path: message_file.clone(),
        container_path: message_path.into(),
        read_only: false,
        propagation: Propagation::Private,
    });
    Ok((mounts, message_file))
}

/// Whether an engine's error says that the thing is gone already.
pub fn is_gone(error: &ContainerError) -> bool {
    matches!(error, ContainerError::NotFound(_))
}
