//! After all faults are undone the cluster comes to what it was asked for.

use daruma_api::meta::ObjectExt;

use super::seen::{has_ended, is_ready, is_ready_node};
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
        if !is_ready_node(node) {
            return Err(format!("node {} is not Ready", node.name()));
        }
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
        let left = taints.into_iter().flatten().find(|taint| taint.key.starts_with("node.kubernetes.io/"));
        if let Some(taint) = left.filter(|taint| taint.key != "node.kubernetes.io/unschedulable") {
            return Err(format!("node {} still carries {}", node.name(), taint.key));
        }
    }
    for deployment in seen.deployments.values() {
        let asked = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let status = deployment.status.clone().unwrap_or_default();
        let (available, updated) = (status.available_replicas.unwrap_or(0), status.updated_replicas.unwrap_or(0));
        if available != asked || updated != asked {
            return Err(format!("Deployment {} has {available} available, {updated} updated of {asked}", deployment.key()));
        }
    }
    for pod in seen.pods.values().filter(|pod| !has_ended(pod)) {
        if pod.is_being_deleted() {
            return Err(format!("pod {} is still being deleted", pod.key()));
        }
        if !is_ready(pod) {
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
    const WAITING: &str = r#"{"metadata":{"namespace":"d","name":"p"},"spec":{"containers":[]},"status":{"phase":"Pending"}}"#;

    #[test]
    fn fires() {
        let end = ("settled", "", 0, "");
        check(&[("put", "core/nodes/w", 1, READY), end], &[]);
        for broken in [
            ("put", "core/nodes/w", 1, TAINTED),
            ("put", "apps/deployments/d/web", 1, SHORT),
            ("put", "core/pods/d/p", 1, WAITING),
        ] {
            check(&[broken, end], &["faults-heal"]);
        }
    }
}
