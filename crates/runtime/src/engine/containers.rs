//! Making, starting, stopping and removing containers.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use daruma_world::containers::{ContainerConfig, ContainerError, ContainerState, Resources, Result};

use super::sandboxes::remove_tree;
use super::state::{self, ContainerRecord, SandboxRecord};
use super::{Inner, other, start};
use crate::images::ImageRecord;
use crate::shim::protocol::{ProcessSpec, Reply, Request, StartSpec};

/// How containerd and runc lead up to the reason; kubelet shows it in events and in the status.
const START_PREFIX: &str = "failed to create containerd task: failed to create shim task: OCI runtime create failed: unable to start container process: ";
/// Exit code of a container that could not be started: containerd `errorStartExitCode`.
const START_ERROR_CODE: i32 = 128;

impl Inner {
    pub(super) fn container(&self, id: &str) -> Result<ContainerRecord> {
        self.state().containers.get(id).cloned().ok_or_else(|| ContainerError::NotFound(format!("container {id}")))
    }

    pub(super) fn running(&self, id: &str) -> Result<ContainerRecord> {
        let container = self.container(id)?;
        if !container.is_running() {
            return Err(ContainerError::Other(format!("container {id} is not running")));
        }
        Ok(container)
    }

    pub(super) fn sandbox(&self, id: &str) -> Result<SandboxRecord> {
        self.state().sandboxes.get(id).cloned().ok_or_else(|| ContainerError::NotFound(format!("sandbox {id}")))
    }

    pub(super) async fn create_container(self: &Arc<Self>, sandbox_id: &str, config: ContainerConfig) -> Result<String> {
        let sandbox = self.sandbox(sandbox_id)?;
        if !sandbox.ready {
            return Err(ContainerError::Other(format!("sandbox {sandbox_id} is not running")));
        }
        let image = self.images.find(&config.image)?.ok_or_else(|| ContainerError::ImageNotFound(config.image.clone()))?;
        let id = self.new_id();
        let record = ContainerRecord {
            id: id.clone(),
            sandbox_id: sandbox_id.to_owned(),
            image_ref: image.tags.first().or(image.digests.first()).unwrap_or(&image.id).clone(),
            image_id: image.digests.first().unwrap_or(&image.id).clone(),
            image_key: image.id.clone(),
            created_at: self.world.now(),
            state: ContainerState::Created,
            log_path: sandbox.config.log_directory.join(&config.log_path),
            config: config.into(),
        };
        let (inner, copy) = (self.clone(), record.clone());
        self.world.blocking(move || inner.lay_out(&copy, &sandbox)).await?;
        self.state().containers.insert(id.clone(), record);
        Ok(id)
    }

    /// Directories, control group and record of a new container. Blocks.
    fn lay_out(&self, record: &ContainerRecord, sandbox: &SandboxRecord) -> Result<()> {
        let directory = self.container_dir(&record.id);
        let result = (|| {
            for name in ["upper", "work", "rootfs"] {
                fs::create_dir_all(directory.join(name))?;
            }
            let group = Self::cgroup(&sandbox.config.cgroup_parent, &record.id);
            self.cgroups.create(&group)?;
            self.cgroups.apply(&group, &record.config.resources)?;
            if !record.config.security.privileged {
                self.cgroups.restrict_devices(&group)?;
            }
            state::save(&directory, record, true)
        })();
        if result.is_err() {
            let _ = self.cgroups.remove(&Self::cgroup(&sandbox.config.cgroup_parent, &record.id));
            let _ = remove_tree(&directory);
        }
        result.map_err(other(format_args!("failed to create container {:?}", record.config.name)))
    }

