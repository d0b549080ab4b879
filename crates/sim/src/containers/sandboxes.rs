//! Making, stopping and removing sandboxes.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use daruma_world::containers::{ContainerError, Result, RuntimeStatus, Sandbox, SandboxConfig};
use daruma_world::links::Prefix;

use super::records::SandboxRecord;
use super::{Inner, PodRange, addresses};
use crate::scope::Scope;

impl Inner {
    /// The range of pods' addresses, or why there is no network.
    async fn range(&self) -> std::result::Result<Prefix, String> {
        if let Some(problem) = self.state().status.network_problem.clone() {
            return Err(problem);
        }
        match &self.config().range {
            PodRange::Fixed(range) => Ok(*range),
            PodRange::File(path) => self.range_in_file(path).await,
        }
    }

    /// Asked again and again, the file is read when something on the disk has changed.
    async fn range_in_file(&self, path: &Path) -> std::result::Result<Prefix, String> {
        let disk = self.scope().filter(|scope| !scope.is_dead()).map(|scope| scope.inner.place.disk.clone());
        let changes = disk.map(|disk| disk.changes());
        if let (Some(changes), Some((at, range))) = (changes, &self.state().range_read)
            && *at == changes
        {
            return range.clone();
        }
        let range = addresses::range(&self.world(), path).await;
        self.state().range_read = changes.map(|changes| (changes, range.clone()));
        range
    }

    pub(super) async fn status(&self) -> RuntimeStatus {
        let network_problem = self.range().await.err();
        RuntimeStatus { runtime_problem: self.state().status.runtime_problem.clone(), network_problem }
    }

    pub(super) fn new_id(&self) -> String {
        use std::fmt::Write as _;
        let mut bytes = [0u8; 32];
        self.world().random.fill(&mut bytes);
        bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    pub(super) async fn run_sandbox(self: &Arc<Self>, config: SandboxConfig) -> Result<String> {
        let host_network = config.shared.network;
        if !host_network {
            self.range().await.map_err(ContainerError::Network)?;
        }
        let world = self.world();
        let (id, created_at) = (self.new_id(), world.now());
        self.take(self.config().timing.sandbox).await;
        self.fork_sandbox()?;
        self.record_sandbox(&id).await?;
        if self.scope().is_some() {
            let made = world.disk.create_dir_all(&config.log_directory, 0o755).await;
            made.map_err(|error| ContainerError::Other(format!("make the log directory: {error}")))?;
        }
        let scope = self.scope().map(|machine| machine.child(&format!("pod {}/{}", config.namespace, config.name)));
        let addresses = if host_network { Ok(Vec::new()) } else { self.give_address(&id, scope.as_ref()).await };
        let addresses = match addresses {
            Ok(addresses) => addresses,
            Err(error) => {
                // The caller tries again with a new sandbox; nothing of this one may stay.
                if let Some(scope) = scope {
                    scope.kill();
                }
                self.forget_sandbox(&id).await;
                return Err(ContainerError::Network(error));
            }
        };
        let sandbox = Sandbox { id: id.clone(), config: Arc::new(config), ready: true, created_at, addresses };
        self.state().sandboxes.insert(id.clone(), SandboxRecord { sandbox, scope });
        self.emit(&id, None);
        Ok(id)
    }

    /// Gives a sandbox an address, at which its scope answers.
    async fn give_address(&self, id: &str, scope: Option<&Scope>) -> std::result::Result<Vec<IpAddr>, String> {
        let range = self.range().await?;
        let mut attempts = 0;
        loop {
            let taken = self.state().addresses.take(range, id);
            let address: Ipv4Addr =
                taken.ok_or_else(|| format!("failed to allocate an address: no IP addresses available in range set: {range}"))?;
            let Some(scope) = scope else { return Ok(vec![address.into()]) };
            match scope.inner.network.add_address(scope, address) {
                Ok(()) => return Ok(vec![address.into()]),
                Err(error) if attempts < 16 => {
                    // Somebody else's, such as that of a sandbox that is just being stopped.
                    tracing::debug!(%address, %error, "this address is taken");
                    self.state().addresses.free(id);
                    attempts += 1;
                }
                Err(error) => {
                    self.state().addresses.free(id);
                    return Err(format!("failed to set up the pod's link: {error}"));
                }
            }
        }
    }

    pub(super) async fn stop_sandbox(self: &Arc<Self>, id: &str) -> Result<()> {
        if !self.state().sandboxes.contains_key(id) {
            return Ok(());
        }
        self.take(self.config().timing.stop).await;
        let (inside, scope, was_ready) = {
            let mut state = self.state();
            let inside = state.inside(id);
            let Some(record) = state.sandboxes.get_mut(id) else { return Ok(()) };
            let was_ready = std::mem::replace(&mut record.sandbox.ready, false);
            (inside, record.scope.take(), was_ready)
        };
        for container in inside {
            self.finish(&container, 137, "Error");
        }
        if let Some(scope) = scope {
            // Its address goes with it.
            scope.kill();
        }
        self.state().addresses.free(id);
        if was_ready {
            self.emit(id, None);
        }
        Ok(())
    }

    pub(super) async fn remove_sandbox(self: &Arc<Self>, id: &str) -> Result<()> {
        self.stop_sandbox(id).await?;
        let inside = self.state().inside(id);
        for container in inside {
            self.remove_container(&container).await?;
        }
        self.forget_sandbox(id).await;
        self.emit(id, None);
        self.state().sandboxes.remove(id);
        Ok(())
    }
}
