//! The kubelet as a whole.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_client::{Body, Client, RateLimit};
use daruma_world::World;
use daruma_world::containers::{ContainerRuntime, RuntimeStatus};
use daruma_world::hardware::Hardware;
use futures::future::BoxFuture;
use http::{Request, Response};
use tokio::sync::Notify;

use crate::backoff::{Backoffs, INITIAL};
use crate::cell::Registry;
use crate::config::KubeletConfig;
use crate::recorder::Recorder;
use crate::server::Access;
use crate::shared::Shared;
use crate::{eviction, gc, mirror, node, server, sources, stats};

/// How often the engine is asked for its state while something is missing, and when all is well.
const STATUS_SOON: Duration = Duration::from_millis(50);
const STATUS_LATER: Duration = Duration::from_secs(5);

/// The node agent. Cheap to clone.
#[derive(Clone)]
pub struct Kubelet {
    shared: Arc<Shared>,
    access: Arc<Access>,
}

impl Kubelet {
    /// Puts a kubelet together; nothing but the sending of events happens until [`Kubelet::run`].
    pub fn new(
        world: World,
        client: Client,
        runtime: Arc<dyn ContainerRuntime>,
        hardware: Arc<dyn Hardware>,
        config: KubeletConfig,
    ) -> Self {
        let limit = RateLimit { qps: config.event_qps, burst: config.event_burst };
        let version = runtime.version();
        let shared = Shared {
            recorder: Recorder::new(&client.named("kubelet", limit), &config.node_name),
            facts: hardware.facts(),
            runtime_name: version.split("://").next().unwrap_or("daruma").to_owned(),
            pods: Registry::default(),
            services: crate::env::services::Services::default(),
            tokens: crate::volumes::Tokens::default(),
            restarts: Mutex::new(Backoffs::new(INITIAL, config.max_container_restart_period)),
            pulls: Mutex::default(),
            started_at: world.now(),
            // Unknown until the first look, which comes at once.
            runtime_status: Mutex::new(RuntimeStatus { runtime_problem: Some("not asked yet".into()), network_problem: None }),
            node: Mutex::new(None),
            pressure: Mutex::default(),
            node_changed: Notify::new(),
            api_synced: false.into(),
            files_read: false.into(),
            mirrors: Mutex::default(),
            usage: Mutex::default(),
            mirrors_changed: Notify::new(),
            world,
            client,
            runtime,
            hardware,
            config,
        };
        Self { shared: Arc::new(shared), access: Arc::default() }
    }

    /// Runs the node for as long as the future is polled; its tasks belong to the world's scope.
    pub async fn run(&self) {
        let shared = &self.shared;
        tracing::info!(node = shared.config.node_name, "the kubelet starts");
        shared.recorder.node("Starting", "Starting kubelet.");
        // Events first, or something could be missed between the first list and the first event.
        let events = watch_runtime(shared.clone());
        let world = &shared.world;
        world.spawn("engine status", watch_status(shared.clone()));
        world.spawn("static pods", sources::run_files(shared.clone()));
        world.spawn("pods", sources::watch(shared.clone()));
        world.spawn("mirror pods", mirror::run(shared.clone()));
        world.spawn("node report", node::run_report(shared.clone()));
        world.spawn("node lease", node::run_lease(shared.clone()));
        world.spawn("statistics", stats::run(shared.clone()));
        world.spawn("clean-up", gc::run(shared.clone()));
        world.spawn("eviction", eviction::run(shared.clone()));
        events.await;
    }

    /// Answers a request to the kubelet's port. The verified client certificate comes as an extension
    /// ([`crate::PeerCertificate`]), the connection of an upgrade as `hyper::upgrade::OnUpgrade`.
    pub fn handle(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(server::handle(self.shared.clone(), self.access.clone(), request))
    }

    /// Whether the container engine works, for the health endpoint.
    pub fn is_healthy(&self) -> bool {
        self.shared.runtime_problem().is_none()
    }
}

/// Wakes the workers of pods of which the engine has news, and all of them from time to time.
async fn watch_runtime(shared: Arc<Shared>) {
    loop {
        let mut events = shared.runtime.events();
        shared.wake_all();
        loop {
            let relist = shared.world.sleep(shared.config.relist_frequency);
            let event = tokio::select! {
                biased;
                event = events.recv() => Some(event),
                () = relist => None,
            };
            match event {
                Some(Some(event)) => {
                    if let Some(cell) = shared.pods.get(&event.pod_uid) {
                        cell.runtime_event();
                    }
                }
                // The stream broke off: events may be lost.
                Some(None) => break,
                None => shared.wake_all(),
            }
        }
        shared.world.sleep(STATUS_SOON).await;
    }
}

/// Asks the engine for its state; what became possible happens at once.
async fn watch_status(shared: Arc<Shared>) {
    loop {
        let status = match shared.runtime.status().await {
            Ok(status) => status,
            Err(error) => RuntimeStatus { runtime_problem: Some(error.to_string()), network_problem: None },
        };
        let good = status == RuntimeStatus::default();
        let changed = {
            let mut known = shared.runtime_status.lock().expect("no panic while held");
            let changed = *known != status;
            *known = status;
            changed
        };
        if changed {
            shared.node_changed.notify_one();
            shared.wake_all();
        }
        shared.world.sleep(if good { STATUS_LATER } else { STATUS_SOON }).await;
    }
}
