//! Watches over nodes: health, taints, the readiness of their pods.
//!
//! Source: kubernetes pkg/controller/nodelifecycle/node_lifecycle_controller.go.

pub mod health;
pub mod plan;
pub mod taint_queue;
pub mod zones;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_api::core::v1::{Node, Pod};
use daruma_api::k8s_openapi::Metadata;
use daruma_api::meta::{ObjectExt, split_key};
use daruma_api::taints::{NO_EXECUTE, NOT_READY, UNREACHABLE};
use daruma_client::events::EventType;
use daruma_client::informer::Delta;
use daruma_client::{Api, Patch};
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Notify;

use self::health::{Grace, Look, NodeHealth};
use self::taint_queue::TaintQueue;
use self::zones::{Change, Rates, Zones, zone_key};
use crate::events::node_reference;
use crate::node_taints::{self, taint};
use crate::pods;
use crate::shared::{BY_NODE, NODE_LEASES};
use crate::shell::{Context, SyncError, Synced};

/// How often nodes that wait for a NoExecute taint are looked at.
const TAINTING_PERIOD: Duration = Duration::from_millis(100);
/// Attempts to write a node's health, and the pause between them.
const HEALTH_TRIES: u32 = 5;
const HEALTH_PAUSE: Duration = Duration::from_millis(20);
/// Workers for pods that were bound meanwhile.
const POD_WORKERS: usize = 4;
/// Nodes looked at in parallel.
const NODES_AT_ONCE: usize = 8;
/// A node with this label does not count in its zone.
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

/// Registers the controller.
pub(crate) fn start(context: Context) {
    let node_queue = context.queue("node_lifecycle_controller");
    let pod_queue = context.queue("node_lifecycle_controller_pods");
    let shared = context.shared.clone();
    let monitor = Arc::new(Monitor::new(context.clone()));
    {
        let (queue, monitor) = (node_queue.clone(), monitor.clone());
        shared.nodes.on_delta(move |delta| match delta {
            Delta::Added(node) | Delta::Updated(_, node) => queue.add(node.name()),
            Delta::Deleted(node) => {
                monitor.state.lock().expect("no panic while held").retry.remove(node.name());
            }
        });
    }
    {
        let queue = pod_queue.clone();
        shared.pods.on_delta(move |delta| {
            let newly_bound = match delta {
                Delta::Added(pod) => !pods::node_name(pod).is_empty(),
                Delta::Updated(old, pod) => pods::node_name(old) != pods::node_name(pod),
                Delta::Deleted(_) => false,
            };
            if newly_bound {
                queue.add(&delta.object().key());
            }
        });
    }
    let ready = || {
        let shared = shared.clone();
        async move {
            shared.leases.wait_synced().await;
            shared.nodes.wait_synced().await;
            shared.pods.wait_synced().await;
        }
    };
    {
        let monitor = monitor.clone();
        context.work(&node_queue, context.workers, ready(), move |name| {
            let monitor = monitor.clone();
            async move { monitor.sync_node(&name).await }.boxed()
        });
    }
    {
        let monitor = monitor.clone();
        context.work(&pod_queue, POD_WORKERS, ready(), move |key| {
            let monitor = monitor.clone();
            async move { monitor.sync_pod(&key).await }.boxed()
        });
    }
    {
        let (monitor, ready) = (monitor.clone(), ready());
        context.spawn(async move {
            ready.await;
            monitor.taint_for_ever().await;
        });
    }
    context.every(context.config.node_monitor_period, ready(), move || {
        let monitor = monitor.clone();
        async move { monitor.look_at_all().await }.boxed()
    });
}

/// The node's zone and readiness, where it counts in its zone.
fn counted(node: &Node, ready: bool) -> Option<(String, bool)> {
    node.label(EXCLUDED).is_none().then(|| (zone_key(node), ready))
}

struct Monitor {
    context: Context,
    nodes: Api<Node>,
    state: Mutex<State>,
    /// Rings when a node was added to a taint queue.
    waiting: Notify,
    /// Wall clock and monotonic clock when this began: together they make a wall clock that no step disturbs.
    started: (Timestamp, Duration),
}

#[derive(Default)]
struct State {
    /// Every node seen, by name, as it was seen last.
    known: BTreeMap<String, Arc<Node>>,
    health: BTreeMap<String, NodeHealth>,
    zones: Zones,
    queues: BTreeMap<String, TaintQueue>,
    /// Nodes whose pods could not all be marked.
    retry: BTreeSet<String>,
}

