//! The phase of a pod.
//!
//! Source: kubernetes pkg/kubelet/kubelet_pods.go (getPhase).

use daruma_api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, PodSpec};

use crate::plan::is_sidecar;
use crate::plan::restart::restarts;

/// How a container counts.
enum Counted<'a> {
    Unknown,
    Running(&'a ContainerStatus),
    Terminated(&'a ContainerStateTerminated),
    /// Waiting after it had ended.
    WaitingAfter(&'a ContainerStateTerminated),
    Waiting,
}

fn count<'a>(statuses: &'a [ContainerStatus], name: &str) -> Counted<'a> {
    let Some(status) = statuses.iter().find(|status| status.name == name) else { return Counted::Unknown };
    let terminated = |state: &'a Option<ContainerState>| state.as_ref().and_then(|state| state.terminated.as_ref());
    match &status.state {
        Some(ContainerState { running: Some(_), .. }) => Counted::Running(status),
        Some(ContainerState { terminated: Some(ended), .. }) => Counted::Terminated(ended),
        Some(ContainerState { waiting: Some(_), .. }) => {
            terminated(&status.last_state).map_or(Counted::Waiting, Counted::WaitingAfter)
        }
        _ => Counted::Unknown,
    }
}

/// The phase that follows from container statuses. `terminal`: the pod will not run again.
/// `initialized`: one of its containers was started in the present sandbox.
pub(super) fn phase(
    spec: &PodSpec,
    statuses: &[ContainerStatus],
    terminal: bool,
    is_static: bool,
    initialized: bool,
) -> &'static str {
    let (mut pending_init, mut pending_sidecars, mut failed_init) = (false, false, false);
    let (mut unknown, mut running, mut waiting) = (0, 0, 0);
    let (mut stopped, mut final_stops, mut succeeded) = (0, 0, 0);
    for container in spec.init_containers.iter().flatten() {
        let counted = count(statuses, &container.name);
        if is_sidecar(container) {
            match counted {
                Counted::Unknown => unknown += 1,
                Counted::Running(status) => {
                    pending_sidecars |= status.started != Some(true);
                    running += 1;
                }
                Counted::Terminated(_) | Counted::WaitingAfter(_) => {}
                Counted::Waiting => {
                    pending_sidecars = true;
                    waiting += 1;
                }
            }
            continue;
        }
        match counted {
            Counted::Terminated(ended) | Counted::WaitingAfter(ended) if ended.exit_code != 0 => {
                failed_init |= !restarts(spec, container, ended.exit_code);
            }
            Counted::Terminated(_) | Counted::WaitingAfter(_) => {}
            Counted::Unknown | Counted::Running(_) | Counted::Waiting => pending_init = true,
        }
    }
    for container in &spec.containers {
        match count(statuses, &container.name) {
            Counted::Unknown => unknown += 1,
            Counted::Running(_) => running += 1,
            Counted::Waiting => waiting += 1,
            Counted::Terminated(ended) => {
                stopped += 1;
                final_stops += i32::from(!restarts(spec, container, ended.exit_code));
                succeeded += i32::from(ended.exit_code == 0);
            }
            Counted::WaitingAfter(ended) => {
                stopped += 1;
                final_stops += i32::from(!restarts(spec, container, ended.exit_code));
            }
        }
    }
    if failed_init {
        return "Failed";
    }
    if pending_init || (pending_sidecars && !initialized) || waiting > 0 {
        return "Pending";
    }
    if running > 0 && unknown == 0 {
        return "Running";
    }
    if running == 0 && stopped > 0 && unknown == 0 {
        let ended = if stopped == succeeded { "Succeeded" } else { "Failed" };
        if terminal && !is_static {
            return ended;
        }
        return if stopped == final_stops { ended } else { "Running" };
    }
    "Pending"
}
