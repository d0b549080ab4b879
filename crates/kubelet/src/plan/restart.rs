//! Whether a container runs again.
//!
//! Source: kubernetes pkg/api/v1/pod/util.go (ContainerShouldRestart), pkg/kubelet/container/helpers.go.

use daruma_api::core::v1::{Container as Spec, Pod, PodSpec};
use daruma_world::containers::Container;

use crate::view::{exit_code, is_running};

/// Whether a container that ended with `exit_code` runs again.
pub fn restarts(spec: &PodSpec, container: &Spec, exit_code: i32) -> bool {
    if let Some(policy) = container.restart_policy.as_deref() {
        let rule = container.restart_policy_rules.iter().flatten().find(|rule| {
            rule.exit_codes.as_ref().is_some_and(|codes| {
                let named = codes.values.iter().flatten().any(|code| *code == exit_code);
                if codes.operator == "In" { named } else { !named }
            })
        });
        if rule.is_some_and(|rule| rule.action == "Restart") {
            return true;
        }
        return by_policy(policy, exit_code);
    }
    by_policy(spec.restart_policy.as_deref().unwrap_or("Always"), exit_code)
}

/// Whether a container that is ended for a failed probe runs again.
pub fn restarts_on_failure(spec: &PodSpec, container: &Spec) -> bool {
    container.restart_policy.as_deref().or(spec.restart_policy.as_deref()) != Some("Never")
}

fn by_policy(policy: &str, exit_code: i32) -> bool {
    match policy {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

/// Whether a container has to be started, given the newest one of its name.
pub fn should_restart(pod: &Pod, container: &Spec, seen: Option<&Container>) -> bool {
    let Some(spec) = &pod.spec else { return false };
    if pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    match seen {
        None => true,
        Some(seen) if is_running(seen) => false,
        Some(seen) => exit_code(seen).is_none_or(|code| restarts(spec, container, code)),
    }
}
