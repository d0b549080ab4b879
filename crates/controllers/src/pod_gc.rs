//! Deletes pods that nobody else will: too many ended ones, those of nodes that are gone or given up,
//! those that wait for a node while being deleted.
//!
//! Source: kubernetes pkg/controller/podgc/gc_controller.go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_api::core::v1::{Node, Pod};
use daruma_api::meta::ObjectExt;
use daruma_api::taints::OUT_OF_SERVICE;
use daruma_client::{ClientError, DeleteOptions, Patch};
use futures::FutureExt;
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::node_lifecycle::health::is_ready;
use crate::node_taints;
use crate::pods;
use crate::shared::{BY_NODE, PASSING};
use crate::shell::Context;

/// How often pods are looked at.
const PERIOD: Duration = Duration::from_secs(20);
/// How long a node must be gone before its pods are.
pub const QUARANTINE: Duration = Duration::from_secs(40);

/// The value of [`PASSING`] for pods that have ended, and for those that are being deleted.
const ENDED: &str = "ended";
const GOING: &str = "going";

/// Under what the index [`PASSING`] files a pod: most pods under nothing.
pub(crate) fn passing(pod: &Pod) -> Vec<String> {
    let mut values = Vec::new();
    if !matches!(pods::phase(pod), "Pending" | "Running" | "Unknown") {
        values.push(ENDED.to_owned());
    }
    if pod.is_being_deleted() {
        values.push(GOING.to_owned());
    }
    values
}

/// The pods that the collector may have something to do with.
#[derive(Debug, Default)]
pub struct Candidates {
    /// Those that have ended.
    pub ended: Vec<Arc<Pod>>,
    /// Those that are being deleted.
    pub going: Vec<Arc<Pod>>,
    /// Those of nodes that are known to be gone.
    pub orphans: Vec<Arc<Pod>>,
}

/// Why a pod is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There are too many ended pods.
    Terminated,
    /// It is being deleted, and its node was declared out of service.
    OutOfService,
    /// Its node is gone.
    Orphaned,
    /// It is being deleted and was never bound.
    Unscheduled,
}

/// Pods to delete, in order.
pub fn plan(pods: Candidates, nodes: &[Arc<Node>], threshold: i64) -> Vec<(Why, Arc<Pod>)> {
    let Candidates { mut ended, going, orphans } = pods;
    let mut plan = Vec::new();
    if threshold > 0 {
        let surplus = ended.len().saturating_sub(usize::try_from(threshold).unwrap_or(usize::MAX));
        if surplus > 0 {
            sort(&mut ended);
            plan.extend(ended.into_iter().take(surplus).map(|pod| (Why::Terminated, pod)));
        }
    }
    let dead: BTreeSet<&str> = nodes
        .iter()
        .filter(|node| !is_ready(node) && node_taints::taints(node).iter().any(|taint| taint.key == OUT_OF_SERVICE))
        .map(|node| node.name())
        .collect();
    let mut lost: Vec<Arc<Pod>> = going.iter().filter(|pod| dead.contains(pods::node_name(pod))).cloned().collect();
    sort(&mut lost);
    plan.extend(lost.into_iter().map(|pod| (Why::OutOfService, pod)));
    plan.extend(orphans.into_iter().map(|pod| (Why::Orphaned, pod)));
    let unbound = going.into_iter().filter(|pod| pods::node_name(pod).is_empty());
    plan.extend(unbound.map(|pod| (Why::Unscheduled, pod)));
    plan
}

/// Evicted ones first, then the oldest, then by name.
fn sort(pods: &mut [Arc<Pod>]) {
    pods.sort_by_key(|pod| {
        let status = pod.status.as_ref();
        let evicted = pods::phase(pod) == "Failed" && status.and_then(|status| status.reason.as_deref()) == Some("Evicted");
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (!evicted, created, pod.name().to_owned())
    });
}

/// Nodes that pods name and that are not there, with the time (monotonic) when they may count as gone.
#[derive(Debug, Default)]
pub struct Quarantine {
    until: BTreeMap<String, Duration>,
}

