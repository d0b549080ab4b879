//! What a Deployment does next.
//!
//! Source: kubernetes pkg/controller/deployment (deployment_controller.go, sync.go, rolling.go,
//! recreate.go). One plan is one run of the real controller's sync; where that would run into its own
//! stale copy and start anew, the plan goes on from what it has just written.

use std::sync::Arc;
use std::time::Duration;

use daruma_api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use daruma_api::meta::{ObjectExt, controller_reference};
use daruma_api::metav1::{LabelSelector, ObjectMeta};
use jiff::Timestamp;

use super::revision::{self, REVISION, set_annotations, set_counts, set_deployment_revision};
use super::sets::{self, available, by_creation, by_revision, max_surge, max_unavailable, replicas, total, wanted};
use super::status::{self, PROGRESSING, new_condition, progress_deadline};
use crate::template_hash::{POD_TEMPLATE_HASH, template_hash};

/// Longest object name.
const NAME_LIMIT: usize = 253;

/// One write. Writes are done in order, up to the first that fails.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Creates the new ReplicaSet.
    Create(Box<ReplicaSet>),
    /// Replaces a ReplicaSet; the text is the message of the `ScalingReplicaSet` event that follows.
    Update(Box<ReplicaSet>, Option<String>),
    /// Deletes a ReplicaSet of the history.
    Delete(String),
    /// Writes the Deployment's status (and its revision annotation).
    Status(Arc<Deployment>),
    /// The Deployment selects every pod: an event says so.
    SelectsAll,
}

/// What to do now, and when to look again.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Writes in order.
    pub actions: Vec<Action>,
    /// When to look again if nothing happens.
    pub again: Option<Duration>,
}

/// Decides. `sets` are the ReplicaSets that the Deployment owns; `old_pods_run` says whether pods of
/// ReplicaSets other than the one with the given uid are still running (asked by `Recreate` only).
pub fn plan(
    deployment: &Arc<Deployment>,
    sets: &[Arc<ReplicaSet>],
    old_pods_run: &dyn Fn(Option<&str>) -> bool,
    now: Timestamp,
) -> Plan {
    let mut planner = Planner::new(deployment, sets, now);
    planner.run(old_pods_run);
    planner.plan
}

struct Planner {
    /// Copied when it is changed.
    deployment: Arc<Deployment>,
    new: Option<Arc<ReplicaSet>>,
    old: Vec<Arc<ReplicaSet>>,
    now: Timestamp,
    plan: Plan,
}

impl Planner {
    fn new(deployment: &Arc<Deployment>, sets: &[Arc<ReplicaSet>], now: Timestamp) -> Self {
        let new = sets::find_new(deployment, sets).cloned();
        let new_uid = new.as_ref().map(|new| new.uid().to_owned());
        let mut old: Vec<Arc<ReplicaSet>> = sets.iter().filter(|set| Some(set.uid()) != new_uid.as_deref()).cloned().collect();
        old.sort_by(|a, b| by_creation(a, b));
        Self { deployment: deployment.clone(), new, old, now, plan: Plan::default() }
    }

    fn run(&mut self, old_pods_run: &dyn Fn(Option<&str>) -> bool) {
        let spec = self.deployment.spec.as_ref();
        let paused = spec.and_then(|spec| spec.paused) == Some(true);
        if spec.is_none_or(|spec| spec.selector == LabelSelector::default()) {
            self.plan.actions.push(Action::SelectsAll);
            let generation = self.deployment.metadata.generation;
            let status = self.change().status.get_or_insert_default();
            if status.observed_generation.unwrap_or_default() < generation.unwrap_or_default() {
                status.observed_generation = generation;
                self.write_status();
            }
            return;
        }
        if self.deployment.is_being_deleted() {
            self.sync_new_set();
            return self.sync_status();
        }
        self.check_paused(paused);
        self.sync_new_set();
        if paused || self.is_scaling_event() {
            self.scale();
            if paused {
                self.clean_up();
            }
            return self.sync_status();
        }
        match sets::strategy(&self.deployment) {
            "Recreate" => self.recreate(old_pods_run),
            _ => self.roll(),
        }
    }