    pub(super) async fn start_container(self: &Arc<Self>, id: &str) -> Result<()> {
        let container = self.container(id)?;
        if container.state != ContainerState::Created {
            return Err(ContainerError::Other(format!("container {id} was started before")));
        }
        let sandbox = self.sandbox(&container.sandbox_id)?;
        let image =
            self.images.find(&container.image_key)?.ok_or_else(|| ContainerError::ImageNotFound(container.image_ref.clone()))?;
        let started = match self.start_spec(&container, &sandbox, &image) {
            Ok(spec) => self.call(&container.sandbox_id, Request::Start(Box::new(spec)), Vec::new()).await.map(|call| call.reply),
            Err(error) => Err(error),
        };
        let text = match started {
            Ok(Reply::Started { at_ns, .. }) => {
                let started_at = jiff::Timestamp::from_nanosecond(at_ns.into()).unwrap_or_else(|_| self.world.now());
                // The event may have come first, and the container's end with it.
                if let Some(container) =
                    self.state().containers.get_mut(id).filter(|container| container.state == ContainerState::Created)
                {
                    container.state = ContainerState::Running { started_at };
                }
                self.emit(&container.sandbox_id, Some(id));
                return Ok(());
            }
            Ok(Reply::Failed(text)) => format!("{START_PREFIX}{text}"),
            Ok(reply) => format!("unexpected answer of the shim: {reply:?}"),
            Err(error) => error.to_string(),
        };
        let failed = {
            let now = self.world.now();
            let mut state = self.state();
            state.containers.get_mut(id).map(|container| {
                container.state = ContainerState::Exited {
                    started_at: None,
                    finished_at: now,
                    exit_code: START_ERROR_CODE,
                    reason: "StartError".to_owned(),
                    message: text.clone(),
                };
                container.clone()
            })
        };
        self.emit(&container.sandbox_id, Some(id));
        self.save_containers(failed.into_iter().collect()).await;
        Err(ContainerError::Start(text))
    }

    fn start_spec(&self, container: &ContainerRecord, sandbox: &SandboxRecord, image: &ImageRecord) -> Result<StartSpec> {
        let (directory, group) = (self.container_dir(&container.id), Self::cgroup(&sandbox.config.cgroup_parent, &container.id));
        let shm = if sandbox.config.shared.ipc { "/dev/shm".into() } else { self.shim_dir(&sandbox.id).join("shm") };
        let layers = self.images.layer_paths(image);
        Ok(StartSpec {
            id: container.id.clone(),
            process: self.process_spec(container, sandbox, image)?,
            layers,
            upper: directory.join("upper"),
            work: directory.join("work"),
            rootfs: directory.join("rootfs"),
            shm,
            pid_namespace: start::pid_namespace(&sandbox.config),
            mounts: start::mounts(&self.sandbox_dir(&sandbox.id), &container.config),
            cgroup_mount: self.cgroups.mount().to_owned(),
            cgroup_v1: self.cgroups.v1_controllers().to_vec(),
            kill_files: self.cgroups.kill_files(&group),
            oom_file: self.cgroups.oom_file(&group),
            log: container.log_path.clone(),
            stdin: container.config.stdin,
            stdin_once: container.config.stdin_once,
        })
    }

    /// How a process of the container runs: its main one, or (with another command) an exec.
    pub(super) fn process_spec(
        &self,
        container: &ContainerRecord,
        sandbox: &SandboxRecord,
        image: &ImageRecord,
    ) -> Result<ProcessSpec> {
        let group = Self::cgroup(&sandbox.config.cgroup_parent, &container.id);
        let wanted = container.config.resources.oom_score_adj;
        let score = wanted.max(self.min_oom_score_adj);
        if score != wanted {
            tracing::info!(container = %container.config.name, wanted, score, "oom_score_adj is raised: CAP_SYS_RESOURCE is missing");
        }
        let hostname = if sandbox.config.shared.network || sandbox.config.hostname.is_empty() {
            nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
        } else {
            sandbox.config.hostname.clone()
        };
        start::process(image, &hostname, &container.config, score, self.cgroups.procs_files(&group))
    }

