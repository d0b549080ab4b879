//! What all parts of a kubelet use.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use daruma_api::core::v1::Node;
use daruma_client::Client;
use daruma_world::World;
use daruma_world::containers::{ContainerError, ContainerRuntime, Image};
use daruma_world::disk::Usage;
use daruma_world::hardware::{Facts, Hardware};
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::backoff::Backoffs;
use crate::cell::Registry;
use crate::config::KubeletConfig;
use crate::engine_health::EngineHealth;
use crate::env::services::Services;
use crate::recorder::Recorder;

/// How long the node's own report waits for an answer of the engine.
const ENGINE_PATIENCE: Duration = Duration::from_secs(1);

/// Space of the node's disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Space {
    /// As it was found last.
    pub usage: Usage,
    /// What [`daruma_world::Disk::changes`] said then.
    seen: Option<u64>,
}

/// The parts' common ground. Always behind an `Arc`.
pub struct Shared {
    /// Time, tasks, disk, sockets.
    pub world: World,
    /// The API.
    pub client: Client,
    /// Containers.
    pub runtime: Arc<dyn ContainerRuntime>,
    /// The machine.
    pub hardware: Arc<dyn Hardware>,
    /// Settings.
    pub config: KubeletConfig,
    /// The machine's facts at the start.
    pub facts: Facts,
    /// Name of the runtime in container ids.
    pub runtime_name: String,
    /// Events.
    pub recorder: Recorder,
    /// The pods.
    pub pods: Registry,
    /// Services for environment variables.
    pub services: Services,
    /// Service account tokens.
    pub tokens: crate::volumes::Tokens,
    /// Waits of failing containers.
    pub restarts: Mutex<Backoffs>,
    /// Waits of failing image pulls, and how they failed last.
    pub pulls: Mutex<crate::images::Pulls>,
    /// When this kubelet started.
    pub started_at: Timestamp,
    /// The engine as it answered last.
    pub engine: Mutex<EngineHealth>,
    /// The engine's images at the last look.
    pub images: Mutex<Arc<[Image]>>,
    /// The Node object as the API gave it last.
    pub node: Mutex<Option<Arc<Node>>>,
    /// Pressure conditions.
    pub pressure: Mutex<crate::eviction::Pressure>,
    /// Space of the node's disk at the last look; nothing until then.
    pub disk: Mutex<Space>,
    /// Lets the node's status be computed now.
    pub node_due: Notify,
    /// Lets a manifest directory in which nothing was found be read again.
    pub files_due: Notify,
    /// What [`daruma_world::Disk::changes`] said when nothing was found there.
    pub files_found_at: Mutex<Option<u64>>,
    /// Counts what the engine has told, and the times when it may have told something that nobody heard.
    pub engine_news: AtomicU64,
    /// Lets what nobody needs be removed.
    pub clean_up_due: Notify,
    /// Whether the machine is about to be turned off.
    pub shutting_down: AtomicBool,
    /// ConfigMaps and Secrets of the node's pods.
    pub objects: crate::objects::Objects,
    /// Whether the API's pods were listed once.
    pub api_synced: AtomicBool,
    /// Whether the manifest directory was read once.
    pub files_read: AtomicBool,
    /// Mirror pods in the API.
    pub mirrors: crate::mirror::Mirrors,
    /// Samples of usage.
    pub usage: Mutex<crate::stats::Usage>,
    /// Lets the mirror pods be looked at.
    pub mirrors_changed: Notify,
}

impl Shared {
    /// Now.
    pub fn now(&self) -> Timestamp {
        self.world.now()
    }

    /// The node's addresses, the configured one first.
    pub fn host_ips(&self) -> Vec<IpAddr> {
        match self.config.node_ip {
            Some(ip) => vec![ip],
            None => self.facts.addresses.first().copied().into_iter().collect(),
        }
    }

    /// Why pods cannot get a network, in the real kubelet's words.
    pub fn network_problem(&self) -> Option<String> {
        self.engine.lock().expect("no panic while held").network_problem()
    }

    /// Why containers cannot be run, one text a reason.
    pub fn runtime_problems(&self) -> Vec<String> {
        self.engine.lock().expect("no panic while held").runtime_problems(self.world.monotonic())
    }

    /// What the engine answers, where it does so soon: whoever reports on the node must not hang with its engine.
    pub async fn answer_soon<T>(
        &self,
        mut answer: BoxFuture<'static, Result<T, ContainerError>>,
    ) -> Option<Result<T, ContainerError>>
    where
        T: Send,
    {
        // Nearly always it answers at once, without any timer.
        match futures::poll!(&mut answer) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => self.world.timeout(ENGINE_PATIENCE, answer).await.ok(),
        }
    }

    /// Lists a pod's sandboxes and containers.
    pub async fn look(&self, uid: &str) -> Result<crate::view::PodView, daruma_world::containers::ContainerError> {
        let (sandboxes, containers) = self.runtime.list_pod(uid).await?;
        Ok(crate::view::PodView::of(uid, &sandboxes, &containers))
    }

    /// Space of the node's disk now; nothing where it cannot be told.
    pub async fn space(&self) -> Usage {
        let known = || self.disk.lock().expect("no panic while held");
        let seen = self.world.disk.changes();
        if seen.is_some() && known().seen == seen {
            return known().usage;
        }
        let usage = self.world.disk.usage(&self.config.root_dir).await;
        let space = Space { seen: seen.filter(|_| usage.is_ok()), usage: usage.unwrap_or_default() };
        *known() = space;
        space.usage
    }

    /// Whether the machine is about to be turned off.
    pub fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::Acquire)
    }

    /// Wakes every worker.
    pub fn wake_all(&self) {
        for cell in self.pods.list() {
            cell.wake();
        }
    }
}
