//! What a ReplicaSet is to do, and what its status is to say.
//!
//! Source: kubernetes pkg/controller/replicaset (replica_set.go, replica_set_utils.go).

use std::sync::Arc;
use std::time::Duration;

use daruma_api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use daruma_api::core::v1::Pod;
use jiff::Timestamp;

use super::census::Replica;
use super::ranking::pods_to_delete;
use crate::pods::{self, nonzero, wire_time};

/// Pods created or deleted in one go.
pub const BURST: usize = 500;

/// Pods to create and to delete; at most one of the two is not empty.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// How many pods are missing.
    pub create: usize,
    /// Pods that are too many.
    pub delete: Vec<Arc<Pod>>,
}

/// Decides from the pods that the ReplicaSet owns and that are active. `related` gives the pods of
/// all ReplicaSets of the same owner, and is only asked when pods go.
pub fn plan(set: &ReplicaSet, active: &[Replica], related: impl FnOnce() -> Vec<Arc<Pod>>, now: Timestamp) -> Plan {
    let wanted = wanted(set);
    if active.len() < wanted {
        return Plan { create: (wanted - active.len()).min(BURST), delete: Vec::new() };
    }
    let too_many = (active.len() - wanted).min(BURST);
    if too_many == 0 {
        return Plan::default();
    }
    let active = active.iter().map(|replica| replica.pod.clone()).collect();
    Plan { create: 0, delete: pods_to_delete(active, &related(), too_many, now) }
}

/// `spec.replicas`.
pub fn wanted(set: &ReplicaSet) -> usize {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1).try_into().unwrap_or_default()
}

/// `spec.minReadySeconds`.
pub fn min_ready_seconds(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default()
}

/// The status to write; `failure` is what went wrong with creating or deleting pods.
pub fn status(
    set: &ReplicaSet,
    active: &[Replica],
    terminating: usize,
    failure: Option<&str>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let count = |test: &dyn Fn(&Replica) -> bool| active.iter().filter(|replica| test(replica)).count() as i32;
    let min_ready = min_ready_seconds(set);
    let is_available =
        |replica: &Replica| replica.is_ready && (min_ready == 0 || pods::is_available(&replica.pod, min_ready, now));
    let old = set.status.clone().unwrap_or_default();
    ReplicaSetStatus {
        replicas: active.len() as i32,
        fully_labeled_replicas: nonzero(count(&|replica| replica.is_fully_labeled)),
        ready_replicas: nonzero(count(&|replica| replica.is_ready)),
        available_replicas: nonzero(count(&is_available)),
        terminating_replicas: Some(terminating as i32),
        conditions: conditions(old.conditions, active.len(), wanted(set), failure, now),
        observed_generation: set.metadata.generation,
    }
}