    pub(super) async fn stop_container(self: &Arc<Self>, id: &str, grace: Duration) -> Result<()> {
        let Some(container) = self.state().containers.get(id).cloned() else { return Ok(()) };
        if !container.is_running() {
            return Ok(());
        }
        let sandbox = container.sandbox_id.clone();
        let kill = |signal| Request::Signal { container: id.to_owned(), signal };
        if !grace.is_zero() {
            let image_signal = self.images.find(&container.image_key)?.map(|image| image.config.stop_signal).unwrap_or_default();
            let name = container.config.stop_signal.clone().unwrap_or(image_signal);
            let signal = if name.is_empty() { libc::SIGTERM } else { start::signal_number(&name) };
            // Refused when it has just ended; the wait below finds that out.
            let _ = self.call(&sandbox, kill(signal), Vec::new()).await;
            if self.world.timeout(grace, self.ended(id)).await.is_ok() {
                return Ok(());
            }
        }
        let _ = self.call(&sandbox, kill(libc::SIGKILL), Vec::new()).await;
        let limit = Duration::from_secs(30);
        self.world
            .timeout(limit, self.ended(id))
            .await
            .map_err(|_| ContainerError::Other(format!("container {id} does not end after SIGKILL")))
    }

    /// Completes once the container does not run.
    pub(super) async fn ended(&self, id: &str) {
        loop {
            let changed = self.changed.notified();
            if !self.state().containers.get(id).is_some_and(ContainerRecord::is_running) {
                return;
            }
            changed.await;
        }
    }

    pub(super) async fn remove_container(self: &Arc<Self>, id: &str) -> Result<()> {
        let Some(container) = self.state().containers.get(id).cloned() else { return Ok(()) };
        if container.is_running() {
            return Err(ContainerError::Other(format!("container {id} is running")));
        }
        let sandbox = self.state().sandboxes.get(&container.sandbox_id).cloned();
        if sandbox.as_ref().is_some_and(|sandbox| sandbox.ready) {
            // A shim that has gone has forgotten everything.
            let _ = self.call(&container.sandbox_id, Request::Forget { container: id.to_owned() }, Vec::new()).await;
        }
        let (inner, copy) = (self.clone(), container.clone());
        self.world
            .blocking(move || {
                if let Some(sandbox) = sandbox {
                    inner.remove_cgroup(&Self::cgroup(&sandbox.config.cgroup_parent, &copy.id))?;
                }
                remove_tree(&inner.container_dir(&copy.id))?;
                remove_logs(&copy.log_path)
            })
            .await
            .map_err(other(format_args!("remove container {id}")))?;
        self.layer_usage.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(id);
        self.state().containers.remove(id);
        self.emit(&container.sandbox_id, Some(id));
        Ok(())
    }

    /// Removes a container's group; processes that were just killed may still be leaving it. Blocks.
    #[allow(clippy::disallowed_methods, reason = "this runs on the world's blocking thread and waits for the kernel")]
    fn remove_cgroup(&self, group: &str) -> std::io::Result<()> {
        let mut result = self.cgroups.remove(group);
        for _ in 0..100 {
            match &result {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    self.cgroups.kill(group);
                    std::thread::sleep(Duration::from_millis(10));
                    result = self.cgroups.remove(group);
                }
                _ => break,
            }
        }
        result
    }

    pub(super) async fn update_resources(self: &Arc<Self>, id: &str, resources: Resources) -> Result<()> {
        let container = self.container(id)?;
        let sandbox = self.sandbox(&container.sandbox_id)?;
        let (inner, group) = (self.clone(), Self::cgroup(&sandbox.config.cgroup_parent, id));
        self.world
            .blocking(move || inner.cgroups.apply(&group, &resources))
            .await
            .map_err(other("update the container's limits"))?;
        let record = {
            let mut state = self.state();
            state.containers.get_mut(id).map(|container| {
                Arc::make_mut(&mut container.config).resources = resources;
                container.clone()
            })
        };
        self.save_containers(record.into_iter().collect()).await;
        Ok(())
    }
}

/// Removes a log file, those rotated away from it, and its directory when nothing else is in it.
fn remove_logs(path: &std::path::Path) -> std::io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let name = name.to_string_lossy();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let other = entry.file_name().to_string_lossy().into_owned();
        if other == name || other.strip_prefix(&*name).is_some_and(|rest| rest.starts_with('.')) {
            fs::remove_file(entry.path())?;
        }
    }
    let _ = fs::remove_dir(directory);
    Ok(())
}
