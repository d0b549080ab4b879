//! Taints and tolerations.
//!
//! Source: kubernetes staging/src/k8s.io/component-helpers/scheduling/corev1/helpers.go and
//! api/core/v1/toleration.go.

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// Keeps new pods away.
pub const NO_SCHEDULE: &str = "NoSchedule";
/// Evicts pods that run.
pub const NO_EXECUTE: &str = "NoExecute";
/// Keeps new pods away where possible.
pub const PREFER_NO_SCHEDULE: &str = "PreferNoSchedule";
/// The node is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The node stopped answering.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// The node was cordoned.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// The node is short of memory.
pub const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";
/// The node is short of disk.
pub const DISK_PRESSURE: &str = "node.kubernetes.io/disk-pressure";
/// The node is short of process ids.
pub const PID_PRESSURE: &str = "node.kubernetes.io/pid-pressure";
/// The node's network is not set up.
pub const NETWORK_UNAVAILABLE: &str = "node.kubernetes.io/network-unavailable";
/// An administrator declared the node dead.
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// The node runs the control plane.
pub const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// Whether `toleration` covers `taint`.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    let key = toleration.key.as_deref().unwrap_or_default();
    if !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => {
            !key.is_empty() && toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        "Exists" => true,
        _ => false,
    }
}

/// Whether any of `tolerations` covers `taint`.
pub fn tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

/// Whether two taints are the same for adding and removing: same key and effect.
pub fn same(a: &Taint, b: &Taint) -> bool {
    a.key == b.key && a.effect == b.effect
}
