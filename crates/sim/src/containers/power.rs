//! Records on the machine's disk, and what is left of them after a loss of power; the engine's service.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daruma_world::World;
use daruma_world::containers::{ContainerError, ContainerState, Result};
use daruma_world::disk::WriteOptions;
use daruma_world::machines::Signal;

use super::records::Service;
use super::{Ground, Inner, SimRuntime, Strain, lock};
use crate::disk::Burden;
use crate::scope::Scope;

const SANDBOXES: &str = "/var/lib/daruma/engine/sandboxes";
const CONTAINERS: &str = "/var/lib/daruma/engine/containers";
/// Time after which its init starts a dead engine again: `RestartSec` of containerd's unit.
const RESTART: Duration = Duration::from_secs(5);
/// Identity of what images and layers use of the disk, apart from those of pressures, which count up from 1.
const BURDEN: u64 = u64::MAX;

impl SimRuntime {
    /// The machine has got power: `scope` is what it is until it loses it. What the disk says of sandboxes
    /// and containers counts; calls wait until that is read.
    pub fn power_on(&self, scope: &Scope) {
        *lock(&self.inner.ground) = Some(Ground { world: scope.world(), scope: Some(scope.clone()) });
        self.inner.state().service = Service::Loading;
        let engine = self.clone();
        scope.spawn("container-engine", async move { engine.load().await });
    }

    /// The power is gone, and with it every process. Nothing on the disk changes any more.
    pub fn power_cut(&self) {
        let engines = {
            let mut guard = self.inner.state();
            let state = &mut *guard;
            state.events = None;
            state.turns += 1;
            let lives = state.containers.values_mut().map(|record| record.life.take());
            let scopes = state.sandboxes.values_mut().map(|record| record.scope.take());
            (lives.collect::<Vec<_>>(), scopes.collect::<Vec<_>>())
        };
        // Sockets are let go of outside of our lock.
        drop(engines);
    }

    /// Lets go of what holds on to the machine, for good.
    pub fn forget(&self) {
        self.power_cut();
        let ground = lock(&self.inner.ground).take();
        drop(ground);
    }

    async fn load(&self) {
        let world = self.inner.world();
        {
            let mut state = self.inner.state();
            state.has_directories = false;
            state.ended_cpu_ns = 0;
            state.strain = Strain::default();
            state.addresses.restart();
        }
        let sandboxes = read_all(&world, SANDBOXES).await;
        let containers = read_all(&world, CONTAINERS).await;
        let now = world.now();
        let gone = {
            let mut guard = self.inner.state();
            let state = &mut *guard;
            let was_known = |known: bool| if known { None } else { Some(()) };
            state.sandboxes.retain(|id, _| sandboxes.contains_key(id));
            state.containers.retain(|id, record| {
                let Some(text) = containers.get(id) else { return false };
                // The state that had reached the disk; what ran is lost below.
                if let Ok(exited @ ContainerState::Exited { .. }) = serde_json::from_slice(text) {
                    record.life = None;
                    record.container.state = exited;
                } else if let ContainerState::Exited { started_at, .. } = record.container.state {
                    record.container.state =
                        started_at.map_or(ContainerState::Created, |started_at| ContainerState::Running { started_at });
                }
                true
            });
            state.lose_all(now);
            let unknown_sandboxes =
                sandboxes.keys().filter_map(|id| was_known(state.sandboxes.contains_key(id)).map(|()| (SANDBOXES, id)));
            let unknown_containers =
                containers.keys().filter_map(|id| was_known(state.containers.contains_key(id)).map(|()| (CONTAINERS, id)));
            let gone: Vec<PathBuf> =
                unknown_sandboxes.chain(unknown_containers).map(|(directory, id)| PathBuf::from(directory).join(id)).collect();
            gone
        };
        for path in gone {
            // Half made or half removed when the power went.
            let _ = world.disk.remove_file(&path).await;
        }
        let lost: Vec<String> = self.inner.state().containers.keys().cloned().collect();
        for id in lost {
            self.inner.write_state(&id).await;
        }
        self.inner.settle_disk();
        {
            let mut state = self.inner.state();
            if state.service == Service::Loading {
                state.service = Service::Runs;
            }
        }
        self.inner.changed.notify_waiters();
    }
}

