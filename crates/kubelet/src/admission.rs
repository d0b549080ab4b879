//! Whether the node takes a pod.
//!
//! Source: kubernetes pkg/kubelet/lifecycle/predicate.go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daruma_api::core::v1::{Node, NodeSelectorTerm, Pod, PodSpec, Taint};
use daruma_api::meta::ObjectExt;
use daruma_api::quantity::Quantity;
use daruma_api::resources::{ResourceList, pod_requests, qos_class};
use daruma_api::selector::{Operator, Requirement};
use daruma_api::taints::{MEMORY_PRESSURE, NO_EXECUTE, NO_SCHEDULE, tolerated};

use crate::eviction::{self, Condition};

/// System critical priority (kubernetes pkg/apis/scheduling/types.go).
const CRITICAL: i32 = 2_000_000_000;

/// Why a pod is refused; event reason and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `OutOfcpu`, `NodeAffinity` …
    pub reason: String,
    /// For a person.
    pub message: String,
}

/// Whether the node takes pods at all: not while it shuts down, and only some while it is short of something
/// (kubernetes pkg/kubelet/nodeshutdown/nodeshutdown_manager_linux.go, pkg/kubelet/eviction/eviction_manager.go).
///
/// # Errors
/// The first reason against it.
pub fn of_node(pod: &Pod, is_static: bool, shutting_down: bool, pressed: &BTreeSet<Condition>) -> Result<(), Refusal> {
    if shutting_down {
        return Err(refuse("NodeShutdown", "Pod was rejected as the node is shutting down."));
    }
    let Some(spec) = &pod.spec else { return Ok(()) };
    if pressed.is_empty() || eviction::is_critical(pod, is_static) {
        return Ok(());
    }
    if pressed.len() == 1 && pressed.contains(&Condition::Memory) {
        let taint = Taint { key: MEMORY_PRESSURE.into(), effect: NO_SCHEDULE.into(), ..Taint::default() };
        if qos_class(spec) != "BestEffort" || tolerated(spec.tolerations.as_deref().unwrap_or_default(), &taint) {
            return Ok(());
        }
    }
    let names: Vec<&str> = pressed.iter().map(|condition| condition.as_str()).collect();
    Err(refuse(eviction::REASON, &format!("The node had condition: [{}]. ", names.join(" "))))
}

/// Decides. `others` are the pods that the node has taken; `node` is `None` until the API was reached.
///
/// # Errors
/// The first reason against it.
pub fn admit(
    pod: &Pod,
    is_static: bool,
    others: &[Arc<Pod>],
    node: Option<&Node>,
    allocatable: &ResourceList,
) -> Result<(), Refusal> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    if let Some(node) = node {
        let empty = BTreeMap::new();
        let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
        if !matches_node(spec, labels, node.name()) {
            return Err(refuse(
                "NodeAffinity",
                "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
            ));
        }
        let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).filter(|taint| taint.effect == NO_EXECUTE);
        let tolerations = spec.tolerations.as_deref().unwrap_or_default();
        if is_static && taints.into_iter().any(|taint| !tolerated(tolerations, taint)) {
            return Err(refuse(
                "TaintToleration",
                "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
            ));
        }
    }
    // Critical pods are never refused for lack of room.
    if is_static || spec.priority.unwrap_or_default() >= CRITICAL {
        return Ok(());
    }
    let mut used = ResourceList::new();
    for other in others {
        if let Some(spec) = &other.spec {
            daruma_api::resources::add(&mut used, &pod_requests(spec));
        }
    }
    let most = allocatable.get("pods").map_or(i64::MAX, |pods| pods.value());
    if others.len() as i64 + 1 > most {
        return Err(out_of("pods", 1, others.len() as i64, most));
    }
    for (name, request) in pod_requests(spec) {
        let number = |quantity: Quantity| if name == "cpu" { quantity.milli_value() } else { quantity.value() };
        let Some(capacity) = allocatable.get(&name).copied().map(number) else { continue };
        let (request, taken) = (number(request), used.get(&name).copied().map(number).unwrap_or_default());
        if request > 0 && request + taken > capacity {
            return Err(out_of(&name, request, taken, capacity));
        }
    }
    Ok(())
}

fn refuse(reason: &str, message: &str) -> Refusal {
    Refusal { reason: reason.into(), message: message.into() }
}

fn out_of(name: &str, requested: i64, used: i64, capacity: i64) -> Refusal {
    Refusal {
        reason: format!("OutOf{name}"),
        message: format!("Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"),
    }
}

