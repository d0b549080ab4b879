//! Keeps the status of PodDisruptionBudgets, by which the API server allows evictions; takes back what was
//! said of pods that were to be disrupted and were not.
//!
//! Source: kubernetes pkg/controller/disruption/disruption.go.

pub mod plan;
mod scale;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use daruma_api::core::v1::{Pod, PodCondition};
use daruma_api::meta::{ObjectExt, split_key};
use daruma_api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use daruma_client::informer::Delta;
use futures::FutureExt;

use crate::pods;
use crate::shared::Shared;
use crate::shell::{Context, Queue, SyncError, Synced};
use crate::written::{LOOK_AGAIN, Written, revision};

/// Registers the controller.
pub(crate) fn start(context: Context) {
    let budgets = context.queue("disruption");
    let stale = context.queue("stale_pod_disruption");
    let shared = &context.shared;
    {
        let queue = budgets.clone();
        shared.disruption_budgets.on_delta(move |delta| queue.add(&delta.object().key()));
    }
    {
        let handler = Handler { context: context.clone(), budgets: budgets.clone(), stale: stale.clone() };
        // The handler lives inside the shared informers.
        let shared = Arc::downgrade(shared);
        context.shared.pods.on_delta(move |delta| {
            if let Some(shared) = shared.upgrade() {
                handler.on_pod(&shared, delta);
            }
        });
    }
    let ready = || {
        let shared = context.shared.clone();
        async move {
            shared.disruption_budgets.wait_synced().await;
            shared.deployments.wait_synced().await;
            shared.replica_sets.wait_synced().await;
            shared.stateful_sets.wait_synced().await;
            shared.pods.wait_synced().await;
        }
    };
    let syncer = Arc::new(Syncer { context: context.clone(), written: Written::default() });
    {
        let syncer = syncer.clone();
        context.work(&budgets, context.workers, ready(), move |key| {
            let syncer = syncer.clone();
            async move { syncer.sync(&key).await }.boxed()
        });
    }
    context.work(&stale, context.workers, ready(), move |key| {
        let syncer = syncer.clone();
        async move { syncer.sync_stale(&key).await }.boxed()
    });
}

struct Handler {
    context: Context,
    budgets: Queue,
    stale: Queue,
}

impl Handler {
    fn on_pod(&self, shared: &Shared, delta: &Delta<Pod>) {
        let pod = delta.object();
        let all = shared.disruption_budgets.list_namespace(pod.namespace());
        let covering: Vec<&Arc<PodDisruptionBudget>> = all.iter().filter(|budget| plan::covers(budget, pod)).collect();
        if let Some(first) = covering.first() {
            if covering.len() > 1 && !matches!(delta, Delta::Deleted(_)) {
                let message = format!(
                    "Pod {:?}/{:?} matches multiple PodDisruptionBudgets.  Chose {:?} arbitrarily.",
                    pod.namespace(),
                    pod.name(),
                    first.name()
                );
                self.context.recorder.warning(pod.as_ref(), "MultiplePodDisruptionBudgets", message);
            }
            self.budgets.add(&first.key());
        }
        if !matches!(delta, Delta::Deleted(_))
            && let Some(wait) = plan::stale_after(pod, self.context.world.now())
        {
            self.stale.add_after(&pod.key(), wait);
        }
    }
}

struct Syncer {
    context: Context,
    written: Written,
}

impl Syncer {
    async fn sync(&self, key: &str) -> Synced {
        let (namespace, name) = split_key(key);
        let Some(budget) = self.context.shared.disruption_budgets.get(namespace, name) else { return Ok(None) };
        let shown = |_: &str| Some(revision(budget.metadata.resource_version.as_ref()));
        if !self.written.is_shown(key, shown, self.context.world.monotonic()) {
            return Ok(Some(LOOK_AGAIN));
        }
        match self.try_sync(&budget).await {
            Ok(again) => Ok(again),
            // Somebody, an eviction most likely, was faster: look at what is there now.
            Err(SyncError::Client(error)) if error.is_conflict() => Err(error.into()),
            Err(error) => {
                tracing::warn!(key, %error, "cannot tell what a disruption budget allows");
                let status = plan::fail_safe(&budget, &error.to_string(), self.context.world.now());
                if budget.status.as_ref() != Some(&status) {
                    self.write(&budget, status).await?;
                }
                Ok(None)
            }
        }
    }

    async fn try_sync(&self, budget: &Arc<PodDisruptionBudget>) -> Synced {
        let recorder = &self.context.recorder;
        let all = self.context.shared.pods.list_namespace(budget.namespace());
        let pods = plan::covered(budget, &all).map_err(|why| {
            recorder.warning(budget.as_ref(), "NoPods", format!("Failed to get pods: {why}"));
            SyncError::Blocked(why)
        })?;
        let (mut expected, mut unmanaged) = (0, false);
        if plan::needs_scale(budget) {
            (expected, unmanaged) = self.expected(budget.namespace(), &pods).await.map_err(|why| {
                let message = format!("Failed to calculate the number of expected pods: {why}");
                recorder.warning(budget.as_ref(), "CalculateExpectedPodCountFailed", message);
                SyncError::Blocked(why)
            })?;
        }
        let plan = plan::plan(budget, &pods, expected, unmanaged, self.context.world.now());
        for (about, kind, reason, message) in plan.events {
            recorder.event(&about, kind, reason, message);
        }
        if let Some(status) = plan.status {
            self.write(budget, status).await?;
        }
        Ok(plan.again)
    }

    /// How many pods the owners of these want, and whether some have none.
    async fn expected(&self, namespace: &str, pods: &[Arc<Pod>]) -> Result<(i32, bool), String> {
        let (owners, unmanaged) = plan::owners(pods);
        let mut scales = std::collections::BTreeMap::new();
        for (owner, pod) in owners {
            let found = scale::of(&self.context, namespace, &owner).await?;
            let (uid, replicas) = found.ok_or_else(|| format!("found no controllers for pod {pod:?}"))?;
            scales.insert(uid, replicas);
        }
        Ok((scales.values().sum(), !unmanaged.is_empty()))
    }

    async fn write(&self, budget: &PodDisruptionBudget, status: PodDisruptionBudgetStatus) -> Result<(), SyncError> {
        let api = self.context.client.namespaced::<PodDisruptionBudget>(budget.namespace());
        let written = api.update_status(&PodDisruptionBudget { status: Some(status), ..budget.clone() }).await?;
        let now = self.context.world.monotonic();
        self.written.wrote(&budget.key(), budget.uid(), written.metadata.resource_version.as_ref(), now);
        Ok(())
    }

    async fn sync_stale(&self, key: &str) -> Synced {
        let (namespace, name) = split_key(key);
        let Some(pod) = self.context.shared.pods.get(namespace, name) else { return Ok(None) };
        let now = self.context.world.now();
        match plan::stale_after(&pod, now) {
            None => return Ok(None),
            Some(wait) if !wait.is_zero() => return Ok(Some(wait)),
            Some(_) => {}
        }
        let mut new = pod.as_ref().clone();
        let condition = PodCondition {
            type_: "DisruptionTarget".to_owned(),
            status: "False".to_owned(),
            observed_generation: pod.metadata.generation,
            ..PodCondition::default()
        };
        if pods::set_condition(new.status.get_or_insert_default(), condition, now) {
            self.context.client.namespaced::<Pod>(namespace).update_status(&new).await?;
        }
        Ok(None)
    }
}
