//! Following shims: their events, their ends, and finding them again after a restart.

use std::io;
use std::sync::Arc;

use daruma_world::containers::ContainerState;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::{Inner, state};
use crate::shim::protocol::{self, Event, Reply, Request};

impl Inner {
    /// Subscribes to every shim that should run; what does not answer is lost.
    pub(super) async fn reconnect(inner: &Arc<Self>) {
        let ready: Vec<String> =
            inner.state().sandboxes.values().filter(|sandbox| sandbox.ready).map(|sandbox| sandbox.id.clone()).collect();
        for id in ready {
            if let Err(error) = Self::follow(inner, &id).await {
                tracing::info!(sandbox = %id, %error, "the sandbox has no shim any more");
                inner.lose_sandbox(&id).await;
            }
        }
        let orphans = inner.clone();
        inner.world.blocking(move || orphans.stop_orphans()).await;
        // Containers whose sandbox was stopped, or whose start was cut short.
        let now = inner.world.now();
        let mut lost = Vec::new();
        {
            let mut state = inner.state();
            let state = &mut *state;
            for container in state.containers.values_mut() {
                let alive = state.sandboxes.get(&container.sandbox_id).is_some_and(|sandbox| sandbox.ready);
                if !alive && !matches!(container.state, ContainerState::Exited { .. }) {
                    container.lose(now);
                    lost.push(container.clone());
                }
            }
        }
        inner.save_containers(lost).await;
    }

    /// Ends shims that no record speaks of: the engine ended while it made or removed their sandbox. Blocks.
    fn stop_orphans(&self) {
        let known: Vec<_> =
            self.state().sandboxes.values().filter(|sandbox| sandbox.ready).map(|sandbox| self.shim_dir(&sandbox.id)).collect();
        for entry in std::fs::read_dir(self.config.run_dir.join("s")).into_iter().flatten().flatten() {
            let directory = entry.path();
            if known.contains(&directory) {
                continue;
            }
            tracing::info!(shim = %directory.display(), "ending a shim without a sandbox");
            // One that is gone already answers nothing.
            let _ = protocol::call(&directory.join(crate::shim::SOCKET), &Request::Stop, &[]);
            crate::shim::setup::undo(&directory);
            if let Err(error) = super::sandboxes::remove_tree(&directory) {
                tracing::warn!(shim = %directory.display(), %error, "cannot remove a shim's directory");
            }
        }
    }

    /// Subscribes to a shim's events, takes what it knows in, and goes on listening in the background.
    pub(super) async fn follow(inner: &Arc<Self>, sandbox_id: &str) -> io::Result<()> {
        let mut stream = UnixStream::connect(inner.socket(sandbox_id)).await?;
        stream.write_all(&protocol::line(&Request::Subscribe)).await?;
        let mut lines = BufReader::new(stream).lines();
        let mut seen = Vec::new();
        loop {
            let line = lines.next_line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            match serde_json::from_str(&line)? {
                Reply::Event(Event::Complete) => break,
                Reply::Event(event) => {
                    if let Event::Started { container, .. } | Event::Exited { container, .. } = &event {
                        seen.push(container.clone());
                    }
                    inner.take_in(sandbox_id, event).await;
                }
                other => return Err(io::Error::other(format!("unexpected answer {other:?}"))),
            }
        }
        // Thought to run, but unknown to the shim: the start was never carried out.
        let now = inner.world.now();
        let mut lost = Vec::new();
        for container in inner.state().containers.values_mut() {
            if container.sandbox_id == sandbox_id && container.is_running() && !seen.contains(&container.id) {
                container.lose(now);
                lost.push(container.clone());
            }
        }
        inner.save_containers(lost).await;
        let (weak, id) = (Arc::downgrade(inner), sandbox_id.to_owned());
        inner.world.spawn("container-shim", async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let Some(inner) = weak.upgrade() else { return };
                if let Ok(Reply::Event(event)) = serde_json::from_str(&line) {
                    inner.take_in(&id, event).await;
                }
            }
            if let Some(inner) = weak.upgrade()
                && !inner.state().stopping.contains(&id)
            {
                tracing::warn!(sandbox = %id, "the sandbox's shim died");
                inner.lose_sandbox(&id).await;
            }
        });
        Ok(())
    }

    async fn take_in(&self, sandbox_id: &str, event: Event) {
        let time = |ns: i64| jiff::Timestamp::from_nanosecond(ns.into()).unwrap_or_else(|_| self.world.now());
        let (id, new) = match event {
            Event::Complete => return,
            Event::Started { container, at_ns } => (container, ContainerState::Running { started_at: time(at_ns) }),
            Event::Exited { container, started_ns, at_ns, code, oom } => {
                let reason = match (oom, code) {
                    (true, _) => "OOMKilled",
                    (false, 0) => "Completed",
                    _ => "Error",
                };
                let exited = ContainerState::Exited {
                    started_at: Some(time(started_ns)),
                    finished_at: time(at_ns),
                    exit_code: code,
                    reason: reason.to_owned(),
                    message: String::new(),
                };
                (container, exited)
            }
        };
        let record = {
            let mut state = self.state();
            let Some(container) = state.containers.get_mut(&id) else { return };
            if matches!(container.state, ContainerState::Exited { .. }) || container.state == new {
                return;
            }
            container.state = new;
            container.clone()
        };
        self.emit(sandbox_id, Some(&id));
        self.save_containers(vec![record]).await;
    }

    /// Marks a sandbox and its containers as ended by something else than the engine.
    pub(super) async fn lose_sandbox(&self, id: &str) {
        let now = self.world.now();
        let mut lost = Vec::new();
        let sandbox = {
            let mut state = self.state();
            for container in state.containers.values_mut() {
                if container.sandbox_id == id && !matches!(container.state, ContainerState::Exited { .. }) {
                    container.lose(now);
                    lost.push(container.clone());
                }
            }
            state.sandboxes.get_mut(id).map(|sandbox| {
                sandbox.ready = false;
                sandbox.clone()
            })
        };
        let Some(sandbox) = sandbox else { return };
        let (directory, shim_dir) = (self.sandbox_dir(id), self.shim_dir(id));
        self.world
            .blocking(move || {
                crate::shim::setup::undo(&shim_dir);
                if let Err(error) = state::save(&directory, &sandbox, false) {
                    tracing::warn!(%error, "cannot write a sandbox's record");
                }
            })
            .await;
        let ids: Vec<String> = lost.iter().map(|container| container.id.clone()).collect();
        self.save_containers(lost).await;
        for container in ids {
            self.emit(id, Some(&container));
        }
        self.emit(id, None);
    }

    /// Writes containers' records; a full disk is told in the log, memory has them.
    pub(super) async fn save_containers(&self, records: Vec<state::ContainerRecord>) {
        if records.is_empty() {
            return;
        }
        let root = self.config.root.join("containers");
        self.world
            .blocking(move || {
                for record in records {
                    let directory = root.join(&record.id);
                    if directory.is_dir()
                        && let Err(error) = state::save(&directory, &record, false)
                    {
                        tracing::warn!(container = %record.id, %error, "cannot write a container's record");
                    }
                }
            })
            .await;
    }
}
