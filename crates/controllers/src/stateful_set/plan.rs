//! What a StatefulSet is to do, and what its status is to say. Pure.
//!
//! Source: kubernetes pkg/controller/statefulset/stateful_set_control.go (`updateStatefulSet`), with the feature
//! gate MaxUnavailableStatefulSet off, as it is in v1.36.

use std::sync::Arc;
use std::time::Duration;

use daruma_api::apps::v1::{StatefulSet, StatefulSetStatus};
use daruma_api::core::v1::{Pod, PodTemplateSpec};
use daruma_api::meta::ObjectExt;
use jiff::Timestamp;

use super::identity::{self, new_pod, ordinal, start};
use crate::pods;

/// A revision by name, with the template that it keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct Revision {
    /// Name of the ControllerRevision.
    pub name: String,
    /// Its template.
    pub template: PodTemplateSpec,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create a pod.
    Create(Box<Pod>),
    /// Delete a pod.
    Delete(Arc<Pod>),
    /// Give a pod its labels back.
    Update(Box<Pod>),
}

/// What a sync does.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Steps in order; the actions of one step are independent of each other. A step is begun when the one
    /// before it has gone well.
    pub steps: Vec<Vec<Action>>,
    /// The status to write.
    pub status: StatefulSetStatus,
    /// Pods that leave the current revision when all steps go well; `status` still counts them.
    pub leaving: i32,
    /// When a pod that is ready will count as available, where some do not yet.
    pub again: Option<Duration>,
}

/// What is seen.
pub struct Seen<'a> {
    /// The set.
    pub set: &'a StatefulSet,
    /// The pods that it owns.
    pub pods: &'a [Arc<Pod>],
    /// The revision that an unfinished update starts from.
    pub current: &'a Revision,
    /// The revision of the set's present template.
    pub update: &'a Revision,
    /// Collisions of revisions' names so far.
    pub collisions: i32,
    /// Now.
    pub now: Timestamp,
}

/// A place of the set: the pod that has it, or the one to be created.
enum Place {
    Taken(Arc<Pod>),
    Missing(Box<Pod>),
}

/// Decides.
pub fn plan(seen: &Seen<'_>) -> Plan {
    let mut plan = Plan { status: status(seen), again: next_availability(seen), ..Plan::default() };
    if !seen.set.is_being_deleted() {
        plan.leaving = act(seen, &mut plan.steps);
    }
    plan.steps.retain(|step| !step.is_empty());
    complete_rolling_update(seen, &mut plan.status);
    plan
}

/// Fills in the steps; gives how many pods leave the current revision.
fn act(seen: &Seen<'_>, steps: &mut Vec<Vec<Action>>) -> i32 {
    let in_order = seen.set.spec.as_ref().and_then(|spec| spec.pod_management_policy.as_deref()) != Some("Parallel");
    let (places, mut surplus) = places(seen);
    surplus.sort_by_key(|pod| std::cmp::Reverse(ordinal(pod)));
    let (step, blocked) = fill(seen, &places, in_order);
    steps.push(step);
    if blocked {
        return 0;
    }
    let (step, blocked) = scale_down(seen, &places, &surplus, in_order);
    steps.push(step);
    if blocked || is_on_delete(seen.set) {
        return 0;
    }
    let outdated = roll(seen, &places);
    let left = i32::from(outdated.is_some());
    steps.push(outdated.map(Action::Delete).into_iter().collect());
    left
}

/// The set's places in order, and the pods that have none.
fn places(seen: &Seen<'_>) -> (Vec<Place>, Vec<Arc<Pod>>) {
    let (first, count) = (start(seen.set), identity::replicas(seen.set).max(0));
    let in_range = |pod: &Pod| ordinal(pod).is_some_and(|number| (first..first + count).contains(&number));
    let places = (first..first + count).map(|number| match seen.pods.iter().find(|pod| ordinal(pod) == Some(number)) {
        Some(pod) => Place::Taken(pod.clone()),
        None => Place::Missing(Box::new(versioned_pod(seen, number))),
    });
    let surplus = seen.pods.iter().filter(|pod| ordinal(pod).is_some() && !in_range(pod));
    (places.collect(), surplus.cloned().collect())
}

/// A new pod: below the partition, and below what has not been updated, it is of the current revision.
fn versioned_pod(seen: &Seen<'_>, number: i32) -> Pod {
    let spec = seen.set.spec.clone().unwrap_or_default();
    let strategy = spec.update_strategy.unwrap_or_default();
    let first_updated = match &strategy.rolling_update {
        Some(rolling) => rolling.partition.unwrap_or_default(),
        None if strategy.type_.as_deref() == Some("RollingUpdate") => {
            seen.set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or_default()
        }
        None => 0,
    };
    let revision = if number < start(seen.set) + first_updated { seen.current } else { seen.update };
    new_pod(seen.set, &revision.template, &revision.name, number)
}

/// Creates what is missing and removes what has ended; whether the rest has to wait.
fn fill(seen: &Seen<'_>, places: &[Place], in_order: bool) -> (Vec<Action>, bool) {
    let mut step = Vec::new();
    for place in places {
        match place {
            Place::Missing(pod) => {
                step.push(Action::Create(pod.clone()));
                if in_order {
                    return (step, true);
                }
            }
            Place::Taken(pod) if pods::is_terminal(pod) => {
                if !pod.is_being_deleted() {
                    step.push(Action::Delete(pod.clone()));
                }
                if in_order {
                    return (step, true);
                }
            }
            Place::Taken(pod) => {
                if in_order && (pod.is_being_deleted() || !is_running_and_ready(pod) || !is_available(seen, pod)) {
                    return (step, true);
                }
                if !identity::matches(seen.set, pod) {
                    step.push(Action::Update(Box::new(identity::with_identity(pod))));
                }
            }
        }
    }
    (step, false)
}

