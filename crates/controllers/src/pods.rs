//! What a pod's status says to controllers.
//!
//! Source: kubernetes pkg/api/v1/pod/util.go and pkg/controller/controller_utils.go.

use std::time::Duration;

use daruma_api::core::v1::{Pod, PodCondition, PodSpec, PodStatus};
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::Time;
use jiff::Timestamp;

/// A wire time; the wire knows whole seconds only, so comparisons see those too.
pub fn wire_time(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// `later - earlier`; zero where it is negative.
pub fn since(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}

/// A count as Go leaves it out when it is zero.
pub fn nonzero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

/// The node that a pod is bound to; empty when it waits for one.
pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// `status.phase`.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// One condition of the status.
pub fn condition<'a>(status: Option<&'a PodStatus>, kind: &str) -> Option<&'a PodCondition> {
    status?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// Whether the pod is ready to serve.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod.status.as_ref(), "Ready").is_some_and(|ready| ready.status == "True")
}

/// Since when the pod is ready.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod.status.as_ref(), "Ready").filter(|ready| ready.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// Whether the pod has been ready for `min_ready_seconds`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    is_ready(pod) && (min_ready_seconds == 0 || next_availability_check(pod, min_ready_seconds, now) == Some(Duration::ZERO))
}

/// How long until a ready pod counts as available (zero: it does); `None` when that cannot be said.
pub fn next_availability_check(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    let wanted = Duration::from_secs(u64::try_from(min_ready_seconds).unwrap_or_default());
    Some(wanted.saturating_sub(since(ready_since(pod)?, now)))
}

/// Whether all containers have ended for good.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the pod counts as a replica: neither ended nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !pod.is_being_deleted()
}

/// Whether the pod is on its way out but has not ended.
pub fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.is_being_deleted()
}

/// Most restarts of a container, and of a sidecar.
pub fn most_restarts(pod: &Pod) -> (i32, i32) {
    let Some(status) = &pod.status else { return (0, 0) };
    let regular = status.container_statuses.iter().flatten().map(|one| one.restart_count).max().unwrap_or_default();
    let is_sidecar = |name: &str| {
        let containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
        containers.into_iter().any(|one| one.name == name && one.restart_policy.as_deref() == Some("Always"))
    };
    let sidecars = status.init_container_statuses.iter().flatten().filter(|one| is_sidecar(&one.name));
    (regular, sidecars.map(|one| one.restart_count).max().unwrap_or_default())
}

/// Adds or replaces a condition; the transition time moves only with the status. Gives whether
/// anything but the observed generation changed.
pub fn set_condition(status: &mut PodStatus, mut condition: PodCondition, now: Timestamp) -> bool {
    condition.last_transition_time = Some(wire_time(now));
    let conditions = status.conditions.get_or_insert_default();
    let Some(old) = conditions.iter_mut().find(|old| old.type_ == condition.type_) else {
        conditions.push(condition);
        return true;
    };
    if old.status == condition.status {
        condition.last_transition_time.clone_from(&old.last_transition_time);
    }
    let equal = old.status == condition.status
        && old.reason == condition.reason
        && old.message == condition.message
        && old.last_probe_time == condition.last_probe_time
        && old.last_transition_time == condition.last_transition_time;
    *old = condition;
    !equal
}

/// The condition that says why a controller ends a pod.
pub fn disruption_target(pod: &Pod, reason: &str, message: &str) -> PodCondition {
    PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    }
}

/// The target port of a service on one pod: a number, or the container port of that name and protocol.
///
/// Source: kubernetes staging/src/k8s.io/endpointslice/util/controller_utils.go `FindPort`.
pub fn container_port(spec: &PodSpec, name: &str, protocol: &str) -> Option<i32> {
    let sidecars = spec.init_containers.iter().flatten().filter(|one| one.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .find(|port| port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol)
        .map(|port| port.container_port)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use daruma_api::metav1::ObjectMeta;

    pub(crate) fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    /// A running pod; `ready` says since when it is ready.
    pub(crate) fn pod(name: &str, node: &str, ready: Option<i64>) -> Pod {
        let condition = PodCondition {
            type_: "Ready".to_owned(),
            status: if ready.is_some() { "True" } else { "False" }.to_owned(),
            last_transition_time: Some(wire_time(at(ready.unwrap_or_default()))),
            ..PodCondition::default()
        };
        Pod {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some("default".to_owned()),
                uid: Some(format!("uid-{name}")),
                creation_timestamp: Some(wire_time(at(0))),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec { node_name: (!node.is_empty()).then(|| node.to_owned()), ..PodSpec::default() }),
            status: Some(PodStatus {
                phase: Some("Running".to_owned()),
                conditions: Some(vec![condition]),
                ..PodStatus::default()
            }),
        }
    }

    #[test]
    fn availability_waits_for_min_ready_seconds() {
        let pod = pod("a", "n", Some(100));
        assert!(is_available(&pod, 0, at(100)));
        assert!(!is_available(&pod, 10, at(109)));
        assert!(is_available(&pod, 10, at(110)));
        assert_eq!(next_availability_check(&pod, 10, at(103)), Some(Duration::from_secs(7)));
    }

    #[test]
    fn transition_time_moves_with_the_status() {
        let mut status = pod("a", "n", Some(100)).status.expect("built");
        let mut ready = condition(Some(&status), "Ready").expect("built").clone();
        assert!(!set_condition(&mut status, ready.clone(), at(200)));
        "False".clone_into(&mut ready.status);
        assert!(set_condition(&mut status, ready, at(200)));
        let ready = condition(Some(&status), "Ready").expect("set");
        assert_eq!(ready.last_transition_time, Some(wire_time(at(200))));
    }
}
