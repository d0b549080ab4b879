//! The service proxy of a node (kube-proxy): watches Services and EndpointSlices and keeps one table
//! of packet rules as [`plan`] wants it.
//!
//! Changes are applied as soon as the previous ones are done; what arrives meanwhile is taken together.

pub mod choice;
pub mod connections;
pub mod health;
pub mod plan;
pub mod service_health;
pub mod services;

use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::{Node, Service};
use daruma_api::discovery::v1::EndpointSlice;
use daruma_api::meta::ObjectExt;
use daruma_client::informer::{Delta, Informer};
use daruma_client::{Client, ListOptions};
use daruma_world::World;
use daruma_world::links::Prefix;
use daruma_world::packet_rules::{Change, PacketRules, Protocol, Table};
use futures::future::Either;
use tokio::sync::Notify;

pub use health::Health;
use plan::{Plan, Seen, plan};
use service_health::Servers;

/// Name of our table.
pub const TABLE: &str = "kube-proxy";
/// How often the kernel's table is checked for having been lost.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// Pause after a failure, doubling up to the most.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(10);

/// Settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// This node.
    pub node_name: String,
    /// Addresses of the cluster's pods (`--cluster-cidr`); `None` masquerades no ClusterIP traffic.
    pub pod_range: Option<Prefix>,
    /// Addresses of services; those that no service has are dropped on the node. `None` lets them pass.
    pub service_range: Option<Prefix>,
}

/// Runs the proxy for as long as the world's scope lives.
pub async fn run(world: World, client: Client, rules: Arc<dyn PacketRules>, config: Config, health: Health) {
    let changed = Arc::new(Notify::new());
    let not_other_proxys = "!service.kubernetes.io/service-proxy-name";
    let selection = |selector: &str| ListOptions { label_selector: selector.to_owned(), ..ListOptions::default() };
    let services: Informer<Service> = Informer::new(client.all(), selection(not_other_proxys));
    let slices: Informer<EndpointSlice> =
        Informer::new(client.all(), selection(&format!("!service.kubernetes.io/headless,{not_other_proxys}")));
    let own_node = ListOptions { field_selector: format!("metadata.name={}", config.node_name), ..ListOptions::default() };
    let nodes: Informer<Node> = Informer::new(client.cluster(), own_node);
    let notify = |changed: &Arc<Notify>, health: &Health| {
        let (changed, health) = (changed.clone(), health.clone());
        move || {
            health.change_seen();
            changed.notify_one();
        }
    };
    let (on_service, on_slice) = (notify(&changed, &health), notify(&changed, &health));
    services.on_delta(move |_| on_service());
    slices.on_delta(move |_| on_slice());
    let (zone_changed, node_health) = (changed.clone(), health.clone());
    nodes.on_delta(move |delta| {
        node_health.node_eligible(!matches!(delta, Delta::Deleted(_)) && node_eligible(delta.object()));
        // Heartbeats change nothing here.
        let same = matches!(delta, Delta::Updated(old, new) if zone_of(old) == zone_of(new));
        if !same {
            zone_changed.notify_one();
        }
    });
    services.start();
    slices.start();
    nodes.start();
    health.started(world.now());
    services.wait_synced().await;
    slices.wait_synced().await;

    let mut servers = Servers::new(&world, &client, &health, &config.node_name);
    let mut applied = Applied::new(rules, TABLE);
    let mut retry = RETRY_FIRST;
    loop {
        let node = nodes.get("", &config.node_name);
        let zone = node.as_deref().and_then(zone_of);
        let (all_services, all_slices) = (services.list(), slices.list());
        let started = world.monotonic();
        let wanted = plan(&Seen {
            services: &all_services,
            slices: &all_slices,
            node_name: &config.node_name,
            zone,
            pod_range: config.pod_range,
            service_range: config.service_range,
        });
        let health_checks = wanted.health_checks.clone();
        match applied.apply(wanted).await {
            Ok(()) => {
                health.applied(world.now(), world.monotonic().saturating_sub(started));
                servers.apply(&health_checks).await;
                retry = RETRY_FIRST;
            }
            Err(error) => {
                tracing::error!(%error, "packet rules could not be applied");
                health.failed();
                world.sleep(retry).await;
                retry = (retry * 2).min(RETRY_MOST);
                continue;
            }
        }
        loop {
            let notified = changed.notified();
            let check = world.sleep(CHECK_EVERY);
            futures::pin_mut!(notified);
            match futures::future::select(notified, check).await {
                Either::Left(_) => break,
                Either::Right(_) if applied.is_lost().await => break,
                // Still as it should be: that counts as an update.
                Either::Right(_) => health.checked(world.now()),
            }
        }
    }
}

