//! Which taints a node's conditions ask for, and which labels are to be set right.
//!
//! Source: kubernetes pkg/controller/nodelifecycle/node_lifecycle_controller.go.

use std::collections::BTreeMap;

use daruma_api::core::v1::{Node, Taint};
use daruma_api::meta::ObjectExt;
use daruma_api::taints::{self, NO_EXECUTE, NO_SCHEDULE};

use crate::node_taints::{self, taint};

/// Condition, status, key of the taint.
const CONDITION_TAINTS: [(&str, &str, &str); 6] = [
    ("Ready", "False", taints::NOT_READY),
    ("Ready", "Unknown", taints::UNREACHABLE),
    ("MemoryPressure", "True", taints::MEMORY_PRESSURE),
    ("DiskPressure", "True", taints::DISK_PRESSURE),
    ("NetworkUnavailable", "True", taints::NETWORK_UNAVAILABLE),
    ("PIDPressure", "True", taints::PID_PRESSURE),
];

/// NoSchedule taints to add and to remove.
pub fn no_schedule(node: &Node) -> (Vec<Taint>, Vec<Taint>) {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut wanted: Vec<&str> = conditions
        .filter_map(|condition| {
            let found = CONDITION_TAINTS.iter().find(|(kind, status, _)| *kind == condition.type_ && *status == condition.status);
            found.map(|(_, _, key)| *key)
        })
        .collect();
    if node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true)) {
        wanted.push(taints::UNSCHEDULABLE);
    }
    let ours = |taint: &&Taint| {
        taint.effect == NO_SCHEDULE
            && (taint.key == taints::UNSCHEDULABLE || CONDITION_TAINTS.iter().any(|(_, _, key)| *key == taint.key))
    };
    let present: Vec<&Taint> = node_taints::taints(node).iter().filter(ours).collect();
    let add = wanted.iter().filter(|key| !present.iter().any(|taint| taint.key == **key));
    let remove = present.iter().filter(|taint| !wanted.contains(&taint.key.as_str()));
    (add.map(|key| taint(key, NO_SCHEDULE)).collect(), remove.map(|one| taint(&one.key, NO_SCHEDULE)).collect())
}

/// The NoExecute taint for a Ready status that is not True, and the one that it replaces.
pub fn no_execute(ready_status: &str) -> Option<(Taint, Taint)> {
    let not_ready = taint(taints::NOT_READY, NO_EXECUTE);
    let unreachable = taint(taints::UNREACHABLE, NO_EXECUTE);
    match ready_status {
        "False" => Some((not_ready, unreachable)),
        "Unknown" => Some((unreachable, not_ready)),
        _ => None,
    }
}

/// Old label names that must say what the stable ones say.
pub fn labels(node: &Node) -> BTreeMap<String, String> {
    let pairs = [("kubernetes.io/os", "beta.kubernetes.io/os"), ("kubernetes.io/arch", "beta.kubernetes.io/arch")];
    let wrong = pairs.into_iter().filter_map(|(stable, beta)| {
        let value = node.label(stable)?;
        (node.label(beta) != Some(value)).then(|| (beta.to_owned(), value.to_owned()))
    });
    wrong.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon_set::nodes::tests::node;
    use daruma_api::core::v1::{NodeCondition, NodeStatus};

    #[track_caller]
    fn check(present: &[&str], conditions: &[(&str, &str)], add: &[&str], remove: &[&str]) {
        let present: Vec<(&str, &str)> = present.iter().map(|key| (*key, NO_SCHEDULE)).collect();
        let mut node = node("n", &present);
        let conditions = conditions.iter().map(|(kind, status)| NodeCondition {
            type_: (*kind).to_owned(),
            status: (*status).to_owned(),
            ..NodeCondition::default()
        });
        node.status = Some(NodeStatus { conditions: Some(conditions.collect()), ..NodeStatus::default() });
        let keys = |taints: &[Taint]| taints.iter().map(|taint| taint.key.clone()).collect::<Vec<_>>();
        let (added, removed) = no_schedule(&node);
        assert_eq!(
            (keys(&added), keys(&removed)),
            (add.iter().map(ToString::to_string).collect(), remove.iter().map(ToString::to_string).collect())
        );
    }

    #[test]
    fn taints_follow_conditions() {
        check(&[], &[("Ready", "True")], &[], &[]);
        check(&[], &[("Ready", "Unknown")], &[taints::UNREACHABLE], &[]);
        check(&[taints::UNREACHABLE], &[("Ready", "False")], &[taints::NOT_READY], &[taints::UNREACHABLE]);
        check(&[taints::NOT_READY, "mine"], &[("Ready", "True")], &[], &[taints::NOT_READY]);
        check(&[], &[("MemoryPressure", "True"), ("DiskPressure", "False")], &[taints::MEMORY_PRESSURE], &[]);
    }
}
