//! What a Deployment's status says: counts, availability, progress.
//!
//! Source: kubernetes pkg/controller/deployment (sync.go, progress.go, util/deployment_util.go).

use std::sync::Arc;
use std::time::Duration;

use daruma_api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use daruma_api::meta::ObjectExt;
use jiff::Timestamp;

use super::sets::{actual, available, max_unavailable, total, wanted};
use crate::pods::{nonzero, since, wire_time};

/// Condition: the rollout goes on, is over, or is stuck.
pub const PROGRESSING: &str = "Progressing";
/// Condition: enough pods are available.
pub const AVAILABLE: &str = "Available";
/// Condition: pods cannot be created.
pub const REPLICA_FAILURE: &str = "ReplicaFailure";
/// Reason: the rollout has succeeded.
pub const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
/// Reason: the rollout showed no progress for too long.
pub const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// A condition that changes now.
pub fn new_condition(kind: &str, status: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(wire_time(now)),
        last_transition_time: Some(wire_time(now)),
    }
}

/// One condition.
pub fn find<'a>(status: Option<&'a DeploymentStatus>, kind: &str) -> Option<&'a DeploymentCondition> {
    status?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// Sets a condition, unless one of the same status and reason is there.
pub fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    if let Some(old) = find(Some(status), &condition.type_) {
        if old.status == condition.status && old.reason == condition.reason {
            return;
        }
        if old.status == condition.status {
            condition.last_transition_time.clone_from(&old.last_transition_time);
        }
    }
    remove(status, &condition.type_);
    status.conditions.get_or_insert_default().push(condition);
}

/// Removes a condition.
pub fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != kind);
    }
}

/// `spec.progressDeadlineSeconds`, where progress is watched at all.
pub fn progress_deadline(deployment: &Deployment) -> Option<Duration> {
    let seconds = deployment.spec.as_ref()?.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX)?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
}

/// Counts and availability.
pub fn calculate(deployment: &Deployment, all: &[Arc<ReplicaSet>], new: Option<&ReplicaSet>, now: Timestamp) -> DeploymentStatus {
    let old = deployment.status.as_ref();
    let available = all.iter().map(|set| available(set)).sum::<i32>();
    let ready = all.iter().filter_map(|set| set.status.as_ref()?.ready_replicas).sum::<i32>();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: nonzero(all.iter().map(|set| actual(set)).sum()),
        updated_replicas: nonzero(new.map(actual).unwrap_or_default()),
        ready_replicas: nonzero(ready),
        available_replicas: nonzero(available),
        unavailable_replicas: nonzero((total(all.iter().map(AsRef::as_ref)) - available).max(0)),
        terminating_replicas: terminating(all),
        collision_count: old.and_then(|old| old.collision_count),
        conditions: old.and_then(|old| old.conditions.clone()),
    };
    let (value, reason, message) = if available >= wanted(deployment) - max_unavailable(deployment) {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut status, new_condition(AVAILABLE, value, reason, message.to_owned(), now));
    status
}

/// The sum, unless a ReplicaSet that was looked at has not said.
fn terminating(all: &[Arc<ReplicaSet>]) -> Option<i32> {
    all.iter().try_fold(0, |sum, set| {
        let status = set.status.as_ref();
        match status.and_then(|status| status.terminating_replicas) {
            Some(count) => Some(sum + count),
            None if status.and_then(|status| status.observed_generation).unwrap_or_default() == 0 => Some(sum),
            None => None,
        }
    })
}

