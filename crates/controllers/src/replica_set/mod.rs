//! Keeps as many pods as a ReplicaSet asks for.
//!
//! Source: kubernetes pkg/controller/replicaset/replica_set.go.

pub mod census;
pub mod plan;
pub mod ranking;

use std::sync::Arc;

use daruma_api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use daruma_api::core::v1::Pod;
use daruma_api::meta::{ObjectExt, split_key};
use daruma_api::selector::Selector;
use futures::FutureExt;

use census::{Census, Replica, View};

use crate::adoption::{Claim, claim_all};
use crate::expectations::Expectations;
use crate::pod_owners;
use crate::shared::BY_CONTROLLER;
use crate::shell::{Context, SyncError, Synced};
use crate::written::{LOOK_AGAIN, Written, revision};

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
    let syncer =
        Arc::new(Syncer { context: context.clone(), expectations, written: Written::default(), census: Census::default() });
    context.work(&queue, context.workers, ready, move |key| {
        let syncer = syncer.clone();
        async move { syncer.sync(&key).await }.boxed()
    });
}

struct Syncer {
    context: Context,
    expectations: Arc<Expectations>,
    written: Written,
    census: Census,
}

impl Syncer {
    async fn sync(&self, key: &str) -> Synced {
        let shared = &self.context.shared;
        let (namespace, name) = split_key(key);
        let Some(set) = shared.replica_sets.get(namespace, name) else {
            self.expectations.forget(key);
            self.census.forget(key);
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
        let view = View::new(&set, &selector);
        let all = self.census.count(key, &view, shared.pods_of(set.uid(), Some(namespace)));
        let terminating = all.iter().filter(|replica| replica.is_terminating && replica.claim == Claim::Keep).count();
        let active = self.claim(&set, &view, &selector, all).await?;
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

    /// The active pods of the set, after those that are to change hands have done so.
    async fn claim(
        &self,
        set: &ReplicaSet,
        view: &View<'_>,
        selector: &Selector,
        all: Vec<Replica>,
    ) -> Result<Vec<Replica>, SyncError> {
        let is_settled = |replica: &Replica| matches!(replica.claim, Claim::Keep | Claim::Ignore);
        let mut active: Vec<Replica> = all.into_iter().filter(|replica| replica.is_active).collect();
        if active.iter().all(is_settled) {
            active.retain(|replica| replica.claim == Claim::Keep);
            return Ok(active);
        }
        let client = &self.context.client;
        let (sets, pods) = (client.namespaced::<ReplicaSet>(set.namespace()), client.namespaced::<Pod>(set.namespace()));
        let active = active.into_iter().map(|replica| replica.pod).collect();
        let owned = claim_all(&sets, set, selector, &pods, active).await?;
        Ok(owned.into_iter().map(|pod| view.look(pod)).collect())
    }

    /// Creates missing pods or deletes those that are too many.
    async fn manage(&self, key: &str, set: &Arc<ReplicaSet>, active: &[Replica]) -> Result<(), SyncError> {
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
