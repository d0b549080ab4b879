//! Rolls pod templates out through ReplicaSets.
//!
//! Source: kubernetes pkg/controller/deployment/deployment_controller.go.

pub mod plan;
pub mod revision;
pub mod sets;
pub mod status;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_api::apps::v1::{Deployment, ReplicaSet};
use daruma_api::core::v1::Pod;
use daruma_api::meta::{ObjectExt, split_key};
use daruma_api::metav1::OwnerReference;
use daruma_api::selector::Selector;
use daruma_client::informer::Delta;
use daruma_client::{Api, ClientError, DeleteOptions};
use futures::FutureExt;

use self::plan::Action;
use crate::adoption::claim_all;
use crate::pods;
use crate::shared::{BY_CONTROLLER, Shared, orphans_of};
use crate::shell::{Context, Queue, SyncError, Synced, namespace_terminating};
use crate::template_hash::same_template;
use crate::written::{LOOK_AGAIN, Written, revision};

/// Registers the controller.
pub(crate) fn start(context: Context) {
    let queue = context.queue("deployment");
    let shared = &context.shared;
    {
        let queue = queue.clone();
        shared.deployments.on_delta(move |delta| queue.add(&delta.object().key()));
    }
    {
        let (queue, shared) = (queue.clone(), Arc::downgrade(shared));
        context.shared.replica_sets.on_delta(move |delta| {
            if let Some(shared) = shared.upgrade() {
                on_replica_set(&queue, &shared, delta);
            }
        });
    }
    {
        let (queue, shared) = (queue.clone(), Arc::downgrade(shared));
        context.shared.pods.on_delta(move |delta| {
            if let (Delta::Deleted(pod), Some(shared)) = (delta, shared.upgrade()) {
                on_pod_gone(&queue, &shared, pod);
            }
        });
    }
    let ready = {
        let shared = shared.clone();
        async move {
            shared.deployments.wait_synced().await;
            shared.replica_sets.wait_synced().await;
            shared.pods.wait_synced().await;
        }
    };
    let syncer = Arc::new(Syncer { context: context.clone(), written: Written::default() });
    context.work(&queue, context.workers, ready, move |key| {
        let syncer = syncer.clone();
        async move { Box::pin(syncer.sync(&key)).await }.boxed()
    });
}

fn on_replica_set(queue: &Queue, shared: &Shared, delta: &Delta<ReplicaSet>) {
    let set = delta.object();
    let old = if let Delta::Updated(old, _) = delta { Some(old) } else { None };
    if let Some(old) = old
        && old.controller() != set.controller()
        && let Some(deployment) = old.controller().and_then(|owner| owner_of(shared, old.namespace(), owner))
    {
        queue.add(&deployment.key());
    }
    match set.controller() {
        Some(owner) => {
            if let Some(deployment) = owner_of(shared, set.namespace(), owner) {
                queue.add(&deployment.key());
            }
        }
        None if matches!(delta, Delta::Deleted(_)) => {}
        None if old.is_some_and(|old| old.metadata.labels == set.metadata.labels && old.controller().is_none()) => {}
        None => {
            for deployment in shared.deployments.list_namespace(set.namespace()) {
                let selector = Selector::from_label_selector(deployment.spec.as_ref().map(|spec| &spec.selector));
                if selector.is_ok_and(|selector| !selector.is_everything() && selector.matches(set.metadata.labels.as_ref())) {
                    queue.add(&deployment.key());
                }
            }
        }
    }
}

/// A Deployment that recreates waits for the end of its last old pod.
fn on_pod_gone(queue: &Queue, shared: &Shared, pod: &Pod) {
    let Some(owner) = pod.controller().filter(|owner| owner.kind == "ReplicaSet") else { return };
    let Some(set) = shared.replica_sets.get(pod.namespace(), &owner.name).filter(|set| set.uid() == owner.uid) else { return };
    let Some(deployment) = set.controller().and_then(|owner| owner_of(shared, set.namespace(), owner)) else { return };
    if sets::strategy(&deployment) == "Recreate" {
        queue.add(&deployment.key());
    }
}

fn owner_of(shared: &Shared, namespace: &str, owner: &OwnerReference) -> Option<Arc<Deployment>> {
    if owner.kind != "Deployment" {
        return None;
    }
    shared.deployments.get(namespace, &owner.name).filter(|deployment| deployment.uid() == owner.uid)
}

struct Syncer {
    context: Context,
    written: Written,
}

