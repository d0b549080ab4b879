//! Making, stopping and removing sandboxes.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use daruma_world::containers::{ContainerError, DnsConfig, Result, SandboxConfig};

use super::state::{self, SandboxRecord};
use super::{Inner, other};
use crate::shim::protocol::{Request, ShimSpec};

/// The group that shims live in, beside those of pods.
const SHIM_CGROUP: &str = "daruma-shims";

impl Inner {
    pub(super) async fn run_sandbox(self: &Arc<Self>, config: SandboxConfig) -> Result<String> {
        let id = self.new_id();
        let record = SandboxRecord {
            id: id.clone(),
            config: config.into(),
            created_at: self.world.now(),
            ready: true,
            addresses: Vec::new(),
        };
        let result = self.bring_up(record).await;
        if let Err(error) = result {
            // The caller tries again with a new sandbox; nothing of this one may stay.
            if let Err(clean_up) = self.remove_sandbox(&id).await {
                tracing::warn!(sandbox = %id, error = %clean_up, "cannot clean up after a failed sandbox");
            }
            return Err(error);
        }
        self.emit(&id, None);
        Ok(id)
    }

    async fn bring_up(self: &Arc<Self>, mut record: SandboxRecord) -> Result<()> {
        let id = record.id.clone();
        let host_network = record.config.shared.network;
        if !host_network && let Some(problem) = self.config.network.problem().await {
            return Err(ContainerError::Network(problem));
        }
        self.state().sandboxes.insert(id.clone(), record.clone());
        let (inner, first) = (self.clone(), record.clone());
        self.world.blocking(move || inner.start_shim(&first)).await?;
        let attached = async {
            if host_network {
                return Ok(Vec::new());
            }
            self.config.network.attach(&id, self.netns(&id)).await.map_err(ContainerError::Network)
        };
        // The record is written while the network is attached.
        let (directory, first) = (self.sandbox_dir(&id), record.clone());
        let saved = self.world.blocking(move || state::save(&directory, &first, true));
        let (attached, saved) = futures::join!(attached, saved);
        saved.map_err(other("write the sandbox's record"))?;
        record.addresses = attached?;
        Self::follow(self, &id).await.map_err(other("follow the sandbox's shim"))?;
        if let Some(known) = self.state().sandboxes.get_mut(&id) {
            known.addresses.clone_from(&record.addresses);
        }
        let directory = self.sandbox_dir(&id);
        self.world.blocking(move || state::save(&directory, &record, false)).await.map_err(other("write the sandbox's record"))
    }

    /// Lays out the sandbox's directories and runs its shim into the background. Blocks.
    fn start_shim(&self, record: &SandboxRecord) -> Result<()> {
        let (id, config) = (&record.id, &record.config);
        let (directory, shim_dir) = (self.sandbox_dir(id), self.shim_dir(id));
        fs::create_dir_all(&directory).map_err(other("make the sandbox's directory"))?;
        fs::create_dir_all(&shim_dir).map_err(other("make the shim's directory"))?;
        fs::create_dir_all(&config.log_directory).map_err(other("make the log directory"))?;
        if let Some(text) = resolv_conf(&config.dns) {
            fs::write(directory.join("resolv.conf"), text).map_err(other("write resolv.conf"))?;
        }
        fs::write(directory.join("hostname"), format!("{}\n", config.hostname)).map_err(other("write hostname"))?;
        self.cgroups.create(SHIM_CGROUP).map_err(other("make the shims' control group"))?;
        self.cgroups.create(&config.cgroup_parent).map_err(other("make the pod's control group"))?;
        self.cgroups.apply(&config.cgroup_parent, &config.resources).map_err(other("limit the pod's control group"))?;

        let shared = config.shared;
        let spec = ShimSpec {
            netns: (!shared.network).then(|| self.netns(id)),
            hostname: (!shared.network && !config.hostname.is_empty()).then(|| config.hostname.clone()),
            shm: (!shared.ipc).then(|| shim_dir.join("shm")),
            pod_pid: shared.pod_pid && !shared.pid,
            sysctls: config.sysctls.clone().into_iter().collect(),
            procs_files: self.cgroups.procs_files(SHIM_CGROUP),
        };
        let text = serde_json::to_vec(&spec).expect("the specification has string keys only");
        fs::write(shim_dir.join(crate::shim::SPEC), text).map_err(other("write the shim's specification"))?;
        let output = Command::new(&self.config.shim_exe)
            .arg("shim")
            .arg("--dir")
            .arg(&shim_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .map_err(other(format_args!("run {}", self.config.shim_exe.display())))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(ContainerError::Other(format!("failed to start sandbox {id:?}: {text}")));
        }
        Ok(())
    }

