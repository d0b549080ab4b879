//! What a disruption budget's status is to say, and which conditions of pods are out of date. Pure.
//!
//! Source: kubernetes pkg/controller/disruption/disruption.go, component-helpers apps/poddisruptionbudget.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daruma_api::IntOrString;
use daruma_api::core::v1::{ObjectReference, Pod};
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::{Condition, LabelSelector, OwnerReference, Time};
use daruma_api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use daruma_api::selector::Selector;
use daruma_client::events::{EventType, object_reference};
use jiff::Timestamp;

use crate::pods::{self, since, wire_time};
use crate::rollout_counts::scaled;

/// After this long an evicted pod that is still there counts as not evicted (`DeletionTimeout`).
pub const DELETION_TIMEOUT: Duration = Duration::from_secs(120);
/// After this long a pod that was to be disrupted and is not being deleted is not going to be.
pub const STALE_TIMEOUT: Duration = Duration::from_secs(120);

const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";

/// Something to tell: about what, how bad, reason, message.
pub type Told = (ObjectReference, EventType, &'static str, String);

/// What a sync does.
#[derive(Debug, Default)]
pub struct Plan {
    /// The new status, where it differs from the old one.
    pub status: Option<PodDisruptionBudgetStatus>,
    /// Events.
    pub events: Vec<Told>,
    /// When to look again.
    pub again: Option<Duration>,
}

/// The pods that a budget covers, in key order.
///
/// # Errors
/// A selector that makes no sense.
pub fn covered(budget: &PodDisruptionBudget, pods: &[Arc<Pod>]) -> Result<Vec<Arc<Pod>>, String> {
    let selector = Selector::from_label_selector(selector(budget)).map_err(|error| error.to_string())?;
    Ok(pods.iter().filter(|pod| selector.matches(pod.metadata.labels.as_ref())).cloned().collect())
}

/// Whether a budget covers a pod of its namespace.
pub fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    Selector::from_label_selector(selector(budget)).is_ok_and(|selector| selector.matches(pod.metadata.labels.as_ref()))
}

fn selector(budget: &PodDisruptionBudget) -> Option<&LabelSelector> {
    budget.spec.as_ref()?.selector.as_ref()
}

/// Whether the budget is a part of what the pods' owners want, so that their owners' sizes count.
pub fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    budget
        .spec
        .as_ref()
        .is_some_and(|spec| spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_))))
}

/// The owners of pods, each once, with the name of a pod of theirs; and the names of pods without one.
pub fn owners(pods: &[Arc<Pod>]) -> (Vec<(OwnerReference, String)>, Vec<String>) {
    let (mut owners, mut unmanaged) = (BTreeMap::new(), Vec::new());
    for pod in pods {
        match pod.controller() {
            Some(owner) => {
                owners.entry(owner.uid.clone()).or_insert_with(|| (owner.clone(), pod.name().to_owned()));
            }
            None => unmanaged.push(pod.name().to_owned()),
        }
    }
    (owners.into_values().collect(), unmanaged)
}

/// Decides. `expected` is the sum of the sizes of the pods' owners; it is looked at only where
/// [`needs_scale`] says so.
pub fn plan(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], expected: i32, unmanaged: bool, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let about = object_reference(budget);
    if pods.is_empty() {
        plan.events.push((about.clone(), EventType::Normal, "NoPods", "No matching pods found".to_owned()));
    }
    let spec = budget.spec.clone().unwrap_or_default();
    let (expected, desired) = match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => (expected, (expected - scaled(Some(most), expected, true)).max(0)),
        (None, Some(IntOrString::Int(least))) => (pods.len() as i32, *least),
        (None, Some(least)) => (expected, scaled(Some(least), expected, true)),
        (None, None) => (0, 0),
    };
    if unmanaged {
        let message = format!(
            "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.",
            shown(spec.selector.as_ref())
        );
        plan.events.push((about, EventType::Warning, "UnmanagedPods", message));
    }
    let (disrupted, again) = disrupted_pods(budget, pods, now, &mut plan.events);
    plan.again = again;
    let healthy = pods.iter().filter(|pod| !pod.is_being_deleted() && pods::is_ready(pod));
    let current = healthy.filter(|pod| !disrupted.contains_key(pod.name())).count() as i32;
    let allowed = if expected <= 0 { 0 } else { (current - desired).max(0) };
    let old = budget.status.clone().unwrap_or_default();
    let mut new = PodDisruptionBudgetStatus {
        conditions: old.conditions.clone(),
        current_healthy: Some(current),
        desired_healthy: Some(desired),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected),
        observed_generation: budget.metadata.generation,
    };
    let (status, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let condition = old.conditions.iter().flatten().find(|one| one.type_ == DISRUPTION_ALLOWED);
    let says = condition.is_some_and(|one| one.status == status && one.reason == reason);
    if says && same_counts(&old, &new) {
        return plan;
    }
    set_condition(&mut new, status, reason, "", now);
    plan.status = Some(new);
    plan
}