    fn check_paused(&mut self, paused: bool) {
        if progress_deadline(&self.deployment).is_none() {
            return;
        }
        let reason = status::find(self.deployment.status.as_ref(), PROGRESSING).and_then(|condition| condition.reason.clone());
        let (reason, message) = match (paused, reason.as_deref()) {
            (_, Some(status::TIMED_OUT)) | (true, Some("DeploymentPaused")) => return,
            (true, _) => ("DeploymentPaused", "Deployment is paused"),
            (false, Some("DeploymentPaused")) => ("DeploymentResumed", "Deployment is resumed"),
            (false, _) => return,
        };
        let condition = new_condition(PROGRESSING, "Unknown", reason, message.to_owned(), self.now);
        status::set(self.change().status.get_or_insert_default(), condition);
        self.write_status();
    }

    /// Brings annotations of an existing new ReplicaSet, and the Deployment's revision, up to date.
    fn sync_new_set(&mut self) {
        let revision = revision::max_revision(&self.old) + 1;
        let Some(new) = self.new.clone() else { return };
        let mut annotations = new.metadata.annotations.clone().unwrap_or_default();
        let changed = set_annotations(&self.deployment, &mut annotations, revision);
        let min_ready = self.deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default();
        if changed || new.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default() != min_ready {
            let mut annotated = new.as_ref().clone();
            annotated.metadata.annotations = Some(annotations);
            annotated.spec.get_or_insert_default().min_ready_seconds = (min_ready != 0).then_some(min_ready);
            self.plan.actions.push(Action::Update(Box::new(annotated.clone()), None));
            self.new = Some(Arc::new(annotated));
            return;
        }
        let own = new.annotation(REVISION).unwrap_or_default().to_owned();
        let mut write = self.deployment.annotation(REVISION) != Some(&own) && set_deployment_revision(self.change(), &own);
        if progress_deadline(&self.deployment).is_some() && status::find(self.deployment.status.as_ref(), PROGRESSING).is_none() {
            let message = format!("Found new replica set \"{}\"", new.name());
            let condition = new_condition(PROGRESSING, "True", "FoundNewReplicaSet", message, self.now);
            status::set(self.change().status.get_or_insert_default(), condition);
            write = true;
        }
        if write {
            self.write_status();
        }
    }