/// Node selector and required node affinity (kubernetes component-helpers scheduling/corev1/nodeaffinity).
fn matches_node(spec: &PodSpec, labels: &BTreeMap<String, String>, name: &str) -> bool {
    if !spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value)) {
        return false;
    }
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|required| required.node_selector_terms.iter().any(|term| matches_term(term, labels, name)))
}

fn matches_term(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let expressions: Vec<_> = term.match_expressions.iter().flatten().collect();
    let fields: Vec<_> = term.match_fields.iter().flatten().collect();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let meets = |wanted: &daruma_api::core::v1::NodeSelectorRequirement, value: Option<&str>| {
        let operator = match wanted.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::Gt,
            "Lt" => Operator::Lt,
            _ => return false,
        };
        Requirement { key: wanted.key.clone(), operator, values: wanted.values.clone().unwrap_or_default() }.matches(value)
    };
    expressions.into_iter().all(|wanted| meets(wanted, labels.get(&wanted.key).map(String::as_str)))
        && fields.into_iter().all(|wanted| wanted.key == "metadata.name" && meets(wanted, Some(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;

    #[track_caller]
    fn check(spec: &str, is_static: bool, expected: &str) {
        let node: Node = serde_yaml_ng::from_str(
            "{metadata: {name: w, labels: {zone: a}}, spec: {taints: [{key: k, effect: NoExecute}, {key: s, effect: NoSchedule}]}}",
        )
        .expect("a node");
        let allocatable = ResourceList::from([
            ("cpu".to_owned(), Quantity::millis(1000)),
            ("memory".to_owned(), Quantity::bytes(1 << 30)),
            ("pods".to_owned(), Quantity::units(2)),
        ]);
        let other = Arc::new(pod("containers: [{name: a, resources: {requests: {cpu: 900m}}}]"));
        let result = admit(&pod(spec), is_static, &[other], Some(&node), &allocatable);
        assert_eq!(result.err().map(|refusal| refusal.reason).unwrap_or_default(), expected, "{spec}");
    }

    #[track_caller]
    fn check_node(spec: &str, is_static: bool, shutting_down: bool, pressed: &[Condition], expected: &str) {
        let result = of_node(&pod(spec), is_static, shutting_down, &pressed.iter().copied().collect());
        let shown = result.err().map(|refusal| format!("{}: {}", refusal.reason, refusal.message)).unwrap_or_default();
        assert_eq!(shown, expected, "{spec}");
    }

    #[test]
    fn pressure_and_shutdown() {
        let (plain, asking) = ("containers: [{name: a}]", "containers: [{name: a, resources: {requests: {memory: 1Mi}}}]");
        let (memory, disk) =
            ("Evicted: The node had condition: [MemoryPressure]. ", "Evicted: The node had condition: [DiskPressure]. ");
        check_node(plain, false, false, &[], "");
        check_node(plain, false, false, &[Condition::Memory], memory);
        check_node(asking, false, false, &[Condition::Memory], "");
        check_node(asking, false, false, &[Condition::Disk], disk);
        let both = "Evicted: The node had condition: [DiskPressure MemoryPressure]. ";
        check_node(asking, false, false, &[Condition::Memory, Condition::Disk], both);
        check_node(plain, true, false, &[Condition::Disk], "");
        check_node(&format!("priority: 2000000000, {plain}"), false, false, &[Condition::Pid], "");
        let tolerant = format!("tolerations: [{{key: node.kubernetes.io/memory-pressure, operator: Exists}}], {plain}");
        check_node(&tolerant, false, false, &[Condition::Memory], "");
        check_node(plain, true, true, &[], "NodeShutdown: Pod was rejected as the node is shutting down.");
    }

    #[test]
    fn decisions() {
        check("containers: [{name: a}]", false, "");
        check("containers: [{name: a, resources: {requests: {cpu: 100m}}}]", false, "");
        check("containers: [{name: a, resources: {requests: {cpu: 101m}}}]", false, "OutOfcpu");
        check("priority: 2000001000, containers: [{name: a, resources: {requests: {cpu: 101m}}}]", false, "");
        check("containers: [{name: a, resources: {requests: {memory: 2Gi}}}]", false, "OutOfmemory");
        check("nodeSelector: {zone: b}, containers: [{name: a}]", false, "NodeAffinity");
        check("containers: [{name: a}]", true, "TaintToleration");
        check("tolerations: [{operator: Exists, effect: NoExecute}], containers: [{name: a}]", true, "");
    }
}
