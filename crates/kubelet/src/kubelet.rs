//! The kubelet as a whole.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_api::core::v1::Pod;
use daruma_client::{Body, Client, RateLimit};
use daruma_world::World;
use daruma_world::containers::ContainerRuntime;
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
use crate::view::PodView;
use crate::{gc, mirror, node, server, shutdown, sources, worker};

/// Between two attempts to get the engine's events.
const EVENTS_RETRY: Duration = Duration::from_millis(50);

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
            engine: Mutex::default(),
            images: Mutex::new(Arc::new([])),
            node: Mutex::new(None),
            pressure: Mutex::default(),
            disk: Mutex::default(),
            node_due: Notify::new(),
            files_due: Notify::new(),
            clean_up_due: Notify::new(),
            files_found_at: Mutex::default(),
            engine_news: AtomicU64::default(),
            shutting_down: false.into(),
            objects: crate::objects::Objects::default(),
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

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Makes a pod of this node run as if an earlier kubelet had started it long ago: without events, its status told once. For a
    /// cluster that is loaded with a state; before [`Kubelet::run`].
    ///
    /// # Errors
    /// Why it does not run. It is started as any other pod once the kubelet runs.
    pub async fn stand(&self, pod: Pod) -> Result<(), String> {
        worker::standing::stand(&self.shared, pod).await
    }

    /// Runs the node for as long as the future is polled; its tasks belong to the world's scope.
    pub async fn run(&self) {
        let shared = &self.shared;
        tracing::info!(node = shared.config.node_name, "the kubelet starts");
        shared.recorder.node("Starting", "Starting kubelet.");
        // Events first, or something could be missed between the first list and the first event.
        let events = watch_runtime(shared.clone());
        let world = &shared.world;
        world.spawn("node", node::run_tick(shared.clone()));
        world.spawn("node object", node::watch(shared.clone()));
        world.spawn("static pods", sources::run_files(shared.clone()));
        world.spawn("pods", sources::watch(shared.clone()));
        world.spawn("mirror pods", mirror::run(shared.clone()));
        world.spawn("node report", node::run_report(shared.clone()));
        world.spawn("node lease", node::run_lease(shared.clone()));
        world.spawn("clean-up", gc::run(shared.clone()));
        events.await;
    }

    /// Ends the node's pods because the machine is about to be turned off: ordinary ones, then critical ones, each within
    /// their part of [`KubeletConfig::shutdown_grace_period`]. Until the power goes no pod is taken any more. Completes when all
    /// have ended or their time is over; at once, having done nothing, where no grace period is configured.
    pub async fn shutdown(&self) {
        shutdown::run(&self.shared).await;
    }

    /// What a component does when it is asked to end (SIGTERM): where the machine itself is being turned off, which
    /// [`crate::SHUTDOWN_FILE`] says, the node is shut down first; else it is only the kubelet that goes, and the pods stay.
    pub async fn terminate(&self) {
        if self.shared.world.disk.metadata(Path::new(shutdown::SHUTDOWN_FILE)).await.is_ok() {
            self.shutdown().await;
        }
    }

    /// Answers a request to the kubelet's port. The verified client certificate comes as an extension
    /// ([`crate::PeerCertificate`]), the connection of an upgrade as `hyper::upgrade::OnUpgrade`.
    pub fn handle(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(server::handle(self.shared.clone(), self.access.clone(), request))
    }

    /// Whether the container engine works, for the health endpoint.
    pub fn is_healthy(&self) -> bool {
        self.shared.runtime_problems().is_empty()
    }
}

/// Wakes the workers of pods of which the engine has news.
async fn watch_runtime(shared: Arc<Shared>) {
    loop {
        let mut events = shared.runtime.events();
        shared.engine_news.fetch_add(1, Ordering::Relaxed);
        shared.wake_all();
        loop {
            let pause = shared.world.sleep(shared.config.relist_frequency);
            let event = tokio::select! {
                biased;
                event = events.recv() => Some(event),
                () = pause => None,
            };
            match event {
                Some(Some(event)) => {
                    shared.engine_news.fetch_add(1, Ordering::Relaxed);
                    if let Some(cell) = shared.pods.get(&event.pod_uid) {
                        cell.runtime_event();
                    }
                }
                // The stream broke off: events may be lost.
                Some(None) => break,
                None => relist(&shared).await,
            }
        }
        shared.world.sleep(EVENTS_RETRY).await;
    }
}

/// Compares what runs with what the workers know, once for all pods, and wakes those that missed something.
async fn relist(shared: &Shared) {
    let (Ok(sandboxes), Ok(containers)) = (shared.runtime.list_sandboxes().await, shared.runtime.list_containers().await) else {
        return;
    };
    for cell in shared.pods.list() {
        if PodView::of(&cell.uid, &sandboxes, &containers) != cell.lock().view {
            cell.wake();
        }
    }
}