impl Quarantine {
    /// Takes in the nodes that pods name and those that are there, and gives the nodes whose quarantine is over; they are to be looked up once more.
    pub fn update(&mut self, named: &[String], nodes: &[Arc<Node>], now: Duration) -> Vec<String> {
        let existing: BTreeSet<&str> = nodes.iter().map(|node| node.name()).collect();
        for name in named.iter().filter(|name| !existing.contains(name.as_str())) {
            self.until.entry(name.clone()).or_insert(now + QUARANTINE);
        }
        let over: Vec<String> = self.until.iter().filter(|(_, until)| **until <= now).map(|(name, _)| name.clone()).collect();
        for name in &over {
            self.until.remove(name);
        }
        over.into_iter().filter(|name| !existing.contains(name.as_str())).collect()
    }
}

/// The patch of a pod's status before it goes: nobody is left to say how it ended, so it ends as Failed.
/// `None` where it has ended.
pub fn last_words(pod: &Pod, why: Why, now: Timestamp) -> Option<Value> {
    if pods::is_terminal(pod) {
        return None;
    }
    let mut status = json!({ "phase": "Failed", "observedGeneration": pod.metadata.generation });
    if why == Why::Orphaned {
        let mut new = pod.status.clone().unwrap_or_default();
        let target = pods::disruption_target(pod, "DeletionByPodGC", "PodGC: node no longer exists");
        pods::set_condition(&mut new, target, now);
        status["conditions"] = json!([pods::condition(Some(&new), "DisruptionTarget")]);
    }
    Some(json!({ "metadata": { "uid": pod.uid() }, "status": status }))
}

/// Registers the controller.
pub(crate) fn start(context: Context) {
    let shared = context.shared.clone();
    let ready = async move {
        shared.pods.wait_synced().await;
        shared.nodes.wait_synced().await;
    };
    let collector = Arc::new(Collector { context: context.clone(), quarantine: Mutex::default() });
    context.every(PERIOD, ready, move || {
        let collector = collector.clone();
        async move { collector.collect().await }.boxed()
    });
}

struct Collector {
    context: Context,
    quarantine: Mutex<Quarantine>,
}

impl Collector {
    async fn collect(&self) {
        let all = &self.context.shared.pods;
        let named = all.index_values(BY_NODE);
        let nodes = self.context.shared.nodes.list();
        let now = self.context.world.monotonic();
        let suspects = self.quarantine.lock().expect("no panic while held").update(&named, &nodes, now);
        let mut orphans = Vec::new();
        for name in suspects {
            // Not to be found in our copy proves nothing: ask.
            match self.context.client.all::<Node>().find(&name).await {
                Ok(None) => orphans.extend(all.by_index(BY_NODE, &name)),
                Ok(Some(_)) => {}
                Err(error) => tracing::debug!(node = name, %error, "cannot look the node up"),
            }
        }
        let candidates = Candidates { ended: all.by_index(PASSING, ENDED), going: all.by_index(PASSING, GOING), orphans };
        let plan = plan(candidates, &nodes, self.context.config.terminated_pod_gc_threshold);
        let outcomes = join_all(plan.iter().map(|(why, pod)| self.fail_and_delete(pod, *why))).await;
        for ((why, pod), outcome) in plan.iter().zip(outcomes) {
            if let Err(error) = outcome
                && !error.is_not_found()
            {
                tracing::warn!(pod = pod.key(), ?why, %error, "cannot delete a pod");
            }
        }
    }