/// The status to write when nothing else can be found out: no disruption.
pub fn fail_safe(budget: &PodDisruptionBudget, why: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    let mut status = PodDisruptionBudgetStatus { disruptions_allowed: Some(0), ..budget.status.clone().unwrap_or_default() };
    set_condition(&mut status, "False", "SyncFailed", why, now);
    status
}

fn same_counts(old: &PodDisruptionBudgetStatus, new: &PodDisruptionBudgetStatus) -> bool {
    let plain = |status: &PodDisruptionBudgetStatus| {
        let count = |count: Option<i32>| count.unwrap_or_default();
        (
            [status.current_healthy, status.desired_healthy, status.disruptions_allowed, status.expected_pods].map(count),
            status.observed_generation.unwrap_or_default(),
            status.disrupted_pods.clone().unwrap_or_default(),
        )
    };
    plain(old) == plain(new)
}

/// Sets the condition; the transition time moves with the status only (`meta.SetStatusCondition`).
fn set_condition(status: &mut PodDisruptionBudgetStatus, value: &str, reason: &str, message: &str, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    let mut new = Condition {
        type_: DISRUPTION_ALLOWED.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: status.observed_generation,
        last_transition_time: wire_time(now),
    };
    match conditions.iter_mut().find(|one| one.type_ == DISRUPTION_ALLOWED) {
        Some(old) => {
            if old.status == new.status {
                new.last_transition_time = old.last_transition_time.clone();
            }
            *old = new;
        }
        None => conditions.push(new),
    }
}

/// Pods that were evicted and are still to be deleted; when the first of them will have had its time.
fn disrupted_pods(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    now: Timestamp,
    events: &mut Vec<Told>,
) -> (BTreeMap<String, Time>, Option<Duration>) {
    let (mut kept, mut again): (BTreeMap<String, Time>, Option<Duration>) = (BTreeMap::new(), None);
    let Some(listed) = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref()) else { return (kept, again) };
    for pod in pods.iter().filter(|pod| !pod.is_being_deleted()) {
        let Some(time) = listed.get(pod.name()) else { continue };
        let age = since(time.0, now);
        if age > DELETION_TIMEOUT {
            // The real message names the namespace twice.
            let namespace = budget.namespace();
            let message = format!("Pod was expected by PDB {namespace}/{namespace} to be deleted but it wasn't");
            events.push((object_reference(pod.as_ref()), EventType::Warning, "NotDeleted", message));
        } else {
            let left = DELETION_TIMEOUT.saturating_sub(age);
            again = Some(again.map_or(left, |again| again.min(left)));
            kept.insert(pod.name().to_owned(), time.clone());
        }
    }
    // A look at the very end of the time would find it not over yet.
    (kept, again.map(|again| again + Duration::from_secs(1)))
}

/// How long until a pod's condition `DisruptionTarget` is out of date (zero: it is); `None` where it is not
/// going to be. What the kubelet has set stays.
pub fn stale_after(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let target = pods::condition(pod.status.as_ref(), "DisruptionTarget")?;
    let kept = pod.is_being_deleted() || pods::is_terminal(pod) || target.reason.as_deref() == Some("TerminationByKubelet");
    if kept || target.status != "True" {
        return None;
    }
    let changed = target.last_transition_time.as_ref().map_or(now, |time| time.0);
    Some(STALE_TIMEOUT.saturating_sub(since(changed, now)))
}

/// A selector as Go prints it.
fn shown(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return "nil".to_owned() };
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value},"));
    let expressions = selector.match_expressions.iter().flatten().map(|one| {
        let values = one.values.clone().unwrap_or_default().join(" ");
        format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", one.key, one.operator)
    });
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        labels.collect::<String>(),
        expressions.collect::<String>()
    )
}
