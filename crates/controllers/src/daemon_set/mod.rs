//! Runs a pod of a DaemonSet on every node where one belongs.
//!
//! Source: kubernetes pkg/controller/daemon/daemon_controller.go.

pub mod history;
pub mod nodes;
pub mod plan;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use daruma_api::core::v1::{Node, Pod};
use daruma_api::meta::{ObjectExt, split_key};
use daruma_api::metav1::LabelSelector;
use daruma_api::selector::Selector;
use daruma_client::events::object_reference;
use daruma_client::informer::Delta;
use daruma_client::{DeleteOptions, Patch};
use futures::FutureExt;
use serde_json::json;

use self::plan::{BURST, FailedPods, Plan};
use crate::adoption::claim_all;
use crate::expectations::Expectations;
use crate::replica_set::PodControl;
use crate::shared::{BY_NODE, Shared};
use crate::shell::{Context, Queue, SyncError, Synced};
use crate::template_hash::CONTROLLER_REVISION_HASH;
use crate::written::{LOOK_AGAIN, Written, revision};
use crate::{node_taints, pod_owners};

/// Registers the controller.
pub(crate) fn start(context: Context) {
    let queue = context.queue("daemonset");
    let expectations = Arc::new(Expectations::default());
    let shared = &context.shared;
    pod_owners::listen::<DaemonSet>(shared, &queue, &expectations);
    let handler = Arc::new(Handler { queue: queue.clone(), shared: Arc::downgrade(shared) });
    {
        let handler = handler.clone();
        shared.controller_revisions.on_delta(move |delta| handler.on_revision(delta.object()));
    }
    shared.nodes.on_delta(move |delta| handler.on_node(delta));
    let ready = {
        let shared = shared.clone();
        async move {
            shared.daemon_sets.wait_synced().await;
            shared.controller_revisions.wait_synced().await;
            shared.nodes.wait_synced().await;
            shared.pods.wait_synced().await;
        }
    };
    let syncer =
        Arc::new(Syncer { context: context.clone(), expectations, failed: Mutex::default(), written: Written::default() });
    context.work(&queue, context.workers, ready, move |key| {
        let syncer = syncer.clone();
        async move { syncer.sync(&key).await }.boxed()
    });
}

struct Handler {
    queue: Queue,
    shared: std::sync::Weak<Shared>,
}

impl Handler {
    fn on_revision(&self, revision: &ControllerRevision) {
        let Some(shared) = self.shared.upgrade() else { return };
        if let Some(set) =
            revision.controller().and_then(|owner| pod_owners::owner_of::<DaemonSet>(&shared, revision.namespace(), owner))
        {
            self.queue.add(&set.key());
        }
    }

    /// Wakes the sets for which the node's labels or taints make a difference.
    fn on_node(&self, delta: &Delta<Node>) {
        let node = match delta {
            Delta::Added(node) => node,
            Delta::Updated(old, node)
                if old.metadata.labels != node.metadata.labels || node_taints::taints(old) != node_taints::taints(node) =>
            {
                node
            }
            _ => return,
        };
        let Some(shared) = self.shared.upgrade() else { return };
        let here = shared.pods.by_index(BY_NODE, node.name());
        for set in shared.daemon_sets.list() {
            let scheduled = here.iter().any(|pod| pod.controller().is_some_and(|owner| owner.uid == set.uid()));
            let fit = nodes::fit(&set, node);
            let misscheduled = set.status.as_ref().is_some_and(|status| status.number_misscheduled > 0);
            let wrong = if scheduled { !fit.stay || misscheduled } else { fit.run };
            if wrong {
                self.queue.add(&set.key());
            }
        }
    }
}

struct Syncer {
    context: Context,
    expectations: Arc<Expectations>,
    failed: Mutex<FailedPods>,
    written: Written,
}