/// Deletes pods that are too many, the highest first; whether the rest has to wait.
fn scale_down(seen: &Seen<'_>, places: &[Place], surplus: &[Arc<Pod>], in_order: bool) -> (Vec<Action>, bool) {
    if !in_order {
        let going = surplus.iter().filter(|pod| !pod.is_being_deleted()).cloned();
        return (going.map(Action::Delete).collect(), false);
    }
    let Some(highest) = surplus.first() else { return (Vec::new(), false) };
    // In order, all places are taken and available here, unless a pod was missing.
    let in_place = places.iter().filter_map(|place| if let Place::Taken(pod) = place { Some(pod) } else { None });
    let sick = in_place.chain(surplus.iter().rev()).find(|pod| is_unavailable(seen, pod));
    let is_sick = sick.is_some_and(|pod| pod.uid() == highest.uid());
    let may_go = is_sick || (is_running_and_ready(highest) && is_available(seen, highest));
    let waits = highest.is_being_deleted() || !may_go;
    (if waits { Vec::new() } else { vec![Action::Delete(highest.clone())] }, true)
}

/// The pod that has to go for the update: the highest that is not of the new revision, once all above it are available.
fn roll(seen: &Seen<'_>, places: &[Place]) -> Option<Arc<Pod>> {
    let strategy = seen.set.spec.as_ref()?.update_strategy.as_ref();
    let partition = strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.partition).unwrap_or_default();
    for place in places.iter().skip(usize::try_from(partition).unwrap_or_default()).rev() {
        let Place::Taken(pod) = place else { return None };
        if identity::revision(pod) != seen.update.name && !pod.is_being_deleted() {
            return Some(pod.clone());
        }
        if is_unavailable(seen, pod) {
            return None;
        }
    }
    None
}

fn is_on_delete(set: &StatefulSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref()?.type_.as_deref());
    strategy == Some("OnDelete")
}

fn min_ready_seconds(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default()
}

fn is_running_and_ready(pod: &Pod) -> bool {
    pods::phase(pod) == "Running" && pods::is_ready(pod)
}

fn is_available(seen: &Seen<'_>, pod: &Pod) -> bool {
    pods::is_available(pod, min_ready_seconds(seen.set), seen.now)
}

fn is_unavailable(seen: &Seen<'_>, pod: &Pod) -> bool {
    pod.is_being_deleted() || !is_available(seen, pod)
}

fn status(seen: &Seen<'_>) -> StatefulSetStatus {
    let count = |test: &dyn Fn(&Pod) -> bool| seen.pods.iter().filter(|pod| test(pod)).count() as i32;
    let of = |pod: &Pod, revision: &Revision| {
        !pods::phase(pod).is_empty() && !pod.is_being_deleted() && identity::revision(pod) == revision.name
    };
    StatefulSetStatus {
        observed_generation: seen.set.metadata.generation,
        replicas: count(&|pod| !pods::phase(pod).is_empty()),
        ready_replicas: Some(count(&is_running_and_ready)),
        available_replicas: Some(count(&|pod| is_running_and_ready(pod) && is_available(seen, pod))),
        current_replicas: Some(count(&|pod| of(pod, seen.current))),
        updated_replicas: Some(count(&|pod| of(pod, seen.update))),
        current_revision: Some(seen.current.name.clone()),
        update_revision: Some(seen.update.name.clone()),
        collision_count: Some(seen.collisions),
        conditions: None,
    }
}

/// When every pod is new and ready, the new revision is the current one.
fn complete_rolling_update(seen: &Seen<'_>, status: &mut StatefulSetStatus) {
    let wanted = identity::replicas(seen.set);
    let all = [Some(status.replicas), status.updated_replicas, status.ready_replicas].iter().all(|count| *count == Some(wanted));
    if all && !is_on_delete(seen.set) {
        status.current_replicas = status.updated_replicas;
        status.current_revision.clone_from(&status.update_revision);
    }
}

/// Whether the stored status already says `new`. Zero and missing are one.
pub fn says(set: &StatefulSet, new: &StatefulSetStatus) -> bool {
    let plain = |status: &StatefulSetStatus| {
        let counts = [status.ready_replicas, status.current_replicas, status.updated_replicas, status.available_replicas];
        (
            status.replicas,
            counts.map(Option::unwrap_or_default),
            status.current_revision.clone().unwrap_or_default(),
            status.update_revision.clone().unwrap_or_default(),
        )
    };
    let old = set.status.clone().unwrap_or_default();
    new.observed_generation <= old.observed_generation && plain(&old) == plain(new)
}

fn next_availability(seen: &Seen<'_>) -> Option<Duration> {
    let least = min_ready_seconds(seen.set);
    if least == 0 {
        return None;
    }
    let waiting = seen.pods.iter().filter(|pod| is_running_and_ready(pod) && !is_available(seen, pod));
    waiting.filter_map(|pod| pods::next_availability_check(pod, least, seen.now)).filter(|wait| !wait.is_zero()).min()
}