    /// Creates the new ReplicaSet where there is none.
    fn create_new_set(&mut self) {
        if self.new.is_some() {
            return;
        }
        let spec = self.deployment.spec.clone().unwrap_or_default();
        let collisions = self.deployment.status.as_ref().and_then(|status| status.collision_count);
        let hash = template_hash(&spec.template, collisions);
        let mut template = spec.template;
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(POD_TEMPLATE_HASH.to_owned(), hash.clone());
        let mut selector = spec.selector;
        selector.match_labels.get_or_insert_default().insert(POD_TEMPLATE_HASH.to_owned(), hash.clone());
        let base: String = self.deployment.name().chars().take(NAME_LIMIT - 1 - hash.len()).collect();
        let mut new = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{base}-{hash}")),
                namespace: self.deployment.metadata.namespace.clone(),
                labels: template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()),
                owner_references: Some(vec![controller_reference(self.deployment.as_ref())]),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(sets::new_replicas(&self.deployment, total(self.old.iter().map(AsRef::as_ref)), 0)),
                min_ready_seconds: spec.min_ready_seconds,
                selector,
                template: Some(template),
            }),
            status: None,
        };
        let revision = revision::max_revision(&self.old) + 1;
        set_annotations(&self.deployment, new.metadata.annotations.get_or_insert_default(), revision);
        set_counts(&self.deployment, &mut new);
        self.plan.actions.push(Action::Create(Box::new(new.clone())));
        let mut write = set_deployment_revision(self.change(), &revision.to_string());
        if progress_deadline(&self.deployment).is_some() {
            let message = format!("Created new replica set \"{}\"", new.name());
            let condition = new_condition(PROGRESSING, "True", "NewReplicaSetCreated", message, self.now);
            status::set(self.change().status.get_or_insert_default(), condition);
            write = true;
        }
        if write {
            self.write_status();
        }
        self.new = Some(Arc::new(new));
    }

    fn is_scaling_event(&self) -> bool {
        let wanted = wanted(&self.deployment);
        let active = self.all().into_iter().filter(|set| replicas(set) > 0);
        active.filter_map(|set| sets::count_annotation(&set, revision::DESIRED_REPLICAS)).any(|desired| desired != wanted)
    }

    /// Scales without rolling: one ReplicaSet as a whole, or several in proportion.
    fn scale(&mut self) {
        let wanted = wanted(&self.deployment);
        if self.new.is_none() && self.old.is_empty() {
            return;
        }
        if let Some(only) = sets::active_or_latest(self.new.as_ref(), &self.old) {
            let only = only.clone();
            self.scale_set(&only, wanted, false);
            return;
        }
        if sets::is_saturated(&self.deployment, self.new.as_deref()) {
            for old in self.old.clone().iter().filter(|set| replicas(set) > 0) {
                self.scale_set(old, 0, false);
            }
            return;
        }
        if !sets::is_rolling(&self.deployment) {
            return;
        }
        let mut all: Vec<Arc<ReplicaSet>> = self.all().into_iter().filter(|set| replicas(set) > 0).collect();
        let allowed = if wanted > 0 { wanted + max_surge(&self.deployment) } else { 0 };
        let to_add = allowed - total(all.iter().map(AsRef::as_ref));
        if to_add > 0 {
            all.sort_by(|a, b| sets::by_size_newer(a, b));
        } else if to_add < 0 {
            all.sort_by(|a, b| sets::by_size_older(a, b));
        }
        let mut added = 0;
        let mut sizes: Vec<i32> = Vec::with_capacity(all.len());
        for set in &all {
            let part = sets::proportion(set, &self.deployment, to_add, added);
            added += part;
            sizes.push(replicas(set) + part);
        }
        // The largest takes what rounding left over.
        if let Some(first) = sizes.first_mut() {
            *first = (*first + to_add - added).max(0);
        }
        for (set, size) in all.iter().zip(sizes) {
            self.scale_set(set, size, true);
        }
    }

    /// Plans a change of size, giving whether the size changes. `annotate` records the Deployment's
    /// size even where the ReplicaSet's stays.
    fn scale_set(&mut self, set: &ReplicaSet, size: i32, annotate: bool) -> bool {
        let before = replicas(set);
        if before == size && !annotate {
            return false;
        }
        let mut scaled = set.clone();
        let recorded = set_counts(&self.deployment, &mut scaled);
        if before == size && !recorded {
            return false;
        }
        scaled.spec.get_or_insert_default().replicas = Some(size);
        let message = (before != size).then(|| {
            let direction = if before < size { "up" } else { "down" };
            format!("Scaled {direction} replica set {} from {before} to {size}", set.name())
        });
        self.plan.actions.push(Action::Update(Box::new(scaled), message));
        before != size
    }

    fn roll(&mut self) {
        self.create_new_set();
        let Some(new) = self.new.clone() else { return };
        let wanted = wanted(&self.deployment);
        let size = if replicas(&new) >= wanted {
            wanted
        } else {
            sets::new_replicas(&self.deployment, total(self.all().iter().map(AsRef::as_ref)), replicas(&new))
        };
        if self.scale_set(&new, size, false) || self.shrink_old(&new) {
            return self.sync_rollout_status();
        }
        self.clean_up_when_complete();
        self.sync_rollout_status();
    }

    /// Scales old ReplicaSets down as far as availability allows: pods that are not healthy first.
    fn shrink_old(&mut self, new: &ReplicaSet) -> bool {
        let mut old: Vec<ReplicaSet> = self.old.iter().filter(|set| replicas(set) > 0).map(|set| set.as_ref().clone()).collect();
        if old.is_empty() {
            return false;
        }
        let min_available = wanted(&self.deployment) - max_unavailable(&self.deployment);
        let new_unavailable = replicas(new) - available(new);
        let most = total(self.all().iter().map(AsRef::as_ref)) - min_available - new_unavailable;
        if most <= 0 {
            return false;
        }
        let mut cleaned = 0;
        for set in &mut old {
            if cleaned >= most {
                break;
            }
            let unhealthy = replicas(set) - available(set);
            if unhealthy < 0 {
                // Its status is older than its size, so that the sum of available pods is not to be built on: the real
                // controller fails here ("got invalid request to scale down") and waits for what comes next.
                return cleaned > 0;
            }
            let count = (most - cleaned).min(unhealthy);
            if count == 0 {
                continue;
            }
            let size = replicas(set) - count;
            self.scale_set(&set.clone(), size, false);
            set.spec.get_or_insert_default().replicas = Some(size);
            set_counts(&self.deployment, set);
            cleaned += count;
        }
        let spare = old.iter().chain([new]).map(available).sum::<i32>() - min_available;
        let mut shrunk = 0;
        for set in old.iter().filter(|set| replicas(set) > 0) {
            if shrunk >= spare {
                break;
            }
            let count = replicas(set).min(spare - shrunk);
            self.scale_set(set, replicas(set) - count, false);
            shrunk += count;
        }
        cleaned + shrunk > 0
    }

    fn recreate(&mut self, old_pods_run: &dyn Fn(Option<&str>) -> bool) {
        let mut scaled = false;
        for old in self.old.clone().iter().filter(|set| replicas(set) > 0) {
            scaled |= self.scale_set(old, 0, false);
        }
        let waits = || self.old.iter().any(|set| sets::actual(set) > 0) || old_pods_run(self.new.as_deref().map(ObjectExt::uid));
        if scaled || waits() {
            return self.sync_rollout_status();
        }
        self.create_new_set();
        if let Some(new) = self.new.clone() {
            self.scale_set(&new, wanted(&self.deployment), false);
        }
        self.clean_up_when_complete();
        self.sync_rollout_status();
    }

    fn clean_up_when_complete(&mut self) {
        let none = DeploymentStatus::default();
        if status::is_complete(&self.deployment, self.deployment.status.as_ref().unwrap_or(&none)) {
            self.clean_up();
        }
    }

    /// Deletes the oldest ReplicaSets beyond the history limit, where they are empty.
    fn clean_up(&mut self) {
        let limit = self.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit);
        let Some(limit) = limit.filter(|limit| *limit != i32::MAX) else { return };
        let mut kept: Vec<&ReplicaSet> = self.old.iter().map(AsRef::as_ref).filter(|set| !set.is_being_deleted()).collect();
        let surplus = kept.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
        kept.sort_by(|a, b| by_revision(a, b));
        let observed = |set: &ReplicaSet| set.status.as_ref().and_then(|status| status.observed_generation).unwrap_or_default();
        let empty = |set: &&&ReplicaSet| {
            sets::actual(set) == 0 && replicas(set) == 0 && set.metadata.generation.unwrap_or_default() <= observed(set)
        };
        let names = kept.iter().take(surplus).filter(empty).map(|set| set.name().to_owned());
        let deletions: Vec<Action> = names.map(Action::Delete).collect();
        self.plan.actions.extend(deletions);
    }

    fn sync_status(&mut self) {
        let status = status::calculate(&self.deployment, &self.all(), self.new.as_deref(), self.now);
        self.write_new_status(status);
    }

    fn sync_rollout_status(&mut self) {
        let status = status::rollout(&self.deployment, &self.all(), self.new.as_deref(), self.now);
        let again = status::stuck_check(&self.deployment, &status, self.now);
        if !self.write_new_status(status) {
            self.plan.again = again;
        }
    }

    fn write_new_status(&mut self, status: DeploymentStatus) -> bool {
        if status::same(self.deployment.status.as_ref(), &status) {
            return false;
        }
        self.change().status = Some(status);
        self.write_status();
        true
    }

    fn write_status(&mut self) {
        self.plan.actions.push(Action::Status(self.deployment.clone()));
    }

    /// The Deployment, to be changed.
    fn change(&mut self) -> &mut Deployment {
        Arc::make_mut(&mut self.deployment)
    }

    /// Old and new ReplicaSets as they were before this plan's scaling.
    fn all(&self) -> Vec<Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new).cloned().collect()
    }
}
