//! The init containers' part of the plan.
//!
//! Source: kubernetes pkg/kubelet/kuberuntime/kuberuntime_container.go (computeInitContainerActions).

use daruma_api::core::v1::Pod;
use daruma_world::containers::ContainerState;

use super::restart::restarts;
use super::{Kill, KillReason, PodActions, Probed, changed, is_sidecar};
use crate::view::PodView;

/// Adds to `actions` and says whether the pod is initialized.
pub(super) fn plan(pod: &Pod, view: &PodView, probed: &Probed, actions: &mut PodActions) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let init: Vec<_> = spec.init_containers.iter().flatten().collect();
    if init.is_empty() {
        return true;
    }
    // A container that is made or runs shows that initialization happened; an ended one may be of an earlier sandbox.
    let mut initialized = spec.containers.iter().any(|container| {
        view.latest(&container.name)
            .is_some_and(|seen| matches!(seen.state, ContainerState::Created | ContainerState::Running { .. }))
    });
    let mut passed = initialized;
    // From the last to the first: records of finished ones may be gone.
    for (index, container) in init.iter().enumerate().rev() {
        let sidecar = is_sidecar(container);
        let Some(seen) = view.latest(&container.name) else {
            if passed && sidecar {
                actions.init_to_start.push(index);
            }
            continue;
        };
        if passed && !sidecar {
            continue;
        }
        let last = index == init.len() - 1;
        let mut done = |actions: &mut PodActions| {
            if last {
                initialized = true;
            } else if !passed {
                actions.init_to_start.push(index + 1);
            }
        };
        match &seen.state {
            ContainerState::Created => actions.init_to_start.push(index),
            ContainerState::Running { .. } if sidecar => {
                let kill = |what: &str, reason| Kill {
                    container_id: seen.id.clone(),
                    name: container.name.clone(),
                    message: format!("Init container {} {what}", container.name),
                    reason,
                };
                let startup = probed.startup.get(&seen.id);
                if container.startup_probe.is_some() && startup != Some(&true) {
                    if startup == Some(&false) {
                        actions.to_kill.push(kill("failed startup probe", KillReason::Startup));
                        actions.init_to_start.push(index);
                    }
                } else {
                    done(actions);
                    if changed(container, seen) {
                        actions.to_kill.push(kill("definition changed", KillReason::Other));
                        actions.init_to_start.push(index);
                    } else if container.liveness_probe.is_some() && probed.liveness.get(&seen.id) == Some(&false) {
                        actions.to_kill.push(kill("failed liveness probe", KillReason::Liveness));
                        actions.init_to_start.push(index);
                    }
                }
            }
            ContainerState::Running { .. } => {}
            ContainerState::Exited { .. } if sidecar => actions.init_to_start.push(index),
            ContainerState::Exited { exit_code: 0, .. } => done(actions),
            ContainerState::Exited { exit_code, .. } => {
                if !restarts(spec, container, *exit_code) {
                    actions.kill_pod = true;
                    actions.init_to_start.clear();
                    return false;
                }
                actions.init_to_start.push(index);
            }
        }
        passed = true;
    }
    if !passed {
        actions.init_to_start.push(0);
    }
    actions.init_to_start.sort_unstable();
    actions.init_to_start.dedup();
    initialized
}
