//! After all faults are undone the cluster comes to what it was asked for.

use super::{Invariant, Seen, Verdict};

pub(super) struct Convergence;

impl Invariant for Convergence {
    fn name(&self) -> &'static str {
        "faults-heal"
    }

    fn settled(&mut self, seen: &Seen) -> Verdict {
        look(seen)
    }
}

/// What is not as it was asked for, if anything.
pub(super) fn look(seen: &Seen) -> Verdict {
    for node in seen.nodes.values() {
        if !node.is_ready {
            return Err(format!("node {} is not Ready", node.name));
        }
        if let Some(taint) = node.trouble() {
            return Err(format!("node {} still carries {taint}", node.name));
        }
    }
    for one in seen.workloads.values() {
        let (kind, key, asked, available) = (one.kind, &one.key, one.asked, one.available);
        if one.observed < one.generation {
            return Err(format!("nobody has acted on {kind} {key} since it was changed"));
        }
        if available != asked || one.updated.is_some_and(|updated| updated != asked) {
            let updated = one.updated.map_or(String::new(), |updated| format!(", {updated} updated"));
            return Err(format!("{kind} {key} has {available} available{updated} of {asked}"));
        }
    }
    if let Some(set) = seen.replica_sets.values().find(|set| set.available != set.replicas) {
        return Err(format!("ReplicaSet {}/{} has {} available of {}", set.namespace, set.name, set.available, set.replicas));
    }
    for pod in seen.pods.values().filter(|pod| !pod.has_ended) {
        if pod.is_going {
            return Err(format!("pod {} is still being deleted", pod.key()));
        }
        if !pod.is_ready {
            return Err(format!("pod {} is not Ready", pod.key()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    const READY: &str = r#"{"metadata":{"name":"w"},"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;
    const TAINTED: &str = r#"{"metadata":{"name":"w"},"spec":{"taints":[{"key":"node.kubernetes.io/unreachable",
        "effect":"NoExecute"}]},"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;
    const SHORT: &str = r#"{"metadata":{"namespace":"d","name":"web"},"spec":{"replicas":2,"selector":{},"template":{}},
        "status":{"availableReplicas":1,"updatedReplicas":2}}"#;
    const UNHEARD: &str = r#"{"metadata":{"namespace":"d","name":"db","generation":2},"spec":{"replicas":0},
        "status":{"observedGeneration":1}}"#;
    const FEW: &str = r#"{"metadata":{"namespace":"d","name":"db"},"spec":{"replicas":2},"status":{"availableReplicas":1}}"#;
    const DAEMONS: &str = r#"{"metadata":{"namespace":"d","name":"agent"},"spec":{},"status":{"desiredNumberScheduled":2,
        "numberAvailable":1}}"#;
    const WAITING: &str = r#"{"metadata":{"namespace":"d","name":"p"},"spec":{"containers":[]},"status":{"phase":"Pending"}}"#;

    #[test]
    fn fires() {
        let end = ("settled", "", 0, "");
        check(&[("put", "core/nodes/w", 1, READY), end], &[]);
        for broken in [
            ("put", "core/nodes/w", 1, TAINTED),
            ("put", "apps/deployments/d/web", 1, SHORT),
            ("put", "apps/statefulsets/d/db", 1, UNHEARD),
            ("put", "apps/statefulsets/d/db", 1, FEW),
            ("put", "apps/replicasets/d/db", 1, FEW),
            ("put", "apps/daemonsets/d/agent", 1, DAEMONS),
            ("put", "core/pods/d/p", 1, WAITING),
        ] {
            check(&[broken, end], &["faults-heal"]);
        }
    }
}