impl Syncer {
    async fn sync(&self, key: &str) -> Synced {
        let shared = &self.context.shared;
        let (namespace, name) = split_key(key);
        let Some(set) = shared.daemon_sets.get(namespace, name) else {
            self.expectations.forget(key);
            return Ok(None);
        };
        let shown = |uid: &str| {
            if uid == set.uid() {
                return Some(revision(set.metadata.resource_version.as_ref()));
            }
            let revisions = shared.controller_revisions.list_namespace(namespace);
            revisions.iter().find(|one| one.uid() == uid).map(|one| revision(one.metadata.resource_version.as_ref()))
        };
        if !self.written.is_shown(key, shown, self.context.world.monotonic()) {
            return Ok(Some(LOOK_AGAIN));
        }
        let spec = set.spec.clone().unwrap_or_default();
        if spec.selector == LabelSelector::default() {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.context.recorder.warning(set.as_ref(), "SelectingAll", message);
            return Ok(None);
        }
        if set.is_being_deleted() {
            return Ok(None);
        }
        let selector = Selector::from_label_selector(Some(&spec.selector))
            .map_err(|error| SyncError::Blocked(format!("daemon set {key} has an invalid selector: {error}")))?;
        let (current, old) = self.revisions(&set, &selector).await?;
        let hash = current.label(CONTROLLER_REVISION_HASH).unwrap_or_default().to_owned();
        let nodes = shared.nodes.list();
        if !self.satisfied(key) {
            let owned = self.owned_pods(&set, &selector).await?;
            return self.write_status(&set, &nodes, &owned, &hash, false).await;
        }
        let mut again = None;
        let outcome = self.update(key, &set, &selector, &nodes, &hash, &old, &mut again).await;
        let owned = self.owned_pods(&set, &selector).await?;
        let status = self.write_status(&set, &nodes, &owned, &hash, true).await;
        outcome?;
        let after_status = status?;
        Ok([again, after_status].into_iter().flatten().min())
    }

    fn satisfied(&self, key: &str) -> bool {
        self.expectations.satisfied(key, self.context.world.monotonic())
    }

    #[expect(clippy::too_many_arguments, reason = "one step of the sync, split off for length only")]
    async fn update(
        &self,
        key: &str,
        set: &Arc<DaemonSet>,
        selector: &Selector,
        nodes: &[Arc<Node>],
        hash: &str,
        old: &[ControllerRevision],
        again: &mut Option<Duration>,
    ) -> Result<(), SyncError> {
        let now = self.context.world.now();
        let owned = self.owned_pods(set, selector).await?;
        let plan = {
            let mut failed = self.failed.lock().expect("no panic while held");
            plan::plan(set, nodes, &plan::by_node(&owned), hash, &mut failed, now)
        };
        *again = plan.again;
        self.carry_out(key, set, plan, hash).await?;
        if self.satisfied(key) && plan::rolls(set) {
            let owned = self.owned_pods(set, selector).await?;
            let plan = plan::roll(set, nodes, &plan::by_node(&owned), hash, now);
            self.carry_out(key, set, plan, hash).await?;
        }
        let api = self.context.client.namespaced::<ControllerRevision>(set.namespace());
        for name in history::surplus(set, old, &owned) {
            api.delete(&name, &DeleteOptions::default()).await?;
        }
        Ok(())
    }

    async fn carry_out(&self, key: &str, set: &Arc<DaemonSet>, mut plan: Plan, hash: &str) -> Result<(), SyncError> {
        for (kind, reason, message) in plan.events {
            self.context.recorder.event(&object_reference(set.as_ref()), kind, reason, message);
        }
        plan.create.truncate(BURST);
        plan.delete.truncate(BURST);
        if plan.create.is_empty() && plan.delete.is_empty() {
            return Ok(());
        }
        let deletions = plan.delete.iter().map(|name| format!("{}/{name}", set.namespace())).collect();
        self.expectations.expect(key, plan.create.len(), deletions, self.context.world.monotonic());
        let control = PodControl::new(&self.context, set.as_ref(), &self.expectations, key);
        let pod = control.pod(&nodes::pod_template(set, hash));
        let created = control
            .create(plan.create.len(), |number| {
                let mut pod = pod.clone();
                nodes::pin(pod.spec.get_or_insert_default(), &plan.create[number]);
                pod
            })
            .await;
        let deleted = control.delete(&plan.delete).await;
        created.and(deleted)
    }

    async fn owned_pods(&self, set: &Arc<DaemonSet>, selector: &Selector) -> Result<Vec<Arc<Pod>>, SyncError> {
        let all = self.context.shared.pods_of(set.uid(), Some(set.namespace()));
        let sets = self.context.client.namespaced::<DaemonSet>(set.namespace());
        let pods = self.context.client.namespaced::<Pod>(set.namespace());
        claim_all(&sets, set.as_ref(), selector, &pods, all).await
    }

    async fn write_status(
        &self,
        set: &Arc<DaemonSet>,
        nodes: &[Arc<Node>],
        owned: &[Arc<Pod>],
        hash: &str,
        observe: bool,
    ) -> Synced {
        let now = self.context.world.now();
        let status = plan::status(set, nodes, &plan::by_node(owned), hash, observe, now);
        if !plan::says(set, &status) {
            self.put_status(set, status.clone()).await?;
        }
        let min_ready = plan::min_ready_seconds(set);
        let waits = min_ready > 0 && status.number_ready != status.number_available.unwrap_or_default();
        Ok(waits.then(|| Duration::from_secs(u64::try_from(min_ready).unwrap_or_default())))
    }