impl Syncer {
    async fn sync(&self, key: &str) -> Synced {
        let shared = &self.context.shared;
        let (namespace, name) = split_key(key);
        let Some(deployment) = shared.deployments.get(namespace, name) else { return Ok(None) };
        let shown = |uid: &str| {
            if uid == deployment.uid() {
                return Some(revision(deployment.metadata.resource_version.as_ref()));
            }
            let sets = shared.replica_sets.by_index(BY_CONTROLLER, deployment.uid());
            sets.iter().find(|set| set.uid() == uid).map(|set| revision(set.metadata.resource_version.as_ref()))
        };
        if !self.written.is_shown(key, shown, self.context.world.monotonic()) {
            return Ok(Some(LOOK_AGAIN));
        }
        let selector = Selector::from_label_selector(deployment.spec.as_ref().map(|spec| &spec.selector))
            .map_err(|error| SyncError::Blocked(format!("deployment {key} has invalid label selector: {error}")))?;
        let deployments = self.context.client.namespaced::<Deployment>(namespace);
        let sets = self.context.client.namespaced::<ReplicaSet>(namespace);
        let owned = if selector.is_everything() {
            Vec::new()
        } else {
            // Those of other owners are not to be had.
            let mut all = shared.replica_sets.by_index(BY_CONTROLLER, deployment.uid());
            all.extend(shared.replica_sets.by_index(BY_CONTROLLER, &orphans_of(namespace)));
            claim_all(&deployments, deployment.as_ref(), &selector, &sets, all).await?
        };
        let old_pods_run = |new: Option<&str>| {
            let old = owned.iter().filter(|set| Some(set.uid()) != new);
            old.flat_map(|set| shared.pods_of(set.uid(), None)).any(|pod| !pods::is_terminal(&pod))
        };
        let plan = plan::plan(&deployment, &owned, &old_pods_run, self.context.world.now());
        let mut run = Run {
            context: &self.context,
            written: &self.written,
            deployment: &deployment,
            deployments,
            sets,
            versions: BTreeMap::new(),
        };
        for action in plan.actions {
            Box::pin(run.carry_out(action)).await?;
        }
        Ok(plan.again)
    }
}

/// One plan being carried out.
struct Run<'a> {
    context: &'a Context,
    written: &'a Written,
    deployment: &'a Deployment,
    deployments: Api<Deployment>,
    sets: Api<ReplicaSet>,
    /// Revisions that this run's own writes made, by uid: a later write of the same object starts there.
    versions: BTreeMap<String, Option<String>>,
}

impl Run<'_> {
    async fn carry_out(&mut self, action: Action) -> Result<(), SyncError> {
        match action {
            Action::Create(set) => Box::pin(self.create(*set)).await,
            Action::Update(mut set, message) => {
                if let Some(version) = self.versions.get(set.uid()) {
                    set.metadata.resource_version.clone_from(version);
                }
                let written = self.sets.update(&set).await?;
                self.wrote(set.uid(), written.metadata.resource_version.clone());
                if let Some(message) = message {
                    self.context.recorder.normal(self.deployment, "ScalingReplicaSet", message);
                }
                Ok(())
            }
            Action::Delete(name) => match self.sets.delete(&name, &DeleteOptions::default()).await {
                Err(error) if !error.is_not_found() => Err(error.into()),
                _ => Ok(()),
            },
            Action::Status(deployment) => self.write_status(deployment).await,
            Action::SelectsAll => {
                let message = "This deployment is selecting all pods. A non-empty selector is required.";
                self.context.recorder.warning(self.deployment, "SelectingAll", message);
                Ok(())
            }
        }
    }

    fn wrote(&mut self, uid: &str, version: Option<String>) {
        let now = self.context.world.monotonic();
        self.written.wrote(&self.deployment.key(), uid, version.as_ref(), now);
        self.versions.insert(uid.to_owned(), version);
    }

    async fn write_status(&mut self, mut deployment: Arc<Deployment>) -> Result<(), SyncError> {
        if let Some(version) = self.versions.get(deployment.uid()) {
            Arc::make_mut(&mut deployment).metadata.resource_version.clone_from(version);
        }
        let written = self.deployments.update_status(&deployment).await?;
        self.wrote(deployment.uid(), written.metadata.resource_version.clone());
        Ok(())
    }

    async fn create(&mut self, set: ReplicaSet) -> Result<(), SyncError> {
        let size = sets::replicas(&set);
        match self.sets.create(&set).await {
            Ok(created) => {
                self.wrote(created.uid(), created.metadata.resource_version.clone());
                if size > 0 {
                    let message = format!("Scaled up replica set {} from 0 to {size}", created.name());
                    self.context.recorder.normal(self.deployment, "ScalingReplicaSet", message);
                }
                Ok(())
            }
            Err(error) if error.is_already_exists() => self.meet_existing(set.name(), error).await,
            Err(error) if namespace_terminating(&error) => Err(error.into()),
            Err(error) => {
                let message = format!("Failed to create new replica set \"{}\": {error}", set.name());
                if status::progress_deadline(self.deployment).is_some() {
                    let mut failed = self.deployment.clone();
                    let now = self.context.world.now();
                    let condition =
                        status::new_condition(status::PROGRESSING, "False", "ReplicaSetCreateError", message.clone(), now);
                    status::set(failed.status.get_or_insert_default(), condition);
                    // The failed creation is what matters; it is returned.
                    let _ = self.write_status(Arc::new(failed)).await;
                }
                self.context.recorder.warning(self.deployment, "ReplicaSetCreateError", message);
                Err(error.into())
            }
        }
    }

    /// The name is taken: by our own ReplicaSet that the local copy does not show yet, or by another
    /// one, and then the hash must change.
    async fn meet_existing(&mut self, name: &str, error: ClientError) -> Result<(), SyncError> {
        let existing = self.sets.get(name).await?;
        let own = existing.controller().is_some_and(|owner| owner.uid == self.deployment.uid());
        let template = self.deployment.spec.as_ref().map(|spec| &spec.template);
        let existing_template = existing.spec.as_ref().and_then(|spec| spec.template.as_ref());
        let same = template.zip(existing_template).is_some_and(|(a, b)| same_template(a, b));
        if own && same {
            return Err(SyncError::Blocked(format!("replica set {name} exists but is not in the local copy yet")));
        }
        let mut bumped = self.deployment.clone();
        *bumped.status.get_or_insert_default().collision_count.get_or_insert(0) += 1;
        self.write_status(Arc::new(bumped)).await?;
        Err(error.into())
    }
}
