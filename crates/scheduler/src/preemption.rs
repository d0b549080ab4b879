//! Making room: which pods of lower priority have to go so that a pod fits. Pure.
//!
//! Source: kubernetes pkg/scheduler/framework/plugins/defaultpreemption/default_preemption.go,
//! pkg/scheduler/framework/preemption/preemption.go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daruma_api::core::v1::Pod;
use daruma_api::meta::ObjectExt;
use daruma_api::policy::v1::PodDisruptionBudget;
use daruma_api::selector::Selector;
use jiff::Timestamp;

use crate::cycle::{Chosen, fits_changed, histogram};
use crate::node_info::{NodeInfo, PodInfo};
use crate::plugins::{Cluster, Refusal};

/// Candidates that are looked for: this part of the nodes in percent, and at least so many
/// (pkg/scheduler/apis/config/v1/defaults.go, DefaultPreemptionArgs).
const CANDIDATES: (usize, usize) = (10, 100);
/// Reason of the condition of a pod that has to go.
pub const PREEMPTED: &str = "PreemptionByScheduler";

/// How many pods may still be disrupted.
#[derive(Debug, Clone)]
pub struct Budget {
    namespace: String,
    selector: Selector,
    allowed: i32,
    /// Names of pods whose disruption is counted already.
    disrupted: BTreeSet<String>,
}

impl Budget {
    /// From the object.
    pub fn of(budget: &PodDisruptionBudget) -> Self {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let status = budget.status.as_ref();
        Self {
            namespace: budget.namespace().to_owned(),
            selector: Selector::from_label_selector(selector).unwrap_or_else(|_| Selector::none()),
            allowed: status.and_then(|status| status.disruptions_allowed).unwrap_or(0),
            disrupted: status
                .and_then(|status| status.disrupted_pods.as_ref())
                .into_iter()
                .flatten()
                .map(|(name, _)| name.clone())
                .collect(),
        }
    }

    fn concerns(&self, pod: &Pod) -> bool {
        let labels = pod.metadata.labels.as_ref();
        self.namespace == pod.namespace()
            && labels.is_some_and(|labels| !labels.is_empty())
            && !self.selector.is_everything()
            && self.selector.matches(labels)
            && !self.disrupted.contains(pod.name())
    }
}

/// A node on which the pod fits once some are gone.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The node.
    pub node: String,
    /// Those who have to go, the most important first.
    pub victims: Vec<Arc<PodInfo>>,
    /// How many of them go against their disruption budgets.
    pub violations: usize,
}

/// What came of the attempt.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Room is made here.
    Room(Candidate),
    /// The pod may not, or not now; an earlier promise stays.
    NotEligible(&'static str),
    /// There is nobody to be sent away; an earlier promise is void. Why, as the message says it.
    Nothing(String),
}