/// All records of a directory by id.
async fn read_all(world: &World, directory: &str) -> BTreeMap<String, Vec<u8>> {
    let directory = PathBuf::from(directory);
    let mut found = BTreeMap::new();
    for (id, _) in world.disk.read_dir(&directory).await.unwrap_or_default() {
        if let Ok(text) = world.disk.read(&directory.join(&id)).await {
            found.insert(id, text);
        }
    }
    found
}

impl Inner {
    async fn record(&self, directory: &str, id: &str, content: Vec<u8>, durable: bool) -> io::Result<()> {
        let world = self.world();
        if !self.state().has_directories {
            for directory in [SANDBOXES, CONTAINERS] {
                world.disk.create_dir_all(&PathBuf::from(directory), 0o700).await?;
            }
            self.state().has_directories = true;
        }
        world.disk.write(&PathBuf::from(directory).join(id), content, WriteOptions { mode: 0o600, durable }).await
    }

    /// Makes a sandbox's existence durable.
    pub(super) async fn record_sandbox(&self, id: &str) -> Result<()> {
        if self.scope().is_none() {
            return Ok(());
        }
        let written = self.record(SANDBOXES, id, b"{}\n".to_vec(), true).await;
        written.map_err(|error| ContainerError::Other(format!("write the sandbox's record: {error}")))
    }

    /// Makes a container's existence durable.
    pub(super) async fn record_container(&self, id: &str, name: &str) -> Result<()> {
        if self.scope().is_none() {
            return Ok(());
        }
        let written = self.record(CONTAINERS, id, b"\"Created\"\n".to_vec(), true).await;
        written.map_err(|error| ContainerError::Other(format!("failed to create container {name:?}: {error}")))
    }

    /// Writes a container's state, not durably: a loss of power soon after may forget it.
    pub(super) async fn write_state(&self, id: &str) {
        let text = self.state().containers.get(id).and_then(|record| serde_json::to_vec(&record.container.state).ok());
        if let Some(text) = text.filter(|_| self.scope().is_some())
            && let Err(error) = self.record(CONTAINERS, id, text, false).await
        {
            tracing::warn!(container = id, %error, "cannot write a container's record");
        }
    }

    pub(super) async fn forget_sandbox(&self, id: &str) {
        self.forget(SANDBOXES, id).await;
    }

    pub(super) async fn forget_container(&self, id: &str) {
        self.forget(CONTAINERS, id).await;
    }

    async fn forget(&self, directory: &str, id: &str) {
        if self.scope().is_some() {
            // What is not there need not be removed.
            let _ = self.world().disk.remove_file(&PathBuf::from(directory).join(id)).await;
        }
    }

    /// Has the disk hold what images and containers' own layers take.
    pub(super) fn settle_disk(&self) {
        let Some(scope) = self.scope() else { return };
        let now = scope.world().monotonic();
        let bytes = {
            let state = self.state();
            let layers: u64 = state.containers.values().map(|record| record.layer(now)).sum();
            layers.saturating_add(state.images.pulled_bytes())
        };
        scope.inner.place.disk.press(BURDEN, Burden::Fill(bytes, 0));
    }

    pub(super) fn control(self: &Arc<Self>, signal: Signal) {
        {
            let mut state = self.state();
            match signal {
                Signal::Kill | Signal::Terminate if state.service == Service::Stopped => {}
                Signal::Kill | Signal::Terminate => {
                    state.service = Service::Restarting;
                    state.events = None;
                }
                Signal::Stop => {
                    state.service = Service::Stopped;
                    state.events = None;
                }
                Signal::Pause if state.service == Service::Runs => state.service = Service::Held,
                Signal::Continue if state.service == Service::Held => state.service = Service::Runs,
                Signal::Pause | Signal::Continue => {}
                Signal::Start => state.service = Service::Runs,
            }
        }
        self.changed.notify_waiters();
        if matches!(signal, Signal::Kill | Signal::Terminate) {
            let (engine, world) = (self.clone(), self.world());
            self.world().spawn("container-engine", async move {
                world.sleep(RESTART).await;
                {
                    let mut state = engine.state();
                    if state.service == Service::Restarting {
                        state.service = Service::Runs;
                    }
                }
                engine.changed.notify_waiters();
            });
        }
    }
}