fn zone_of(node: &Node) -> Option<&str> {
    node.label("topology.kubernetes.io/zone")
}

/// Nodes that are about to go are not to be given new connections (kubernetes pkg/proxy/healthcheck).
fn node_eligible(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    !node.is_being_deleted() && !taints.into_iter().flatten().any(|taint| taint.key == "ToBeDeletedByClusterAutoscaler")
}

/// What the kernel has from us.
pub(crate) struct Applied {
    rules: Arc<dyn PacketRules>,
    /// Name of the table.
    name: &'static str,
    /// `None` while unknown: the whole table is replaced then.
    table: Option<Table>,
    identity: Option<u64>,
    /// Chains without rules that could not be deleted yet.
    stale_chains: Vec<String>,
    frontends: connections::Frontends,
}

impl Applied {
    /// Nothing yet, in the table `name`.
    pub(crate) fn new(rules: Arc<dyn PacketRules>, name: &'static str) -> Self {
        let frontends = connections::Frontends::default();
        Self { rules, name, table: None, identity: None, stale_chains: Vec::new(), frontends }
    }

    /// Makes the kernel's table what is wanted, and forgets connections that lead nowhere.
    pub(crate) async fn apply(&mut self, wanted: Plan) -> std::io::Result<()> {
        let difference = self.table.as_ref().and_then(|table| table.difference(&wanted.table));
        let known = self.table.take();
        let changed = match difference {
            Some(difference) => match self.rules.change_table(self.name, difference.changes).await {
                Ok(()) => {
                    self.stale_chains.extend(difference.stale_chains);
                    true
                }
                Err(error) => {
                    tracing::warn!(%error, "the packet rules are not as we left them; replacing them");
                    false
                }
            },
            None => false,
        };
        if !changed {
            self.rules.replace_table(self.name, wanted.table.clone()).await?;
            self.stale_chains.clear();
            self.identity = self.rules.table_identity(self.name).await?;
        }
        drop(known);
        self.stale_chains.retain(|chain| !wanted.table.chains.contains_key(chain));
        self.table = Some(wanted.table);
        self.delete_stale_chains().await;
        if self.frontends != wanted.frontends {
            self.forget_stale_connections(&wanted.frontends).await;
            self.frontends = wanted.frontends;
        }
        Ok(())
    }

    /// Leftovers do no harm; those that the kernel does not let go yet are tried again next time.
    async fn delete_stale_chains(&mut self) {
        if self.stale_chains.is_empty() {
            return;
        }
        let changes = self.stale_chains.iter().map(|name| Change::DeleteChain { name: name.clone() }).collect();
        match self.rules.change_table(self.name, changes).await {
            Ok(()) => self.stale_chains.clear(),
            Err(error) => tracing::debug!(%error, "stale chains stay for now"),
        }
    }

    async fn forget_stale_connections(&self, frontends: &connections::Frontends) {
        let forgotten = match self.rules.connections(Protocol::Udp).await {
            Ok(known) => self.rules.forget_connections(connections::stale(&known, frontends)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = forgotten {
            tracing::warn!(%error, "stale UDP connections could not be forgotten");
        }
    }

    /// Whether somebody deleted our table; then everything is made anew.
    pub(crate) async fn is_lost(&mut self) -> bool {
        let lost = match self.rules.table_identity(self.name).await {
            Ok(identity) => identity != self.identity,
            Err(error) => {
                tracing::warn!(%error, "the packet rules could not be looked at");
                false
            }
        };
        if lost {
            tracing::warn!("our packet rules are gone; making them anew");
            self.table = None;
        }
        lost
    }
}

#[cfg(test)]
mod tests;