/// Status during a rollout, with progress.
pub fn rollout(deployment: &Deployment, all: &[Arc<ReplicaSet>], new: Option<&ReplicaSet>, now: Timestamp) -> DeploymentStatus {
    let mut status = calculate(deployment, all, new, now);
    let deadline = progress_deadline(deployment);
    if deadline.is_none() {
        remove(&mut status, PROGRESSING);
    }
    let current = find(deployment.status.as_ref(), PROGRESSING).cloned();
    let over = status.replicas == status.updated_replicas
        && current.as_ref().is_some_and(|current| current.reason.as_deref() == Some(NEW_SET_AVAILABLE));
    if let Some(deadline) = deadline
        && !over
    {
        let subject = match new {
            Some(new) => format!("ReplicaSet \"{}\"", new.name()),
            None => format!("Deployment \"{}\"", deployment.name()),
        };
        if is_complete(deployment, &status) {
            let message = format!("{subject} has successfully progressed.");
            set(&mut status, new_condition(PROGRESSING, "True", NEW_SET_AVAILABLE, message, now));
        } else if has_progressed(deployment, &status) {
            let message = format!("{subject} is progressing.");
            let mut condition = new_condition(PROGRESSING, "True", "ReplicaSetUpdated", message, now);
            // Progress moves the update time even where status and reason stay.
            if let Some(current) = &current {
                if current.status == "True" {
                    condition.last_transition_time.clone_from(&current.last_transition_time);
                }
                remove(&mut status, PROGRESSING);
            }
            set(&mut status, condition);
        } else if has_timed_out(&status, deadline, now) {
            let message = format!("{subject} has timed out progressing.");
            set(&mut status, new_condition(PROGRESSING, "False", TIMED_OUT, message, now));
        }
    }
    match replica_failure(all, new) {
        Some(failure) => set(&mut status, failure),
        None => remove(&mut status, REPLICA_FAILURE),
    }
    status
}

/// Whether all pods are new and available, and no old ones are left.
pub fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = nonzero(wanted(deployment));
    status.updated_replicas.and_then(nonzero) == wanted
        && status.replicas.and_then(nonzero) == wanted
        && status.available_replicas.and_then(nonzero) == wanted
        && status.observed_generation >= deployment.metadata.generation
}

fn has_progressed(deployment: &Deployment, new: &DeploymentStatus) -> bool {
    let none = DeploymentStatus::default();
    let old = deployment.status.as_ref().unwrap_or(&none);
    let count = Option::<i32>::unwrap_or_default;
    let outdated = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || outdated(new) < outdated(old)
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}

fn has_timed_out(status: &DeploymentStatus, deadline: Duration, now: Timestamp) -> bool {
    let Some(condition) = find(Some(status), PROGRESSING) else { return false };
    match condition.reason.as_deref() {
        Some(NEW_SET_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => condition.last_update_time.as_ref().is_some_and(|updated| since(updated.0, now) > deadline),
    }
}

/// When to look again at a rollout that shows no progress; `None` when there is nothing to wait for.
pub fn stuck_check(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let deadline = progress_deadline(deployment)?;
    let current = find(deployment.status.as_ref(), PROGRESSING)?;
    if is_complete(deployment, status) || current.reason.as_deref() == Some(TIMED_OUT) {
        return None;
    }
    let updated = current.last_update_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    // A second more, so that whole seconds do not hide the end of the deadline.
    Some(deadline.saturating_sub(since(updated, now)) + Duration::from_secs(1))
}

fn replica_failure(all: &[Arc<ReplicaSet>], new: Option<&ReplicaSet>) -> Option<DeploymentCondition> {
    let mut sets = new.into_iter().chain(all.iter().map(AsRef::as_ref));
    let failure = sets
        .find_map(|set| set.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == REPLICA_FAILURE))?;
    Some(DeploymentCondition {
        type_: failure.type_.clone(),
        status: failure.status.clone(),
        reason: failure.reason.clone(),
        message: failure.message.clone(),
        last_transition_time: failure.last_transition_time.clone(),
        last_update_time: failure.last_transition_time.clone(),
    })
}

/// Whether two statuses say the same; zero and missing are one.
pub fn same(old: Option<&DeploymentStatus>, new: &DeploymentStatus) -> bool {
    fn conditions(status: &DeploymentStatus) -> &[DeploymentCondition] {
        status.conditions.as_deref().unwrap_or_default()
    }
    let counts = |status: &DeploymentStatus| {
        [status.replicas, status.updated_replicas, status.ready_replicas, status.available_replicas, status.unavailable_replicas]
            .map(|count| count.and_then(nonzero))
    };
    let rest = |status: &DeploymentStatus| {
        (status.observed_generation.unwrap_or(0), status.collision_count, status.terminating_replicas)
    };
    old.is_some_and(|old| counts(old) == counts(new) && rest(old) == rest(new) && conditions(old) == conditions(new))
}