impl Monitor {
    fn new(context: Context) -> Self {
        let started = (context.world.now(), context.world.monotonic());
        Self { nodes: context.client.all(), context, state: Mutex::default(), waiting: Notify::new(), started }
    }

    fn steady_now(&self) -> Timestamp {
        self.started.0 + self.context.world.monotonic().saturating_sub(self.started.1)
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().expect("no panic while held"))
    }

    fn node_event(&self, name: &str, uid: &str, reason: &str, message: String) {
        self.context.recorder.event(&node_reference(name, uid), EventType::Normal, reason, message);
    }

    /// One round of the health monitor.
    async fn look_at_all(&self) {
        let nodes = self.context.shared.nodes.list();
        self.meet_new_and_gone(&nodes).await;
        let mut readiness: Vec<Option<(String, bool)>> = Vec::with_capacity(nodes.len());
        let mut others = Vec::new();
        for node in &nodes {
            if self.is_calm(node) { readiness.push(counted(node, true)) } else { others.push(node.clone()) }
        }
        let looks = futures::stream::iter(others).map(|node| self.look_at(node)).buffered(NODES_AT_ONCE);
        readiness.extend(looks.collect::<Vec<_>>().await);
        let mut seen: BTreeMap<String, Vec<bool>> = BTreeMap::new();
        for (zone, ready) in readiness.into_iter().flatten() {
            seen.entry(zone).or_default().push(ready);
        }
        let config = &self.context.config;
        let rates = Rates {
            normal: config.node_eviction_rate,
            secondary: config.secondary_node_eviction_rate,
            large: config.large_cluster_size_threshold,
            threshold: config.unhealthy_zone_threshold,
        };
        let now = self.steady_now();
        let change = self.with(|state| state.zones.update(&seen, rates));
        match change {
            Change::Rates(rates) => self.set_rates(&rates, now),
            Change::AllLost => {
                tracing::info!("no node is ready; evictions stop");
                for node in &nodes {
                    self.mark_reachable(node).await;
                }
                self.with(|state| state.queues.values_mut().for_each(|queue| queue.set_rate(0.0, now)));
            }
            Change::Back(rates) => {
                tracing::info!("nodes are ready again; evictions may go on");
                self.with(|state| {
                    for node in &nodes {
                        if let Some(health) = state.health.get_mut(node.name()) {
                            health.probed = now;
                        }
                    }
                });
                self.set_rates(&rates, now);
            }
        }
    }

    fn set_rates(&self, rates: &BTreeMap<String, f64>, now: Timestamp) {
        self.with(|state| {
            for (zone, rate) in rates {
                if let Some(queue) = state.queues.get_mut(zone) {
                    queue.set_rate(*rate, now);
                }
            }
        });
    }

    async fn meet_new_and_gone(&self, nodes: &[Arc<Node>]) {
        let names: BTreeSet<&str> = nodes.iter().map(|node| node.name()).collect();
        for node in nodes {
            let name = node.name();
            let new = self.with(|state| {
                if state.known.get(name).is_some_and(|known| Arc::ptr_eq(known, node)) {
                    return false;
                }
                let zone = zone_key(node);
                if !state.zones.knows(&zone) {
                    state.zones.add(&zone);
                    let rate = self.context.config.node_eviction_rate;
                    state.queues.entry(zone).or_insert_with(|| TaintQueue::new(rate, self.steady_now()));
                }
                state.known.insert(name.to_owned(), node.clone()).is_none()
            });
            if new {
                let message = format!("Node {name} event: Registered Node {name} in Controller");
                self.node_event(name, node.uid(), "RegisteredNode", message);
                self.mark_reachable(node).await;
            }
        }
        let gone = self.with(|state| {
            let gone: Vec<(String, String)> = state
                .known
                .iter()
                .filter(|(name, _)| !names.contains(name.as_str()))
                .map(|(name, node)| (name.clone(), node.uid().to_owned()))
                .collect();
            state.known.retain(|name, _| names.contains(name.as_str()));
            state.health.retain(|name, _| names.contains(name.as_str()));
            gone
        });
        for (name, uid) in gone {
            let message = format!("Node {name} event: Removing Node {name} from Controller");
            self.node_event(&name, &uid, "RemovingNode", message);
        }
    }

    /// Looks at one node; gives its zone and readiness where it counts in its zone.
    async fn look_at(&self, node: Arc<Node>) -> Option<(String, bool)> {
        let (node, look) = self.update_health(node).await?;
        let name = node.name();
        let ready = look.ready.as_ref().is_some_and(|ready| ready.status == "True");
        if let Some(current) = &look.ready {
            self.taint(&node, &current.status).await;
            let retry = self.with(|state| state.retry.contains(name));
            let just_lost = !ready && look.before == "True";
            if just_lost {
                let message = format!("Node {name} status is now: NodeNotReady");
                self.node_event(name, node.uid(), "NodeNotReady", message);
            }
            let must_mark = just_lost || (retry && look.before != "True");
            if must_mark && self.mark_not_ready(&self.context.shared.pods.by_index(BY_NODE, name)).await.is_err() {
                self.with(|state| state.retry.insert(name.to_owned()));
            } else if retry {
                self.with(|state| state.retry.remove(name));
            }
        }
        counted(&node, ready)
    }

    /// Looks at a node that needs nothing: Ready as before, not tainted, renewed in time. All that changes is when it was heard
    /// of last. `false` where more is to be done, and nothing was.
    fn is_calm(&self, node: &Node) -> bool {
        let tainted = node.spec.as_ref().is_some_and(|spec| spec.taints.as_ref().is_some_and(|taints| !taints.is_empty()));
        if tainted {
            return false;
        }
        let lease = self.context.shared.leases.get(NODE_LEASES, node.name());
        let now = self.steady_now();
        let limit = self.context.config.node_monitor_grace_period;
        self.with(|state| {
            let retried = state.retry.contains(node.name());
            state
                .health
                .get_mut(node.name())
                .is_some_and(|saved| !retried && saved.stays_calm(node, lease.as_deref(), limit, now))
        })
    }

    /// Brings the node's conditions up to date. `None` when that failed.
    async fn update_health(&self, mut node: Arc<Node>) -> Option<(Arc<Node>, Look)> {
        let grace = Grace {
            monitor: self.context.config.node_monitor_grace_period,
            startup: self.context.config.node_startup_grace_period,
        };
        for _ in 0..HEALTH_TRIES {
            let lease = self.context.shared.leases.get(NODE_LEASES, node.name());
            let saved = self.with(|state| state.health.get(node.name()).cloned());
            let mut look =
                health::look(saved.as_ref(), &node, lease.as_deref(), grace, self.steady_now(), self.context.world.now());
            self.with(|state| state.health.insert(node.name().to_owned(), look.health.clone()));
            let Some(conditions) = look.write.take() else { return Some((node, look)) };
            let mut written = node.as_ref().clone();
            written.status.get_or_insert_default().conditions = Some(conditions);
            match self.nodes.update_status(&written).await {
                Ok(_) => {
                    look.health.ready.clone_from(&look.ready);
                    self.with(|state| state.health.insert(node.name().to_owned(), look.health.clone()));
                    return Some((Arc::new(written), look));
                }
                Err(error) => tracing::debug!(node = node.name(), %error, "cannot write node health"),
            }
            match self.nodes.get(node.name()).await {
                Ok(fresh) => node = Arc::new(fresh),
                Err(error) => {
                    tracing::debug!(node = node.name(), %error, "cannot read the node again");
                    return None;
                }
            }
            self.context.world.sleep(HEALTH_PAUSE).await;
        }
        None
    }

    /// Queues the node for its NoExecute taint, swaps the wrong one at once, or takes taints away.
    async fn taint(&self, node: &Node, ready_status: &str) {
        let Some((wanted, opposite)) = plan::no_execute(ready_status) else {
            if ready_status == "True" {
                self.mark_reachable(node).await;
            }
            return;
        };
        if node_taints::has(node, &opposite) {
            if let Err(error) = node_taints::swap(&self.nodes, node, &[wanted], &[opposite]).await {
                tracing::debug!(node = node.name(), %error, "cannot swap taints, trying again in the next round");
            }
            return;
        }
        let now = self.steady_now();
        let added = self.with(|state| {
            let Some(queue) = state.queues.get_mut(&zone_key(node)) else { return false };
            if !node_taints::has(node, &wanted) {
                queue.remove(node.name());
            }
            queue.add(node.name(), now)
        });
        if added {
            self.waiting.notify_one();
        }
    }

    async fn mark_reachable(&self, node: &Node) {
        for key in [UNREACHABLE, NOT_READY] {
            if let Err(error) = node_taints::remove_from(&self.nodes, node, &[taint(key, NO_EXECUTE)]).await {
                tracing::debug!(node = node.name(), %error, "cannot remove a taint, trying again in the next round");
                return;
            }
        }
        self.with(|state| {
            if let Some(queue) = state.queues.get_mut(&zone_key(node)) {
                queue.remove(node.name());
            }
        });
    }

    /// Taints waiting nodes at their zones' rates, for ever.
    async fn taint_for_ever(&self) {
        loop {
            let rung = self.waiting.notified();
            let zones: Vec<String> = self.with(|state| {
                let busy = state.queues.iter().filter(|(_, queue)| !queue.is_empty());
                busy.map(|(zone, _)| zone.clone()).collect()
            });
            if zones.is_empty() {
                rung.await;
            }
            for zone in zones {
                self.taint_zone(&zone).await;
            }
            // Also before the first: the NoSchedule taint, which nothing holds up, comes first.
            self.context.world.sleep(TAINTING_PERIOD).await;
        }
    }

    async fn taint_zone(&self, zone: &str) {
        loop {
            let now = self.steady_now();
            let Some(name) = self.with(|state| state.queues.get_mut(zone)?.next(now)) else { return };
            let retry_after = self.taint_waiting(&name).await;
            let now = self.steady_now();
            self.with(|state| {
                let Some(queue) = state.queues.get_mut(zone) else { return };
                match retry_after {
                    None => queue.handled(&name),
                    Some(wait) => queue.failed(&name, wait, now),
                }
            });
        }
    }

    async fn taint_waiting(&self, name: &str) -> Option<Duration> {
        let node = self.context.shared.nodes.get("", name)?;
        let Some(ready) = health::condition(&node, "Ready") else { return Some(Duration::from_millis(50)) };
        // Ready again meanwhile: nothing to do.
        let (wanted, opposite) = plan::no_execute(&ready.status)?;
        match node_taints::swap(&self.nodes, &node, &[wanted], &[opposite]).await {
            Ok(()) => None,
            Err(error) => {
                tracing::debug!(node = name, %error, "cannot taint");
                Some(Duration::ZERO)
            }
        }
    }

    /// Sets the pods' Ready condition False. Nothing else of their status is touched.
    async fn mark_not_ready(&self, pods: &[Arc<Pod>]) -> Result<(), SyncError> {
        let mut failure = None;
        for pod in pods {
            let Some(ready) = pods::condition(pod.status.as_ref(), "Ready") else { continue };
            let mut condition = ready.clone();
            "False".clone_into(&mut condition.status);
            let mut changed = pod.as_ref().clone();
            if !pods::set_condition(changed.status.get_or_insert_default(), condition, self.context.world.now()) {
                continue;
            }
            match self.context.client.namespaced::<Pod>(pod.namespace()).update_status(&changed).await {
                Err(error) if error.is_not_found() => continue,
                Err(error) => failure = Some(error.into()),
                Ok(_) => {}
            }
            self.context.recorder.warning(pod.as_ref(), "NodeNotReady", "Node is not ready");
        }
        failure.map_or(Ok(()), Err)
    }

    /// A pod that was bound to a node which is not ready is not ready either.
    async fn sync_pod(&self, key: &str) -> Synced {
        let (namespace, name) = split_key(key);
        let Some(pod) = self.context.shared.pods.get(namespace, name) else { return Ok(None) };
        let node = pods::node_name(&pod);
        let Some(health) = self.with(|state| state.health.get(node).cloned()) else { return Ok(None) };
        if self.context.shared.nodes.get("", node).is_none() {
            return Ok(None);
        }
        if health.ready.is_some_and(|ready| ready.status != "True") {
            self.mark_not_ready(&[pod]).await?;
        }
        Ok(None)
    }

    /// NoSchedule taints and old labels follow the node's conditions and labels.
    async fn sync_node(&self, name: &str) -> Synced {
        let Some(node) = self.context.shared.nodes.get("", name) else { return Ok(None) };
        let (add, remove) = plan::no_schedule(&node);
        node_taints::swap(&self.nodes, &node, &add, &remove).await?;
        let labels = plan::labels(&node);
        if node.metadata().labels.is_some() && !labels.is_empty() {
            self.nodes.patch(name, &Patch::Strategic(json!({ "metadata": { "labels": labels } }))).await?;
        }
        Ok(None)
    }
}
