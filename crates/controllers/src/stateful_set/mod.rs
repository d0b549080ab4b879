//! Keeps pods with an identity: numbered, in order, each under its own name.
//!
//! Claims are not made: the cluster serves no PersistentVolumeClaims. A set that asks for them is told so by an event.
//!
//! Source: kubernetes pkg/controller/statefulset/{stateful_set,stateful_pod_control}.go.

pub mod history;
pub mod identity;
pub mod plan;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use daruma_api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use daruma_api::core::v1::Pod;
use daruma_api::meta::{ObjectExt, split_key};
use daruma_api::selector::Selector;
use daruma_client::{ClientError, DeleteOptions};
use futures::FutureExt;
use futures::future::join_all;

use self::history::Update;
use self::plan::{Action, Revision, Seen};
use crate::adoption::{claim_all, claim_those};
use crate::expectations::Expectations;
use crate::shell::{Context, SyncError, Synced, namespace_terminating};
use crate::written::{LOOK_AGAIN, Written, revision};
use crate::{pod_owners, revision_history};

/// Most requests at a time (`MaxBatchSize`).
const BATCH: usize = 500;
const NO_CLAIMS: &str = "persistentvolumeclaims are not served by this cluster";

/// Registers the controller.
pub(crate) fn start(context: Context) {
    let queue = context.queue("statefulset");
    let expectations = Arc::new(Expectations::default());
    let shared = &context.shared;
    pod_owners::listen::<StatefulSet>(shared, &queue, &expectations);
    let ready = {
        let shared = shared.clone();
        async move {
            shared.stateful_sets.wait_synced().await;
            shared.controller_revisions.wait_synced().await;
            shared.pods.wait_synced().await;
        }
    };
    let syncer = Arc::new(Syncer { context: context.clone(), expectations, written: Written::default() });
    context.work(&queue, context.workers, ready, move |key| {
        let syncer = syncer.clone();
        async move { Box::pin(syncer.sync(&key)).await }.boxed()
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
        let Some(set) = shared.stateful_sets.get(namespace, name) else {
            self.expectations.forget(key);
            return Ok(None);
        };
        if !self.is_shown(key, &set) {
            return Ok(Some(LOOK_AGAIN));
        }
        let Ok(selector) = Selector::from_label_selector(set.spec.as_ref().map(|spec| &spec.selector)) else {
            tracing::warn!(key, "the selector is invalid");
            return Ok(None);
        };
        let mut revisions = self.owned_revisions(&set, &selector).await?;
        let pods = self.owned_pods(&set, &selector).await?;
        let (current, update, collisions) = self.current_and_update(&set, &revisions).await?;
        let outcome = self.update(&set, &pods, &current, &update, collisions).await;
        if !revisions.iter().any(|one| one.name() == update.name()) {
            revisions.push(update.clone());
        }
        let api = self.context.client.namespaced::<ControllerRevision>(namespace);
        for name in history::surplus(&set, &revisions, &pods, [current.name(), update.name()]) {
            match api.delete(&name, &DeleteOptions::default()).await {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        }
        outcome
    }

    /// Whether the local copies have everything that was written for this set.
    fn is_shown(&self, key: &str, set: &StatefulSet) -> bool {
        let now = self.context.world.monotonic();
        let shared = &self.context.shared;
        let shown = |uid: &str| {
            if uid == set.uid() {
                return Some(revision(set.metadata.resource_version.as_ref()));
            }
            let revisions = shared.controller_revisions.list_namespace(set.namespace());
            revisions.iter().find(|one| one.uid() == uid).map(|one| revision(one.metadata.resource_version.as_ref()))
        };
        self.written.is_shown(key, shown, now) && self.expectations.satisfied(key, now)
    }

    async fn owned_pods(&self, set: &Arc<StatefulSet>, selector: &Selector) -> Result<Vec<Arc<Pod>>, SyncError> {
        let all = self.context.shared.pods_of(set.uid(), Some(set.namespace()));
        let sets = self.context.client.namespaced::<StatefulSet>(set.namespace());
        let pods = self.context.client.namespaced::<Pod>(set.namespace());
        let wanted = |pod: &Pod| selector.matches(pod.metadata.labels.as_ref()) && identity::is_member(set, pod);
        claim_those(&sets, set.as_ref(), wanted, &pods, all).await
    }

    /// The set's revisions in order.
    async fn owned_revisions(&self, set: &Arc<StatefulSet>, selector: &Selector) -> Result<Vec<ControllerRevision>, SyncError> {
        let sets = self.context.client.namespaced::<StatefulSet>(set.namespace());
        let api = self.context.client.namespaced::<ControllerRevision>(set.namespace());
        let all = self.context.shared.controller_revisions.list_namespace(set.namespace());
        let owned = claim_all(&sets, set.as_ref(), selector, &api, all).await?;
        let mut revisions: Vec<ControllerRevision> = owned.iter().map(|revision| revision.as_ref().clone()).collect();
        revision_history::sort(&mut revisions);
        Ok(revisions)
    }

    /// The revision that an unfinished update starts from, and the one of the present template, made where
    /// there is none; and the count of collisions.
    async fn current_and_update(
        &self,
        set: &Arc<StatefulSet>,
        revisions: &[ControllerRevision],
    ) -> Result<(ControllerRevision, ControllerRevision, i32), SyncError> {
        let api = self.context.client.namespaced::<ControllerRevision>(set.namespace());
        let mut collisions = set.status.as_ref().and_then(|status| status.collision_count).unwrap_or_default();
        let number = history::next_number(revisions);
        let update = match history::update(set, revisions) {
            Update::Newest(revision) => revision,
            Update::Older(mut revision) => {
                revision.revision = number;
                let written = api.update(&revision).await?;
                self.wrote(set, written.uid(), written.metadata.resource_version.as_ref());
                Arc::unwrap_or_clone(written)
            }
            Update::New => loop {
                let revision = history::new_revision(set, number, collisions);
                match api.create(&revision).await {
                    Ok(created) => {
                        self.wrote(set, created.uid(), created.metadata.resource_version.as_ref());
                        break Arc::unwrap_or_clone(created);
                    }
                    Err(error) if error.is_already_exists() => {
                        let existing = api.get(revision.name()).await?;
                        if existing.data == revision.data {
                            break existing;
                        }
                        collisions += 1;
                    }
                    Err(error) => return Err(error.into()),
                }
            },
        };
        let name = set.status.as_ref().and_then(|status| status.current_revision.as_deref()).unwrap_or_default();
        let current = revisions.iter().find(|revision| revision.name() == name).unwrap_or(&update).clone();
        Ok((current, update, collisions))
    }

    /// Carries out a plan and writes the status, whatever became of it.
    async fn update(
        &self,
        set: &Arc<StatefulSet>,
        pods: &[Arc<Pod>],
        current: &ControllerRevision,
        update: &ControllerRevision,
        collisions: i32,
    ) -> Synced {
        let as_revision = |revision: &ControllerRevision| {
            let template = revision_history::template(revision)
                .ok_or_else(|| SyncError::Blocked(format!("revision {} keeps no template", revision.name())))?;
            Ok::<_, SyncError>(Revision { name: revision.name().to_owned(), template })
        };
        let seen = Seen {
            set,
            pods,
            current: &as_revision(current)?,
            update: &as_revision(update)?,
            collisions,
            now: self.context.world.now(),
        };
        let mut plan = plan::plan(&seen);
        let outcome = self.carry_out(set, plan.steps).await;
        if outcome.is_ok() {
            plan.status.current_replicas = plan.status.current_replicas.map(|count| count - plan.leaving);
        }
        self.write_status(set, plan.status).await?;
        outcome.map(|()| plan.again)
    }

    async fn carry_out(&self, set: &Arc<StatefulSet>, steps: Vec<Vec<Action>>) -> Result<(), SyncError> {
        let all = || steps.iter().flatten();
        let creations = all().filter(|action| matches!(action, Action::Create(_))).count();
        let deletions: BTreeSet<String> =
            all().filter_map(|action| if let Action::Delete(pod) = action { Some(pod.key()) } else { None }).collect();
        if creations + deletions.len() > 0 {
            self.expectations.expect(&set.key(), creations, deletions, self.context.world.monotonic());
        }
        let mut failure = None;
        for step in steps {
            let (mut rest, mut batch) = (step.as_slice(), 1);
            while !rest.is_empty() {
                let (now, later) = rest.split_at(batch.min(rest.len()));
                if failure.is_some() {
                    // Nothing more is begun, so nothing more is expected.
                    for action in rest {
                        self.give_up(set, action);
                    }
                    break;
                }
                let outcomes = join_all(now.iter().map(|action| self.act(set, action))).await;
                failure = outcomes.into_iter().find_map(Result::err);
                (rest, batch) = (later, (2 * batch).min(BATCH));
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn give_up(&self, set: &StatefulSet, action: &Action) {
        match action {
            Action::Create(_) => self.expectations.created(&set.key()),
            Action::Delete(pod) => self.expectations.deleted(&set.key(), &pod.key()),
            Action::Update(_) => {}
        }
    }

    async fn act(&self, set: &Arc<StatefulSet>, action: &Action) -> Result<(), SyncError> {
        let api = self.context.client.namespaced::<Pod>(set.namespace());
        match action {
            Action::Create(pod) => {
                if !identity::claims(set).is_empty() {
                    self.give_up(set, action);
                    self.tell(set, "Create", pod.name(), Some(NO_CLAIMS));
                    return Err(SyncError::Blocked(NO_CLAIMS.to_owned()));
                }
                match api.create(pod).await {
                    Ok(_) => {
                        self.tell(set, "Create", pod.name(), None);
                        Ok(())
                    }
                    Err(error) => {
                        self.give_up(set, action);
                        if !error.is_already_exists() && !namespace_terminating(&error) {
                            self.tell(set, "Create", pod.name(), Some(&error.to_string()));
                        }
                        Err(error.into())
                    }
                }
            }
            Action::Delete(pod) => {
                self.finish(set, "Delete", pod.name(), action, api.delete(pod.name(), &DeleteOptions::default()).await)
            }
            Action::Update(pod) => self.finish(set, "Update", pod.name(), action, api.update(pod).await.map(|_| ())),
        }
    }

    /// Tells how a deletion or an update went; what is gone already is fine.
    fn finish(
        &self,
        set: &StatefulSet,
        verb: &str,
        pod: &str,
        action: &Action,
        outcome: Result<(), ClientError>,
    ) -> Result<(), SyncError> {
        match outcome {
            Ok(()) => {
                self.tell(set, verb, pod, None);
                Ok(())
            }
            Err(error) => {
                self.give_up(set, action);
                if error.is_not_found() && matches!(action, Action::Delete(_)) {
                    self.tell(set, verb, pod, None);
                    return Ok(());
                }
                self.tell(set, verb, pod, Some(&error.to_string()));
                Err(error.into())
            }
        }
    }

    fn tell(&self, set: &StatefulSet, verb: &str, pod: &str, failure: Option<&str>) {
        let about = format!("{verb} Pod {pod} in StatefulSet {}", set.name());
        match failure {
            None => self.context.recorder.normal(set, &format!("Successful{verb}"), format!("{about} successful")),
            Some(why) => self.context.recorder.warning(set, &format!("Failed{verb}"), format!("{about} failed error: {why}")),
        }
    }

    async fn write_status(&self, set: &StatefulSet, status: StatefulSetStatus) -> Result<(), SyncError> {
        if plan::says(set, &status) {
            return Ok(());
        }
        let api = self.context.client.namespaced::<StatefulSet>(set.namespace());
        let first = api.update_status(&StatefulSet { status: Some(status.clone()), ..set.clone() }).await;
        let written = match first {
            Ok(written) => written,
            Err(error) if error.is_conflict() => {
                // Once more on what is there now.
                let fresh = api.get(set.name()).await?;
                api.update_status(&StatefulSet { status: Some(status), ..fresh }).await?
            }
            Err(error) => return Err(error.into()),
        };
        self.wrote(set, set.uid(), written.metadata.resource_version.as_ref());
        Ok(())
    }

    fn wrote(&self, set: &StatefulSet, uid: &str, version: Option<&String>) {
        self.written.wrote(&set.key(), uid, version, self.context.world.monotonic());
    }
}