    fn wrote(&self, set: &DaemonSet, uid: &str, version: Option<&String>) {
        self.written.wrote(&set.key(), uid, version, self.context.world.monotonic());
    }

    async fn put_status(&self, set: &DaemonSet, status: DaemonSetStatus) -> Result<(), SyncError> {
        let api = self.context.client.namespaced::<DaemonSet>(set.namespace());
        let first = api.update_status(&DaemonSet { status: Some(status.clone()), ..set.clone() }).await;
        let written = if let Ok(written) = first {
            written
        } else {
            // Once more on what is there now, as the real controller does.
            let fresh = api.get(set.name()).await?;
            api.update_status(&DaemonSet { status: Some(status), ..fresh }).await?
        };
        self.wrote(set, set.uid(), written.metadata.resource_version.as_ref());
        Ok(())
    }

    /// The current revision, made where there is none, and the old ones.
    async fn revisions(
        &self,
        set: &Arc<DaemonSet>,
        selector: &Selector,
    ) -> Result<(ControllerRevision, Vec<ControllerRevision>), SyncError> {
        let api = self.context.client.namespaced::<ControllerRevision>(set.namespace());
        let sets = self.context.client.namespaced::<DaemonSet>(set.namespace());
        let all = self.context.shared.controller_revisions.list_namespace(set.namespace());
        let owned = claim_all(&sets, set.as_ref(), selector, &api, all).await?;
        let (mut current, old): (Vec<ControllerRevision>, Vec<ControllerRevision>) =
            owned.iter().map(|revision| revision.as_ref().clone()).partition(|revision| history::is_current(set, revision));
        let number = history::max_revision(&old) + 1;
        current.sort_by_key(|revision| revision.revision);
        let Some(mut kept) = current.pop() else { return Ok((self.create_revision(set, number).await?, old)) };
        if !current.is_empty() {
            self.drop_duplicates(set, selector, &kept, &current).await?;
        }
        if kept.revision < number {
            kept.revision = number;
            kept = Arc::unwrap_or_clone(api.update(&kept).await?);
            self.wrote(set, kept.uid(), kept.metadata.resource_version.as_ref());
        }
        Ok((kept, old))
    }

    /// Of several revisions with one content only the newest stays, and all pods are of it.
    async fn drop_duplicates(
        &self,
        set: &Arc<DaemonSet>,
        selector: &Selector,
        kept: &ControllerRevision,
        duplicates: &[ControllerRevision],
    ) -> Result<(), SyncError> {
        let hash = kept.label(CONTROLLER_REVISION_HASH);
        let pods = self.context.client.namespaced::<Pod>(set.namespace());
        for pod in self.owned_pods(set, selector).await? {
            if pod.label(CONTROLLER_REVISION_HASH) != hash {
                let patch = json!({ "metadata": { "labels": { CONTROLLER_REVISION_HASH: hash } } });
                pods.patch(pod.name(), &Patch::Merge(patch)).await?;
            }
        }
        let api = self.context.client.namespaced::<ControllerRevision>(set.namespace());
        for duplicate in duplicates {
            api.delete(duplicate.name(), &DeleteOptions::default()).await?;
        }
        Ok(())
    }

    async fn create_revision(&self, set: &Arc<DaemonSet>, number: i64) -> Result<ControllerRevision, SyncError> {
        let api = self.context.client.namespaced::<ControllerRevision>(set.namespace());
        let revision = history::new_revision(set, number);
        match api.create(&revision).await {
            Ok(created) => {
                self.wrote(set, created.uid(), created.metadata.resource_version.as_ref());
                Ok(Arc::unwrap_or_clone(created))
            }
            Err(error) if error.is_already_exists() => {
                let existing = api.get(revision.name()).await?;
                if history::is_current(set, &existing) {
                    return Ok(existing);
                }
                let sets = self.context.client.namespaced::<DaemonSet>(set.namespace());
                let mut fresh = sets.get(set.name()).await?;
                let count = |set: &DaemonSet| set.status.as_ref().and_then(|status| status.collision_count);
                if count(&fresh) != count(set) {
                    return Err(SyncError::Blocked(format!("found a stale collision count of DaemonSet {}", set.key())));
                }
                *fresh.status.get_or_insert_default().collision_count.get_or_insert(0) += 1;
                sets.update_status(&fresh).await?;
                Err(error.into())
            }
            Err(error) => Err(error.into()),
        }
    }
}