    pub(super) async fn stop_sandbox(self: &Arc<Self>, id: &str) -> Result<()> {
        let Some(sandbox) = self.state().sandboxes.get(id).cloned() else { return Ok(()) };
        if sandbox.ready {
            self.state().stopping.insert(id.to_owned());
            if let Err(error) = self.call(id, Request::Stop, Vec::new()).await {
                tracing::info!(sandbox = %id, %error, "the shim was gone before it was stopped");
            }
            // Its last events are on their way; whatever they leave running is lost.
            self.settle(id).await;
            self.lose_sandbox(id).await;
        }
        self.state().stopping.remove(id);
        if !sandbox.config.shared.network {
            self.config.network.detach(id).await.map_err(ContainerError::Network)?;
        }
        let (shim_dir, inner, id) = (self.shim_dir(id), self.clone(), id.to_owned());
        self.world
            .blocking(move || {
                crate::shim::setup::undo(&shim_dir);
                let containers: Vec<String> = inner
                    .state()
                    .containers
                    .values()
                    .filter(|container| container.sandbox_id == id)
                    .map(|container| container.id.clone())
                    .collect();
                for container in containers {
                    inner.cgroups.kill(&Self::cgroup(&sandbox.config.cgroup_parent, &container));
                }
                remove_tree(&shim_dir)
            })
            .await
            .map_err(other("remove the shim's directory"))
    }

    /// Waits until the shim's last words have been taken in, at most two seconds.
    async fn settle(&self, id: &str) {
        let ended = async {
            loop {
                let changed = self.changed.notified();
                if !self.state().containers.values().any(|container| container.sandbox_id == id && container.is_running()) {
                    return;
                }
                changed.await;
            }
        };
        let _ = self.world.timeout(std::time::Duration::from_secs(2), ended).await;
    }

    pub(super) async fn remove_sandbox(self: &Arc<Self>, id: &str) -> Result<()> {
        let Some(sandbox) = self.state().sandboxes.get(id).cloned() else { return Ok(()) };
        self.stop_sandbox(id).await?;
        let containers: Vec<String> = self
            .state()
            .containers
            .values()
            .filter(|container| container.sandbox_id == id)
            .map(|container| container.id.clone())
            .collect();
        for container in containers {
            self.remove_container(&container).await?;
        }
        let (directory, cgroups, parent) = (self.sandbox_dir(id), self.cgroups.clone(), sandbox.config.cgroup_parent.clone());
        let shared_parent = self.state().sandboxes.values().any(|other| other.id != id && other.config.cgroup_parent == parent);
        self.world
            .blocking(move || {
                if !shared_parent && !parent.is_empty() {
                    // Somebody else's groups below it keep it; they are theirs to remove.
                    let _ = cgroups.remove(&parent);
                }
                remove_tree(&directory)
            })
            .await
            .map_err(other("remove the sandbox's directory"))?;
        self.emit(id, None);
        self.state().sandboxes.remove(id);
        Ok(())
    }
}

/// Removes a directory; a missing one is fine.
pub(super) fn remove_tree(directory: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// `/etc/resolv.conf`; `None` leaves the machine's.
fn resolv_conf(dns: &DnsConfig) -> Option<String> {
    if *dns == DnsConfig::default() {
        return None;
    }
    let mut lines = Vec::new();
    if !dns.searches.is_empty() {
        lines.push(format!("search {}", dns.searches.join(" ")));
    }
    lines.extend(dns.servers.iter().map(|server| format!("nameserver {server}")));
    if !dns.options.is_empty() {
        lines.push(format!("options {}", dns.options.join(" ")));
    }
    Some(lines.join("\n") + "\n")
}
