//! Which pods go first when there are too many.
//!
//! Source: kubernetes pkg/controller/controller_utils.go (ActivePodsWithRanks, LogarithmicScaleDown).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_api::core::v1::Pod;
use daruma_api::meta::ObjectExt;
use jiff::Timestamp;

use crate::pods;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Picks `count` of `pods`. `related` are the pods of all ReplicaSets of the same owner: where many of
/// them share a node, one of that node goes first.
pub fn pods_to_delete(mut pods: Vec<Arc<Pod>>, related: &[Arc<Pod>], count: usize, now: Timestamp) -> Vec<Arc<Pod>> {
    if count < pods.len() {
        let mut on_node: BTreeMap<&str, usize> = BTreeMap::new();
        for pod in related.iter().filter(|pod| pods::is_active(pod)) {
            *on_node.entry(pods::node_name(pod)).or_default() += 1;
        }
        let rank = |pod: &Pod| on_node.get(pods::node_name(pod)).copied().unwrap_or_default();
        pods.sort_by(|a, b| compare(a, b, rank(a), rank(b), now));
        pods.truncate(count);
    }
    pods
}

/// `Less` when `a` is to go before `b`.
fn compare(a: &Pod, b: &Pod, rank_a: usize, rank_b: usize, now: Timestamp) -> Ordering {
    let assigned = |pod: &Pod| !pods::node_name(pod).is_empty();
    assigned(a)
        .cmp(&assigned(b))
        .then_with(|| phase_order(a).cmp(&phase_order(b)))
        .then_with(|| pods::is_ready(a).cmp(&pods::is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| rank_b.cmp(&rank_a))
        .then_with(|| match (pods::ready_since(a), pods::ready_since(b)) {
            (Some(ready_a), Some(ready_b)) => younger_first(ready_a, ready_b, a, b, now),
            _ => Ordering::Equal,
        })
        .then_with(|| pods::most_restarts(b).cmp(&pods::most_restarts(a)))
        .then_with(|| match (created(a), created(b)) {
            (Some(created_a), Some(created_b)) => younger_first(created_a, created_b, a, b, now),
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        })
}

/// Ages are compared by their order of magnitude; equal ones by uid, which is as good as random.
fn younger_first(time_a: Timestamp, time_b: Timestamp, a: &Pod, b: &Pod, now: Timestamp) -> Ordering {
    if time_a == time_b {
        return Ordering::Equal;
    }
    magnitude(time_a, now).cmp(&magnitude(time_b, now)).then_with(|| a.uid().cmp(b.uid()))
}

fn magnitude(time: Timestamp, now: Timestamp) -> i64 {
    let nanoseconds = now.as_nanosecond() - time.as_nanosecond();
    if nanoseconds > 0 { i64::from(nanoseconds.ilog2()) } else { -1 }
}

fn phase_order(pod: &Pod) -> u8 {
    match pods::phase(pod) {
        "Unknown" => 1,
        "Running" => 2,
        _ => 0,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    pod.annotation(DELETION_COST).and_then(|cost| cost.parse().ok()).unwrap_or_default()
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::{at, pod};
    use daruma_api::core::v1::ContainerStatus;

    /// `first` goes before `second`, in whichever order they come.
    #[track_caller]
    fn check(first: Pod, second: Pod) {
        let (first, second) = (Arc::new(first), Arc::new(second));
        for pods in [vec![first.clone(), second.clone()], vec![second.clone(), first.clone()]] {
            let gone = pods_to_delete(pods.clone(), &pods, 1, at(100_000));
            assert_eq!(gone[0].name(), first.name());
        }
    }

    fn with(mut pod: Pod, change: impl FnOnce(&mut Pod)) -> Pod {
        change(&mut pod);
        pod
    }

    fn with_phase(pod: Pod, phase: &str) -> Pod {
        with(pod, |pod| pod.status.as_mut().expect("built").phase = Some(phase.to_owned()))
    }

    #[test]
    fn each_criterion_counts() {
        check(pod("unassigned", "", None), pod("assigned", "n", None));
        check(with_phase(pod("pending", "n", None), "Pending"), with_phase(pod("unknown", "n", None), "Unknown"));
        check(with_phase(pod("unknown", "n", None), "Unknown"), pod("running", "n", None));
        check(pod("not-ready", "n", None), pod("ready", "n", Some(1)));
        let cost = |pod, cost: &str| {
            with(pod, |pod: &mut Pod| {
                pod.metadata.annotations = Some([(DELETION_COST.to_owned(), cost.to_owned())].into());
            })
        };
        check(cost(pod("cheap", "n", Some(1)), "-5"), pod("free", "n", Some(1)));
        check(pod("young", "n", Some(99_999)), pod("old", "n", Some(1)));
        let restarted = with(pod("restarted", "n", Some(1)), |pod| {
            let container = ContainerStatus { restart_count: 3, ..ContainerStatus::default() };
            pod.status.as_mut().expect("built").container_statuses = Some(vec![container]);
        });
        check(restarted, pod("calm", "n", Some(1)));
        let newer = with(pod("newer", "n", Some(1)), |pod| {
            pod.metadata.creation_timestamp = Some(pods::wire_time(at(99_990)));
        });
        check(newer, pod("older", "n", Some(1)));
    }

    #[test]
    fn the_more_crowded_node_loses_one() {
        let pods: Vec<Arc<Pod>> =
            [("a", "one"), ("b", "two"), ("c", "two")].map(|(name, node)| Arc::new(pod(name, node, Some(1)))).into();
        let gone = pods_to_delete(pods.clone(), &pods, 1, at(100_000));
        assert_eq!(pods::node_name(&gone[0]), "two");
    }
}
