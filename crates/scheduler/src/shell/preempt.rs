//! Carries out what preemption decides: promises places and sends pods away.
//!
//! Source: kubernetes pkg/scheduler/framework/preemption/executor.go.

use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::Pod;
use daruma_api::meta::ObjectExt;
use daruma_client::events::{EventFields, EventType, object_reference};
use daruma_client::informer::Delta;
use daruma_client::{ClientError, DeleteOptions, ListOptions, Patch};
use futures::future::join_all;
use serde_json::json;

use super::{Scheduler, State};
use crate::node_info::PodInfo;
use crate::preemption::{Candidate, Outcome, PREEMPTED};

/// Between two questions whether the server knows disruption budgets.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Follows the budgets, once the server knows the kind.
pub(super) async fn follow_budgets(scheduler: Arc<Scheduler>) {
    let one = ListOptions { limit: Some(1), resource_version: Some("0".into()), ..ListOptions::default() };
    let api = scheduler.client.all::<daruma_api::policy::v1::PodDisruptionBudget>();
    while api.list(&one).await.is_err_and(|error| error.is_not_found()) {
        scheduler.world.sleep(ASK_AGAIN).await;
    }
    scheduler.budgets.start();
}

impl State {
    /// Hands out the first active pod that may be tried, with its key.
    pub(super) fn pop(&mut self, now: Duration) -> Option<(Option<Arc<Pod>>, String)> {
        loop {
            let key = self.queue.pop(now)?;
            if !self.preempting.contains(&key) {
                return Some((self.waiting.get(&key).cloned(), key));
            }
            // Others are being sent away for it: their end wakes it.
            self.queue.unschedulable(&key, now);
            if self.queue.lengths().0 == 0 {
                return None;
            }
        }
    }

    /// Takes over what the API says of a promised place, e.g. from a scheduler before this one.
    pub(super) fn follow_nomination(&mut self, delta: &Delta<Pod>) {
        let of = |pod: &Pod| pod.status.as_ref().and_then(|status| status.nominated_node_name.clone()).unwrap_or_default();
        let pod = delta.object();
        let (before, now) = match delta {
            Delta::Updated(old, new) => (of(old), of(new)),
            _ => (String::new(), of(pod)),
        };
        if now.is_empty() {
            // Only a promise that the API knew can be taken back by it.
            if !before.is_empty() {
                self.nominated.remove(&pod.key());
            }
        } else if self.cache.place_of(&pod.key()).is_none() {
            // One that is on its way to a node is counted there.
            self.nominated.set(Arc::new(PodInfo::new(pod.clone())), &now);
        }
    }

    /// Notes at once what the API will say a moment later, so that the next cycle reckons with it.
    pub(super) fn note_outcome(&mut self, key: &str, pod: Arc<PodInfo>, outcome: &Outcome) {
        match outcome {
            Outcome::Room(candidate) => {
                self.nominated.set(pod, &candidate.node);
                if candidate.victims.iter().any(|victim| !victim.pod.is_being_deleted()) {
                    self.preempting.insert(key.to_owned());
                }
            }
            Outcome::Nothing(_) => self.nominated.remove(key),
            Outcome::NotEligible(_) => {}
        }
    }
}

impl Scheduler {
    /// Sends the victims away.
    pub(super) async fn make_room(&self, pod: &Pod, candidate: &Candidate) {
        self.take_back_lower(pod, &candidate.node).await;
        let victims = candidate.victims.iter().filter(|victim| !victim.pod.is_being_deleted());
        let sent = join_all(victims.map(|victim| self.send_away(pod, &victim.pod, &candidate.node))).await;
        let key = pod.key();
        let mut state = self.state.lock().expect("no panic while held");
        state.preempting.remove(&key);
        let gone = |victim: &Arc<PodInfo>| state.cache.place_of(&victim.pod.key()).is_none();
        // Where some are left their end wakes the pod; where all went meanwhile, or one could not be sent away, nothing will.
        if sent.contains(&false) || candidate.victims.iter().all(gone) {
            state.queue.try_again(&key, self.world.monotonic());
            self.changed.notify_one();
        }
    }

    /// `false` where it has to be tried again.
    async fn send_away(&self, pod: &Pod, victim: &Pod, node: &str) -> bool {
        match self.mark_and_delete(victim).await {
            Ok(()) => {}
            Err(error) if error.is_not_found() || error.is_conflict() => return true,
            Err(error) => {
                tracing::warn!(victim = victim.key(), %error, "cannot send a pod away");
                return false;
            }
        }
        let fields =
            EventFields { action: Some("Preempting".into()), related: Some(object_reference(pod)), ..EventFields::default() };
        let message = format!("Preempted by pod {} on node {node}", pod.uid());
        self.recorder.event_with_fields(&object_reference(victim), EventType::Normal, "Preempted", message, fields);
        true
    }

    async fn mark_and_delete(&self, victim: &Pod) -> Result<(), ClientError> {
        let pods = self.client.namespaced::<Pod>(victim.namespace());
        let now = jiff::Timestamp::from_second(self.world.now().as_second()).unwrap_or_default();
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": PREEMPTED,
            "message": format!("{}: preempting to accommodate a higher priority pod", self.config.name),
            "lastTransitionTime": now.to_string(),
            "observedGeneration": victim.metadata.generation,
        });
        let patch = json!({"metadata": {"uid": victim.uid()}, "status": {"conditions": [condition]}});
        pods.patch_status(victim.name(), &Patch::Strategic(patch)).await?;
        pods.delete(victim.name(), &DeleteOptions::of_uid(victim.uid())).await
    }

    /// Pods of lower priority that were promised a place on the node have to look for another one.
    async fn take_back_lower(&self, pod: &Pod, node: &str) {
        let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        let lower: Vec<Arc<PodInfo>> = {
            let mut state = self.state.lock().expect("no panic while held");
            let lower: Vec<_> = state.nominated.on(node).filter(|other| other.priority() < priority).cloned().collect();
            for other in &lower {
                state.nominated.remove(&other.pod.key());
            }
            lower
        };
        for other in lower {
            let patch = json!({"metadata": {"uid": other.pod.uid()}, "status": {"nominatedNodeName": null}});
            let pods = self.client.namespaced::<Pod>(other.pod.namespace());
            if let Err(error) = pods.patch_status(other.pod.name(), &Patch::Strategic(patch)).await
                && !error.is_not_found()
            {
                tracing::warn!(pod = other.pod.key(), %error, "cannot take a promised place back");
            }
            let mut state = self.state.lock().expect("no panic while held");
            state.queue.try_again(&other.pod.key(), self.world.monotonic());
            self.changed.notify_one();
        }
    }
}