/// Looks for room. `refusals` say, by the index of the node, why the pod does not fit as things are.
pub(crate) fn preempt(
    pod: &PodInfo,
    cluster: &Cluster<'_>,
    nodes: &[&NodeInfo],
    refusals: &BTreeMap<usize, Refusal>,
    prepared: &[Chosen<'_>],
    draw: &mut dyn FnMut(usize) -> usize,
) -> Outcome {
    if pod.spec().preemption_policy.as_deref() == Some("Never") {
        return Outcome::NotEligible("not eligible due to preemptionPolicy=Never.");
    }
    if waits_for_victims(pod, cluster, nodes, refusals) {
        return Outcome::NotEligible("not eligible due to a terminating pod on the nominated node.");
    }
    let possible: Vec<usize> = refusals.iter().filter(|(_, refusal)| refusal.resolvable).map(|(index, _)| *index).collect();
    let mut reasons: Vec<String> = vec!["Preemption is not helpful for scheduling".to_owned(); nodes.len() - possible.len()];
    let mut candidates: Vec<Candidate> = Vec::new();
    let wanted = (possible.len() * CANDIDATES.0 / 100).max(CANDIDATES.1);
    let nobody = cluster.cache.lowest_priority().is_none_or(|lowest| lowest >= pod.priority());
    let start = if possible.is_empty() || nobody { 0 } else { draw(possible.len()) };
    for offset in 0..possible.len() {
        let node = nodes[possible[(start + offset) % possible.len()]];
        let victims = if nobody { Err(NO_VICTIMS.clone()) } else { victims_on(pod, cluster, node, prepared) };
        match victims {
            Ok(candidate) => {
                candidates.push(candidate);
                if candidates.len() >= wanted && candidates.iter().any(|candidate| candidate.violations == 0) {
                    break;
                }
            }
            Err(refusal) => reasons.extend(refusal.reasons.iter().map(ToString::to_string)),
        }
    }
    // Those that violate no budget are preferred where all else is equal.
    candidates.sort_by_key(|candidate| candidate.violations > 0);
    match pick(candidates) {
        Some(best) => Outcome::Room(best),
        None => {
            Outcome::Nothing(format!("0/{} nodes are available: {}.", nodes.len(), histogram(reasons.iter().map(String::as_str))))
        }
    }
}

static NO_VICTIMS: std::sync::LazyLock<Refusal> =
    std::sync::LazyLock::new(|| Refusal::unresolvable("No preemption victims found for incoming pod"));

/// Whether pods that this one has sent away are still ending on the node that it was promised.
fn waits_for_victims(pod: &PodInfo, cluster: &Cluster<'_>, nodes: &[&NodeInfo], refusals: &BTreeMap<usize, Refusal>) -> bool {
    let Some(promised) = cluster.nominated.node_of(&pod.pod.key()) else { return false };
    let Some(index) = nodes.iter().position(|node| node.name() == promised) else { return false };
    if refusals.get(&index).is_some_and(|refusal| !refusal.resolvable) {
        return false;
    }
    nodes[index].pods.values().any(|other| other.priority() < pod.priority() && is_ending_preempted(&other.pod))
}

/// Whether the pod ends because a scheduler sent it away.
pub fn is_ending_preempted(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let disrupted = conditions.into_iter().flatten().find(|condition| condition.type_ == "DisruptionTarget");
    pod.is_being_deleted()
        && disrupted.is_some_and(|condition| condition.status == "True" && condition.reason.as_deref() == Some(PREEMPTED))
}

/// The least set of pods that have to leave the node, or why even all of them would not be enough.
fn victims_on(pod: &PodInfo, cluster: &Cluster<'_>, node: &NodeInfo, prepared: &[Chosen<'_>]) -> Result<Candidate, Refusal> {
    let mut lower: Vec<Arc<PodInfo>> = node.pods.values().filter(|other| other.priority() < pod.priority()).cloned().collect();
    if lower.is_empty() {
        return Err(NO_VICTIMS.clone());
    }
    let mut changed = node.clone();
    for one in &lower {
        changed.remove_pod(&one.pod.key());
    }
    fits_changed(pod, cluster, prepared, &changed)?;
    lower.sort_by_key(|one| importance(one));
    let (violating, others) = split(&lower, cluster.budgets);
    let (mut victims, mut violations) = (Vec::new(), 0);
    // As many as possible stay, the most important first, those with a budget before the others.
    for (group, counts) in [(violating, true), (others, false)] {
        for one in group {
            changed.add_pod(one.clone());
            if fits_changed(pod, cluster, prepared, &changed).is_err() {
                changed.remove_pod(&one.pod.key());
                victims.push(one);
                violations += usize::from(counts);
            }
        }
    }
    victims.sort_by_key(|one| importance(one));
    Ok(Candidate { node: node.name().to_owned(), victims, violations })
}

/// Orders the most important first: higher priority, then the longer running (pkg/scheduler/util/utils.go, MoreImportantPod).
fn importance(pod: &PodInfo) -> (std::cmp::Reverse<i32>, Timestamp, String) {
    (std::cmp::Reverse(pod.priority()), started_at(&pod.pod), pod.pod.key())
}

/// One that has not started counts as started now.
fn started_at(pod: &Pod) -> Timestamp {
    pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map_or(Timestamp::MAX, |time| time.0)
}

/// Those whose end would go against a budget, and the others; the order is kept.
fn split(pods: &[Arc<PodInfo>], budgets: &[Budget]) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let mut allowed: Vec<i32> = budgets.iter().map(|budget| budget.allowed).collect();
    pods.iter().cloned().partition(|pod| {
        let mut violates = false;
        for (budget, allowed) in budgets.iter().zip(&mut allowed).filter(|(budget, _)| budget.concerns(&pod.pod)) {
            let _ = budget;
            *allowed -= 1;
            if *allowed < 0 {
                violates = true;
                break;
            }
        }
        violates
    })
}

/// The best candidate: fewest violations, lowest of the highest priorities, lowest sum of priorities, fewest victims, the
/// latest start of the most important victims; then the first.
fn pick(candidates: Vec<Candidate>) -> Option<Candidate> {
    candidates.into_iter().min_by_key(|candidate| {
        let priorities = candidate.victims.iter().map(|victim| victim.priority());
        // Raised so that a few negative ones do not weigh less than one.
        let sum: i64 = priorities.map(|priority| i64::from(priority) + i64::from(i32::MAX) + 1).sum();
        let highest = candidate.victims.first().map(|victim| victim.priority());
        let top = candidate.victims.iter().filter(|victim| Some(victim.priority()) == highest);
        let earliest = top.map(|victim| started_at(&victim.pod)).min();
        (candidate.violations, highest, sum, candidate.victims.len(), std::cmp::Reverse(earliest))
    })
}
