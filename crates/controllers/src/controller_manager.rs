//! Starts every controller of the list on one set of informers.

use std::sync::Arc;

use daruma_client::{Client, RateLimit};

use crate::ControllerManagerConfig;
use crate::all::ALL;
use crate::events::Recorder;
use crate::metrics::Metrics;
use crate::shared::Shared;
use crate::shell::{Context, Scope};

/// Makes a client of a service account by its name (`--use-service-account-credentials`).
pub type ClientOf = Arc<dyn Fn(&str) -> Client + Send + Sync>;

/// kube-controller-manager's controllers. Clones share the counters.
#[derive(Clone)]
pub struct ControllerManager {
    client: Client,
    clients: Option<ClientOf>,
    config: Arc<ControllerManagerConfig>,
    metrics: Metrics,
}

impl ControllerManager {
    /// Prepares the controllers; nothing runs yet.
    pub fn new(client: Client, config: ControllerManagerConfig) -> Self {
        Self { client, clients: None, config: Arc::new(config), metrics: Metrics::default() }
    }

    /// Gives every controller the client that `clients` makes for its name. The shared informers keep the
    /// manager's own.
    #[must_use]
    pub fn with_clients(mut self, clients: ClientOf) -> Self {
        self.clients = Some(clients);
        self
    }

    /// Counters of the work queues in the Prometheus text format.
    pub fn metrics_text(&self) -> String {
        self.metrics.text()
    }

    /// Runs the controllers; never completes. Dropping the future ends every controller (the shared
    /// informers live on for as long as the world's scope).
    pub async fn run(&self) {
        let world = self.client.world().clone();
        let shared = Arc::new(Shared::new(&self.client.named("kube-controller-manager/shared-informers", RateLimit::NONE)));
        let scope = Scope::default();
        for entry in ALL.iter().filter(|entry| self.config.enables(entry.name)) {
            let mut limit = self.config.rate_limit();
            limit.qps *= entry.rate_factor;
            limit.burst = (f64::from(limit.burst) * entry.rate_factor) as u32;
            let own = self.clients.as_ref().map_or_else(|| self.client.clone(), |clients| clients(entry.service_account()));
            let client = own.named(&format!("kube-controller-manager/{}", entry.name), limit);
            (entry.start)(Context {
                world: world.clone(),
                recorder: Recorder::new(&client, entry.event_source),
                client,
                name: entry.name,
                workers: self.config.concurrent_syncs.get(entry.name).copied().unwrap_or(entry.workers),
                shared: shared.clone(),
                config: self.config.clone(),
                metrics: self.metrics.clone(),
                scope: scope.clone(),
            });
        }
        shared.start();
        let _ends_all = scope.end_on_drop();
        futures::future::pending::<()>().await;
    }
}

/// Runs the controllers for ever. Use [`ControllerManager`] where counters are wanted.
pub async fn run(client: Client, config: ControllerManagerConfig) {
    ControllerManager::new(client, config).run().await;
}
