//! Carries out what the cycle decides: informers in, bindings and events out.

mod preempt;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_api::apps::v1::ReplicaSet;
use daruma_api::core::v1::{Binding, Namespace, Node, ObjectReference, Pod, Service};
use daruma_api::meta::ObjectExt;
use daruma_api::policy::v1::PodDisruptionBudget;
use daruma_api::selector::Selector;
use daruma_client::events::{EventRecorder, EventType, object_reference};
use daruma_client::informer::{Delta, Informer};
use daruma_client::{Client, ClientError, ListOptions, Patch};
use daruma_world::World;
use serde_json::json;
use tokio::sync::{Notify, Semaphore};

use crate::cache::Cache;
use crate::cycle::{FitError, is_waiting, schedule};
use crate::node_info::PodInfo;
use crate::nominated::Nominated;
use crate::plugins::{Cluster, Namespaces};
use crate::preemption::{Budget, Outcome, is_ending_preempted};
use crate::queue::Queue;

/// Bindings on their way at once.
const MOST_BINDINGS: usize = 256;

/// Settings of a scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Pods that name this scheduler are its own.
    pub name: String,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self { name: "default-scheduler".into() }
    }
}

/// What the scheduler has done since its start.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Pods bound.
    pub scheduled: AtomicU64,
    /// Attempts that found no node.
    pub unschedulable: AtomicU64,
    /// Bindings that the API server refused.
    pub errors: AtomicU64,
    /// Pods in the active, back-off and unschedulable queues.
    pub pending: Mutex<(usize, usize, usize)>,
}

impl Metrics {
    /// In the text format of Prometheus, under the names of the real scheduler.
    pub fn text(&self) -> String {
        let (active, backoff, unschedulable) = *self.pending.lock().expect("no panic while held");
        let attempts = [
            ("scheduled", self.scheduled.load(Ordering::Relaxed)),
            ("unschedulable", self.unschedulable.load(Ordering::Relaxed)),
            ("error", self.errors.load(Ordering::Relaxed)),
        ];
        let mut text = String::from("# TYPE scheduler_schedule_attempts_total counter\n");
        for (result, count) in attempts {
            text += &format!("scheduler_schedule_attempts_total{{profile=\"default-scheduler\",result=\"{result}\"}} {count}\n");
        }
        text += "# TYPE scheduler_pending_pods gauge\n";
        for (queue, count) in [("active", active), ("backoff", backoff), ("unschedulable", unschedulable)] {
            text += &format!("scheduler_pending_pods{{queue=\"{queue}\"}} {count}\n");
        }
        text
    }
}

#[derive(Default)]
struct State {
    cache: Cache,
    queue: Queue,
    /// Pods in the queue, by key.
    waiting: BTreeMap<String, Arc<Pod>>,
    nominated: Nominated,
    namespaces: Namespaces,
    /// Keys of pods for which others are being sent away; they are not tried meanwhile.
    preempting: BTreeSet<String>,
}

struct Scheduler {
    world: World,
    client: Client,
    recorder: EventRecorder,
    config: SchedulerConfig,
    state: Mutex<State>,
    changed: Notify,
    services: Informer<Service>,
    replica_sets: Informer<ReplicaSet>,
    budgets: Informer<PodDisruptionBudget>,
    bindings: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// Schedules pods until dropped.
pub async fn run(client: Client, config: SchedulerConfig, metrics: Arc<Metrics>) {
    let unfinished =
        ListOptions { field_selector: "status.phase!=Succeeded,status.phase!=Failed".into(), ..ListOptions::default() };
    let pods = Informer::<Pod>::new(client.all(), unfinished);
    let nodes = Informer::<Node>::new(client.all(), ListOptions::default());
    let client_of_namespaces = client.all();
    let scheduler = Arc::new(Scheduler {
        world: client.world().clone(),
        recorder: EventRecorder::new(&client, &config.name, None),
        services: Informer::new(client.all(), ListOptions::default()),
        replica_sets: Informer::new(client.all(), ListOptions::default()),
        budgets: Informer::new(client.all(), ListOptions::default()),
        state: Mutex::default(),
        changed: Notify::new(),
        bindings: Arc::new(Semaphore::new(MOST_BINDINGS)),
        client,
        config,
        metrics,
    });
    let on_node = scheduler.clone();
    nodes.on_delta(move |delta| on_node.node_changed(delta));
    let on_pod = scheduler.clone();
    pods.on_delta(move |delta| on_pod.pod_changed(delta));
    let namespaces = Informer::<Namespace>::new(client_of_namespaces, ListOptions::default());
    let on_namespace = scheduler.clone();
    namespaces.on_delta(move |delta| on_namespace.namespace_changed(delta));
    namespaces.start();
    nodes.start();
    scheduler.services.start();
    scheduler.world.spawn("budgets", preempt::follow_budgets(scheduler.clone()));
    scheduler.replica_sets.start();
    nodes.wait_synced().await;
    namespaces.wait_synced().await;
    scheduler.services.wait_synced().await;
    scheduler.replica_sets.wait_synced().await;
    pods.start();
    pods.wait_synced().await;
    scheduler.schedule_all().await;
}

/// What of a node makes a pod schedulable that was not.
fn relevant(node: &Node) -> impl PartialEq + '_ {
    let spec = node.spec.as_ref().map(|spec| (&spec.taints, spec.unschedulable));
    (&node.metadata.labels, spec, node.status.as_ref().map(|status| &status.allocatable))
}

