//! Keeps as many pods as a ReplicaSet asks for.
//!
//! Source: kubernetes pkg/controller/replicaset/replica_set.go.

pub mod plan;
pub mod ranking;

use std::sync::Arc;

use daruma_api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use daruma_api::core::v1::Pod;
use daruma_api::meta::{ObjectExt, split_key};
use daruma_api::selector::Selector;
use futures::FutureExt;

use crate::adoption::claim_all;
use crate::expectations::Expectations;
use crate::shared::BY_CONTROLLER;
use crate::shell::{Context, SyncError, Synced};
use crate::written::{LOOK_AGAIN, Written, revision};
use crate::{pod_owners, pods};

mod pod_control;
pub(crate) use pod_control::PodControl;

/// Registers the controller.
pub(crate) fn start(context: Context) {
    let queue = context.queue("replicaset");
    let expectations = Arc::new(Expectations::default());
    let shared = &context.shared;
    pod_owners::listen::<ReplicaSet>(shared, &queue, &expectations);
    let ready = {
        let shared = shared.clone();
        async move {
            shared.replica_sets.wait_synced().await;
            shared.pods.wait_synced().await;
        }
    };
    let syncer = Arc::new(Syncer { context: context.clone(), expectations, written: Written::default() });
    context.work(&queue, context.workers, ready, move |key| {
        let syncer = syncer.clone();
        async move { syncer.sync(&key).await }.boxed()
    });
}

struct Syncer {
    context: Context,
    expectations: Arc<Expectations>,
    written: Written,
}

impl Syncer {
    async fn sync(&self, key: &str) -> Synced {
        let shared = &self.context.shared;
        let (namespace, name) = split_key(key);
        let Some(set) = shared.replica_sets.get(namespace, name) else {
            self.expectations.forget(key);
            return Ok(None);
        };
        let shown = |_: &str| Some(revision(set.metadata.resource_version.as_ref()));
        if !self.written.is_shown(key, shown, self.context.world.monotonic()) {
            return Ok(Some(LOOK_AGAIN));
        }
        let satisfied = self.expectations.satisfied(key, self.context.world.monotonic());
        let Ok(selector) = Selector::from_label_selector(set.spec.as_ref().map(|spec| &spec.selector)) else {
            tracing::warn!(key, "the selector is invalid");
            return Ok(None);
        };
        let all = shared.pods_of(set.uid(), Some(namespace));
        let active = all.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
        let pod_api = self.context.client.namespaced::<Pod>(namespace);
        let sets = self.context.client.namespaced::<ReplicaSet>(namespace);
        let active = claim_all(&sets, set.as_ref(), &selector, &pod_api, active).await?;
        let terminating = all
            .iter()
            .filter(|pod| pods::is_terminating(pod) && pod.controller().is_some_and(|owner| owner.uid == set.uid()))
            .filter(|pod| selector.matches(pod.metadata.labels.as_ref()))
            .count();
        let failure = if satisfied && !set.is_being_deleted() { self.manage(key, &set, &active).await.err() } else { None };
        let now = self.context.world.now();
        let message = failure.as_ref().map(ToString::to_string);
        let status = plan::status(&set, &active, terminating, message.as_deref(), now);
        self.write_status(&set, status.clone()).await?;
        match failure {
            Some(error) => Err(error),
            None => Ok(plan::next_availability(&set, &status, &active, now)),
        }
    }

    /// Creates missing pods or deletes those that are too many.
    async fn manage(&self, key: &str, set: &Arc<ReplicaSet>, active: &[Arc<Pod>]) -> Result<(), SyncError> {
        let plan = plan::plan(set, active, || self.related_pods(set), self.context.world.now());
        let control = PodControl::new(&self.context, set.as_ref(), &self.expectations, key);
        if plan.create > 0 {
            let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
            self.expectations.expect(key, plan.create, std::collections::BTreeSet::new(), self.context.world.monotonic());
            let pod = control.pod(&template);
            control.create(plan.create, |_| pod.clone()).await?;
        } else if !plan.delete.is_empty() {
            let keys = plan.delete.iter().map(|pod| pod.key()).collect();
            self.expectations.expect(key, 0, keys, self.context.world.monotonic());
            let names: Vec<String> = plan.delete.iter().map(|pod| pod.name().to_owned()).collect();
            control.delete(&names).await?;
        }
        Ok(())
    }

    /// Pods of all ReplicaSets of the same owner.
    fn related_pods(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let shared = &self.context.shared;
        let Some(owner) = set.controller() else { return Vec::new() };
        let siblings = shared.replica_sets.by_index(BY_CONTROLLER, &owner.uid);
        siblings.iter().flat_map(|sibling| shared.pods_of(sibling.uid(), None)).collect()
    }

    async fn write_status(&self, set: &ReplicaSet, status: ReplicaSetStatus) -> Result<(), SyncError> {
        if plan::says(set, &status) {
            return Ok(());
        }
        let api = self.context.client.namespaced::<ReplicaSet>(set.namespace());
        let write = ReplicaSet { status: Some(status.clone()), ..set.clone() };
        let written = if let Ok(written) = api.update_status(&write).await {
            written
        } else {
            // Once more on what is there now, as the real controller does.
            let fresh = api.get(set.name()).await?;
            api.update_status(&ReplicaSet { status: Some(status), ..fresh }).await?
        };
        let now = self.context.world.monotonic();
        self.written.wrote(&set.key(), set.uid(), written.metadata.resource_version.as_ref(), now);
        Ok(())
    }
}