fn conditions(
    old: Option<Vec<ReplicaSetCondition>>,
    active: usize,
    wanted: usize,
    failure: Option<&str>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = old.unwrap_or_default();
    let failing = conditions.iter().any(|condition| condition.type_ == "ReplicaFailure");
    match failure {
        Some(message) if !failing => conditions.push(ReplicaSetCondition {
            type_: "ReplicaFailure".to_owned(),
            status: "True".to_owned(),
            reason: Some(if active < wanted { "FailedCreate" } else { "FailedDelete" }.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: Some(wire_time(now)),
        }),
        None => conditions.retain(|condition| condition.type_ != "ReplicaFailure"),
        Some(_) => {}
    }
    (!conditions.is_empty()).then_some(conditions)
}

/// Whether the stored status already says `new`.
pub fn says(set: &ReplicaSet, new: &ReplicaSetStatus) -> bool {
    let plain = |status: &ReplicaSetStatus| ReplicaSetStatus {
        fully_labeled_replicas: status.fully_labeled_replicas.and_then(nonzero),
        ready_replicas: status.ready_replicas.and_then(nonzero),
        available_replicas: status.available_replicas.and_then(nonzero),
        conditions: status.conditions.clone().filter(|conditions| !conditions.is_empty()),
        observed_generation: status.observed_generation.or(Some(0)),
        ..status.clone()
    };
    set.status.as_ref().is_some_and(|old| plain(old) == plain(new))
}

/// When a pod that is ready will count as available, where some do not yet.
pub fn next_availability(set: &ReplicaSet, status: &ReplicaSetStatus, active: &[Replica], now: Timestamp) -> Option<Duration> {
    let min_ready = min_ready_seconds(set);
    if min_ready == 0 || status.ready_replicas == status.available_replicas {
        return None;
    }
    let checks = active.iter().filter_map(|replica| pods::next_availability_check(&replica.pod, min_ready, now));
    checks.filter(|wait| !wait.is_zero()).min().or(Some(Duration::from_secs(u64::try_from(min_ready).unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::{at, pod};
    use crate::replica_set::census::View;
    use daruma_api::apps::v1::ReplicaSetSpec;
    use daruma_api::selector::Selector;
    use proptest::prelude::*;

    fn set(replicas: i32, min_ready: i32) -> ReplicaSet {
        ReplicaSet {
            spec: Some(ReplicaSetSpec {
                replicas: Some(replicas),
                min_ready_seconds: Some(min_ready),
                ..ReplicaSetSpec::default()
            }),
            ..ReplicaSet::default()
        }
    }

    fn replicas(pods: &[Arc<Pod>]) -> Vec<Replica> {
        let (set, selector) = (set(0, 0), Selector::default());
        let view = View::new(&set, &selector);
        pods.iter().map(|pod| view.look(pod.clone())).collect()
    }

    #[test]
    fn status_counts() {
        let pods = [pod("a", "n", Some(100)), pod("b", "n", Some(50)), pod("c", "n", None)].map(Arc::new);
        let pods = replicas(&pods);
        let status = status(&set(4, 30), &pods, 2, Some("quota"), at(110));
        assert_eq!(status.replicas, 3);
        assert_eq!(status.ready_replicas, Some(2));
        assert_eq!(status.available_replicas, Some(1));
        assert_eq!(status.terminating_replicas, Some(2));
        let failure = &status.conditions.as_ref().expect("failing")[0];
        assert_eq!(failure.reason.as_deref(), Some("FailedCreate"));
        assert_eq!(next_availability(&set(4, 30), &status, &pods, at(110)), Some(Duration::from_secs(20)));
    }

    #[test]
    fn zero_and_missing_are_one() {
        let mut set = set(0, 0);
        let new = status(&set, &[], 0, None, at(1));
        assert!(!says(&set, &new));
        set.status = Some(ReplicaSetStatus { ready_replicas: Some(0), observed_generation: Some(0), ..new.clone() });
        assert!(says(&set, &new));
    }

    proptest! {
        /// Plans applied until none is left end at the wanted number, and never delete a ready pod while one is not.
        #[test]
        fn converges(wanted in 0i32..1200, ready in proptest::collection::vec(any::<bool>(), 0..1200)) {
            let set = set(wanted, 0);
            let mut pods: Vec<Arc<Pod>> = ready
                .iter()
                .enumerate()
                .map(|(number, ready)| Arc::new(pod(&format!("p{number}"), "n", ready.then_some(1))))
                .collect();
            for round in 0.. {
                prop_assert!(round < 10, "does not settle");
                let plan = plan(&set, &replicas(&pods), || pods.clone(), at(1000));
                if plan == Plan::default() {
                    break;
                }
                prop_assert!(plan.create == 0 || plan.delete.is_empty());
                prop_assert!(plan.create <= BURST && plan.delete.len() <= BURST);
                let gone: std::collections::BTreeSet<_> = plan.delete.iter().map(|pod| pod.metadata.name.clone()).collect();
                if plan.delete.iter().any(|pod| pods::is_ready(pod)) {
                    let left = pods.iter().filter(|pod| !gone.contains(&pod.metadata.name));
                    prop_assert!(left.into_iter().all(|pod| pods::is_ready(pod)));
                }
                pods.retain(|pod| !gone.contains(&pod.metadata.name));
                for number in 0..plan.create {
                    pods.push(Arc::new(pod(&format!("r{round}-{number}"), "", None)));
                }
            }
            prop_assert_eq!(pods.len(), wanted as usize);
        }
    }
}