impl Scheduler {
    fn node_changed(&self, delta: &Delta<Node>) {
        let mut state = self.state.lock().expect("no panic while held");
        let news = match delta {
            Delta::Added(node) => {
                state.cache.set_node(node.clone());
                true
            }
            Delta::Updated(old, node) => {
                state.cache.set_node(node.clone());
                relevant(old) != relevant(node)
            }
            Delta::Deleted(node) => {
                state.cache.remove_node(node.name());
                false
            }
        };
        if news {
            state.queue.cluster_changed(self.world.monotonic());
            self.changed.notify_one();
        }
    }

    fn namespace_changed(&self, delta: &Delta<Namespace>) {
        let mut state = self.state.lock().expect("no panic while held");
        let namespace = delta.object();
        let labels = namespace.metadata.labels.clone().unwrap_or_default();
        let before = match delta {
            Delta::Deleted(_) => state.namespaces.remove(namespace.name()),
            _ => state.namespaces.insert(namespace.name().to_owned(), labels.clone()),
        };
        // Affinity may look at them.
        if matches!(delta, Delta::Updated(..)) && before.as_ref() != Some(&labels) {
            state.queue.cluster_changed(self.world.monotonic());
            self.changed.notify_one();
        }
    }

    fn pod_changed(&self, delta: &Delta<Pod>) {
        let now = self.world.monotonic();
        let mut state = self.state.lock().expect("no panic while held");
        let pod = delta.object();
        let key = pod.key();
        if let Delta::Deleted(_) = delta {
            state.waiting.remove(&key);
            state.queue.remove(&key);
            state.nominated.remove(&key);
            state.cache.remove_pod(&key);
            state.queue.cluster_changed(now);
        } else if is_waiting(pod, &self.config.name) {
            // The condition that this scheduler writes itself is no reason to try again.
            let changed = match delta {
                Delta::Updated(old, new) => old.spec != new.spec || old.metadata.labels != new.metadata.labels,
                _ => true,
            };
            state.waiting.insert(key.clone(), pod.clone());
            state.follow_nomination(delta);
            if changed && !gated(pod) {
                let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
                state.queue.add(&key, priority, now);
            }
        } else {
            state.waiting.remove(&key);
            state.queue.remove(&key);
            state.nominated.remove(&key);
            match pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).filter(|node| !node.is_empty()) {
                Some(node) => {
                    let known = state.cache.place_of(&key).is_some();
                    state.cache.place(pod.clone(), node);
                    // One that was sent away for another makes room when it is gone, not before.
                    let was_ending = matches!(delta, Delta::Updated(old, _) if old.is_being_deleted());
                    let ends = pod.is_being_deleted() && !was_ending && !is_ending_preempted(pod);
                    if !known || ends {
                        state.queue.cluster_changed(now);
                    }
                }
                None => state.cache.remove_pod(&key),
            }
        }
        self.changed.notify_one();
    }

    async fn schedule_all(self: &Arc<Self>) {
        let mut start = 0;
        loop {
            let changed = self.changed.notified();
            let next = {
                let mut state = self.state.lock().expect("no panic while held");
                let now = self.world.monotonic();
                let next = state.pop(now);
                *self.metrics.pending.lock().expect("no panic while held") = state.queue.lengths();
                next.ok_or_else(|| state.queue.next_wake().map(|wake| wake.saturating_sub(now)))
            };
            match next {
                Ok((Some(pod), key)) => self.schedule_one(pod, &key, &mut start).await,
                Ok((None, key)) => self.state.lock().expect("no panic while held").queue.remove(&key),
                Err(None) => changed.await,
                Err(Some(wait)) => {
                    // Either more work, or the time of a back-off.
                    let _ = self.world.timeout(wait.max(Duration::from_millis(1)), changed).await;
                }
            }
        }
    }

    async fn schedule_one(self: &Arc<Self>, pod: Arc<Pod>, key: &str, start: &mut usize) {
        let Ok(permit) = self.bindings.clone().acquire_owned().await else { return };
        let default_selector = self.default_selector(&pod);
        let random = self.world.random.clone();
        let result = {
            let mut state = self.state.lock().expect("no panic while held");
            let info = PodInfo::new(pod.clone());
            // Asked for only where something has a priority to be sent away for.
            let budgets = if state.cache.lowest_priority().is_some_and(|lowest| lowest < info.priority()) {
                self.budgets.list().iter().map(|budget| Budget::of(budget)).collect()
            } else {
                Vec::new()
            };
            let cluster = Cluster {
                cache: &state.cache,
                default_selector: default_selector.as_ref(),
                namespaces: &state.namespaces,
                nominated: &state.nominated,
                budgets: &budgets,
                changed: None,
            };
            let result = schedule(&info, &cluster, *start, &mut |bound| random.below(bound as u64) as usize);
            match &result {
                Ok(decision) => {
                    let nodes = state.cache.nodes().count();
                    *start = (*start + decision.evaluated) % nodes.max(1);
                    state.nominated.remove(key);
                    state.cache.place(pod.clone(), &decision.node);
                }
                Err(error) => {
                    state.note_outcome(key, Arc::new(info), &error.preemption);
                    state.queue.unschedulable(key, self.world.monotonic());
                }
            }
            result
        };
        let scheduler = self.clone();
        let key = key.to_owned();
        self.world.spawn("bind", async move {
            match result {
                Ok(decision) => scheduler.bind(&pod, &key, &decision.node).await,
                Err(error) => {
                    scheduler.report_unschedulable(&pod, &error).await;
                    if let Outcome::Room(candidate) = &error.preemption {
                        scheduler.make_room(&pod, candidate).await;
                    }
                }
            }
            drop(permit);
        });
    }

    async fn bind(&self, pod: &Pod, key: &str, node: &str) {
        let binding = Binding {
            metadata: daruma_api::metav1::ObjectMeta {
                name: Some(pod.name().into()),
                namespace: Some(pod.namespace().into()),
                uid: Some(pod.uid().into()),
                ..Default::default()
            },
            target: ObjectReference { kind: Some("Node".into()), name: Some(node.into()), ..Default::default() },
        };
        let pods = self.client.namespaced::<Pod>(pod.namespace());
        let answer: Result<serde_json::Value, ClientError> = pods.create_subresource(pod.name(), "binding", &binding).await;
        match answer {
            Ok(_) => {
                self.metrics.scheduled.fetch_add(1, Ordering::Relaxed);
                let message = format!("Successfully assigned {key} to {node}");
                self.recorder.event(&object_reference(pod), EventType::Normal, "Scheduled", message);
            }
            Err(error) => {
                self.metrics.errors.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(pod = key, node, %error, "binding failed");
                let mut state = self.state.lock().expect("no panic while held");
                // A pod that the informer has seen bound meanwhile is no longer waiting.
                if state.waiting.contains_key(key) {
                    state.cache.remove_pod(key);
                    state.queue.retry(key, self.world.monotonic());
                    self.changed.notify_one();
                }
            }
        }
    }

    async fn report_unschedulable(&self, pod: &Pod, error: &FitError) {
        self.metrics.unschedulable.fetch_add(1, Ordering::Relaxed);
        let message = error.to_string();
        self.recorder.event(&object_reference(pod), EventType::Warning, "FailedScheduling", message.clone());
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        let before = conditions.into_iter().flatten().find(|condition| condition.type_ == "PodScheduled");
        let told = pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref()).unwrap_or_default();
        let promised = match &error.preemption {
            Outcome::Room(candidate) => candidate.node.as_str(),
            Outcome::NotEligible(_) => told,
            Outcome::Nothing(_) => "",
        };
        if told == promised && before.is_some_and(|one| one.status == "False" && one.message.as_deref() == Some(&message)) {
            return;
        }
        let since = match before.filter(|condition| condition.status == "False") {
            Some(condition) => condition.last_transition_time.clone().map(|time| time.0),
            None => None,
        };
        let now = jiff::Timestamp::from_second(since.unwrap_or_else(|| self.world.now()).as_second()).unwrap_or_default();
        let condition = json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastProbeTime": null,
            "lastTransitionTime": now.to_string(),
            "observedGeneration": pod.metadata.generation,
        });
        let mut status = json!({"conditions": [condition]});
        if told != promised {
            status["nominatedNodeName"] = if promised.is_empty() { serde_json::Value::Null } else { promised.into() };
        }
        let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": status}));
        let pods = self.client.namespaced::<Pod>(pod.namespace());
        if let Err(error) = pods.patch_status(pod.name(), &patch).await
            && !error.is_not_found()
        {
            tracing::warn!(pod = pod.key(), %error, "cannot say that the pod is unschedulable");
        }
    }

    /// What services and the owner of the pod select, together
    /// (pkg/scheduler/framework/plugins/helper/spread.go).
    fn default_selector(&self, pod: &Pod) -> Option<Selector> {
        let labels = pod.metadata.labels.as_ref()?;
        let mut merged = Selector::everything();
        for service in self.services.list_namespace(pod.namespace()) {
            let Some(selector) = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else { continue };
            let selector = Selector::from_map(selector);
            if !selector.is_everything() && selector.matches(Some(labels)) {
                merged.requirements.extend(selector.requirements);
            }
        }
        if let Some(owner) = pod.controller().filter(|owner| owner.kind == "ReplicaSet")
            && let Some(set) = self.replica_sets.get(pod.namespace(), &owner.name)
            && let Some(spec) = &set.spec
            && let Ok(selector) = Selector::from_label_selector(Some(&spec.selector))
        {
            merged.requirements.extend(selector.requirements);
        }
        (!merged.is_everything()).then_some(merged)
    }
}

/// Whether the pod asks to be left alone until somebody removes its gates.
fn gated(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty())
}
