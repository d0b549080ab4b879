//! The pod network agent of a node: routes to the other nodes' pods, masquerading, and the file by
//! which sandboxes are attached (and without which the node is not ready).

pub mod host_ports;
pub mod plan;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::{Node, Pod};
use daruma_client::informer::{Delta, Informer};
use daruma_client::{Client, ListOptions, Patch};
use daruma_world::World;
use daruma_world::disk::WriteOptions;
use daruma_world::links::{Change, Links, Prefix};
use daruma_world::packet_rules::{PacketRules, Table};
use futures::future::Either;
use serde_json::json;
use tokio::sync::Notify;

use crate::sandbox::NetworkFile;
use plan::{Seen, masquerading, plan};

/// Name of our table of packet rules.
pub const TABLE: &str = "daruma-pod-network";
/// How often all is looked at again without a change of nodes.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// Longest pause while the node's pods are not known.
const UNTIL_PODS: Duration = Duration::from_secs(1);
/// Pause while something is missing or after a failure.
const RETRY: Duration = Duration::from_millis(100);

/// Settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// This node.
    pub node_name: String,
    /// Addresses of all pods.
    pub pod_range: Prefix,
    /// Addresses of all services.
    pub service_range: Prefix,
    /// The file that sandboxes are attached by, usually `/etc/cni/net.d/10-daruma.conf`.
    pub file: PathBuf,
    /// Report the node condition `NetworkUnavailable` False.
    pub set_node_condition: bool,
}

/// Runs the agent for as long as the world's scope lives.
pub async fn run(world: World, client: Client, links: Arc<dyn Links>, rules: Arc<dyn PacketRules>, config: Config) {
    let changed = Arc::new(Notify::new());
    let nodes: Informer<Node> = Informer::new(client.cluster(), ListOptions::default());
    let notify = changed.clone();
    nodes.on_delta(move |delta| {
        // Heartbeats change nothing here.
        let seen = |node: &Node| (plan::pod_range_of(node), plan::internal_address(node));
        if !matches!(delta, Delta::Updated(old, new) if seen(old) == seen(new)) {
            notify.notify_one();
        }
    });
    let mine = ListOptions { field_selector: format!("spec.nodeName={}", config.node_name), ..ListOptions::default() };
    let pods: Informer<Pod> = Informer::new(client.all(), mine);
    let notify = changed.clone();
    pods.on_delta(move |delta| {
        if host_ports::has_host_ports(delta.object()) {
            notify.notify_one();
        }
    });
    pods.start();
    nodes.start();
    nodes.wait_synced().await;
    let mut agent = Agent {
        world: world.clone(),
        client,
        links,
        rules,
        config,
        table: None,
        host_ports: None,
        file: None,
        condition_set: false,
    };
    let mut last_problem = String::new();
    loop {
        let notified = changed.notified();
        let wait = match agent.step(&nodes.list()).await {
            Ok(()) => {
                last_problem.clear();
                CHECK_EVERY
            }
            Err(problem) => {
                let problem = problem.to_string();
                if problem != last_problem {
                    tracing::info!(%problem, "the pod network is not complete");
                    last_problem = problem;
                }
                RETRY
            }
        };
        if pods.has_synced()
            && let Err(error) = agent.set_host_ports(&pods.list()).await
        {
            tracing::warn!(%error, "the rules of host ports could not be set");
        }
        let pause = world.sleep(if pods.has_synced() { wait } else { wait.min(UNTIL_PODS) });
        futures::pin_mut!(notified);
        if let Either::Right(_) = futures::future::select(notified, pause).await {
            agent.check_table().await;
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    NotYet(#[from] plan::NotYet),
    #[error(transparent)]
    System(#[from] std::io::Error),
    #[error("set the condition of the node: {0}")]
    Condition(#[from] daruma_client::ClientError),
}

struct Agent {
    world: World,
    client: Client,
    links: Arc<dyn Links>,
    rules: Arc<dyn PacketRules>,
    config: Config,
    /// Identity of our table; `None` while it is not there.
    table: Option<u64>,
    /// The rules of host ports as they were set last; the outer `None`: never yet.
    #[expect(clippy::option_option, reason = "no rules is a state that has to be set too")]
    host_ports: Option<Option<Table>>,
    /// What was written last.
    file: Option<NetworkFile>,
    condition_set: bool,
}

impl Agent {
    async fn step(&mut self, nodes: &[Arc<Node>]) -> Result<(), Problem> {
        let plan = plan(&Seen {
            nodes,
            node_name: &self.config.node_name,
            pod_range: self.config.pod_range,
            service_range: self.config.service_range,
            links: &self.links.list_links(None).await?,
            addresses: &self.links.list_addresses(None).await?,
            routes: &self.links.list_routes(None).await?,
        })?;
        // One route that fails must not keep the others away: they are tried one by one then.
        let mut failure = None;
        if let Err(error) = self.links.apply(None, plan.changes.clone()).await {
            failure = Some(error);
            for change in plan.changes {
                if let Err(error) = self.links.apply(None, vec![change.clone()]).await {
                    if !matches!(change, Change::ReplaceRoute(_) | Change::DeleteRoute(_)) {
                        return Err(error.into());
                    }
                    tracing::warn!(%error, "a route could not be set");
                }
            }
        }
        if self.table.is_none() {
            self.rules.replace_table(TABLE, masquerading(self.config.pod_range)).await?;
            self.table = self.rules.table_identity(TABLE).await?;
        }
        if self.file.as_ref() != Some(&plan.file) {
            self.write_file(&plan.file).await?;
            self.file = Some(plan.file);
        }
        if self.config.set_node_condition && !self.condition_set {
            self.set_condition().await?;
            self.condition_set = true;
        }
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn set_host_ports(&mut self, pods: &[Arc<Pod>]) -> std::io::Result<()> {
        let wanted = host_ports::table(pods);
        if self.host_ports.as_ref() == Some(&wanted) {
            return Ok(());
        }
        match wanted.clone() {
            Some(table) => self.rules.replace_table(host_ports::TABLE, table).await?,
            None => self.rules.delete_table(host_ports::TABLE).await?,
        }
        self.host_ports = Some(wanted);
        Ok(())
    }

    /// Notices that somebody deleted our table or file; the next step makes them again.
    async fn check_table(&mut self) {
        if matches!(self.rules.table_identity(TABLE).await, Ok(identity) if identity != self.table) {
            self.table = None;
        }
        if self.world.disk.metadata(&self.config.file).await.is_err() {
            self.file = None;
        }
    }

    async fn write_file(&self, file: &NetworkFile) -> std::io::Result<()> {
        if let Some(directory) = self.config.file.parent() {
            self.world.disk.create_dir_all(directory, 0o755).await?;
        }
        // A node whose network was ready is ready again as soon as it is on again.
        let durable = WriteOptions { durable: true, ..WriteOptions::default() };
        self.world.disk.write(&self.config.file, file.to_json(), durable).await?;
        tracing::info!(range = file.pod_range, mtu = file.mtu, "the pod network is ready");
        Ok(())
    }

    async fn set_condition(&self) -> Result<(), daruma_client::ClientError> {
        // Whole seconds, as the API prints times.
        let now = jiff::Timestamp::from_second(self.world.now().as_second()).unwrap_or_default().to_string();
        let condition = json!({
            "type": "NetworkUnavailable", "status": "False", "reason": "DarumaIsUp",
            "message": "Daruma is running on this node", "lastHeartbeatTime": now, "lastTransitionTime": now
        });
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        self.client.cluster::<Node>().patch_status(&self.config.node_name, &patch).await?;
        Ok(())
    }
}