    async fn fail_and_delete(&self, pod: &Pod, why: Why) -> Result<(), ClientError> {
        let api = self.context.client.namespaced::<Pod>(pod.namespace());
        if let Some(patch) = last_words(pod, why, self.context.world.now()) {
            api.patch_status(pod.name(), &Patch::Strategic(patch)).await?;
        }
        api.delete(pod.name(), &DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon_set::nodes::tests::node;
    use crate::pods::tests::{at, pod};
    use daruma_api::core::v1::NodeCondition;
    use daruma_api::taints::NO_EXECUTE;

    fn with(name: &str, node: &str, phase: &str, deleting: bool, created: i64) -> Arc<Pod> {
        let mut pod = pod(name, node, None);
        pod.status.as_mut().expect("built").phase = Some(phase.to_owned());
        pod.metadata.creation_timestamp = Some(pods::wire_time(at(created)));
        pod.metadata.deletion_timestamp = deleting.then(|| pods::wire_time(at(1)));
        Arc::new(pod)
    }

    #[test]
    fn each_reason() {
        let mut back = node("back", &[(OUT_OF_SERVICE, NO_EXECUTE)]);
        let ready = NodeCondition { type_: "Ready".to_owned(), status: "True".to_owned(), ..NodeCondition::default() };
        back.status.get_or_insert_default().conditions = Some(vec![ready]);
        let dead = node("dead", &[(OUT_OF_SERVICE, NO_EXECUTE)]);
        let nodes = [Arc::new(dead), Arc::new(node("quiet", &[])), Arc::new(back)];
        let mut evicted = with("evicted", "quiet", "Failed", false, 9).as_ref().clone();
        evicted.status.as_mut().expect("built").reason = Some("Evicted".to_owned());
        let pods = [
            with("old", "quiet", "Succeeded", false, 1),
            with("new", "quiet", "Succeeded", false, 5),
            Arc::new(evicted),
            with("given-up", "dead", "Running", true, 1),
            with("alive", "dead", "Running", false, 1),
            with("slow", "quiet", "Running", true, 1),
            // The taint is still there, but the node answers again and ends its pods itself.
            with("on-its-way", "back", "Running", true, 1),
            with("orphan", "gone", "Running", false, 1),
            with("unbound", "", "Pending", true, 1),
            with("waiting", "", "Pending", false, 1),
        ];
        let filed = |value: &str| pods.iter().filter(|pod| passing(pod).iter().any(|one| one == value)).cloned().collect();
        let orphans = pods.iter().filter(|pod| pods::node_name(pod) == "gone").cloned().collect();
        let plan = plan(Candidates { ended: filed(ENDED), going: filed(GOING), orphans }, &nodes, 1);
        let plan: Vec<(Why, &str)> = plan.iter().map(|(why, pod)| (*why, pod.name())).collect();
        let expected = [
            (Why::Terminated, "evicted"),
            (Why::Terminated, "old"),
            (Why::OutOfService, "given-up"),
            (Why::Orphaned, "orphan"),
            (Why::Unscheduled, "unbound"),
        ];
        assert_eq!(plan, expected);
    }

    #[test]
    fn what_is_said_before_a_pod_goes() {
        let running = with("a", "gone", "Running", false, 1);
        let orphaned = last_words(&running, Why::Orphaned, at(50)).expect("it has not ended");
        let condition = &orphaned["status"]["conditions"][0];
        assert_eq!((&orphaned["status"]["phase"], &condition["type"]), (&json!("Failed"), &json!("DisruptionTarget")));
        assert_eq!(
            (&condition["reason"], &condition["message"], &condition["status"]),
            (&json!("DeletionByPodGC"), &json!("PodGC: node no longer exists"), &json!("True"))
        );
        let given_up = last_words(&running, Why::OutOfService, at(50)).expect("it has not ended");
        assert_eq!((&given_up["status"]["phase"], given_up["status"].get("conditions")), (&json!("Failed"), None));
        assert_eq!(last_words(&with("b", "gone", "Succeeded", false, 1), Why::Orphaned, at(50)), None);
    }

    #[test]
    fn a_node_is_gone_after_forty_seconds() {
        let mut quarantine = Quarantine::default();
        let named = ["gone".to_owned()];
        let second = Duration::from_secs;
        assert!(quarantine.update(&named, &[], second(100)).is_empty());
        assert!(quarantine.update(&named, &[], second(139)).is_empty());
        assert_eq!(quarantine.update(&named, &[], second(140)), ["gone"]);
        assert!(quarantine.update(&named, &[Arc::new(node("gone", &[]))], second(200)).is_empty());
    }
}
