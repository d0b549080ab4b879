//! Ending containers and pods.
//!
//! Source: kubernetes pkg/kubelet/kuberuntime/kuberuntime_container.go (killContainer, setTerminationGracePeriod).

use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::{Container as Spec, Pod};
use daruma_world::containers::ContainerError;
use futures::future::join_all;

use crate::cell::PodCell;
pub use crate::plan::KillReason as Why;
use crate::plan::is_sidecar;
use crate::shared::Shared;
use crate::start::{ephemeral_as_container, is_gone};
use crate::view::PodView;
use crate::{hooks, text};

/// Least grace of a container in seconds.
const LEAST_GRACE: i64 = 2;

/// Grace period in seconds of a container that is ended while its pod lives on.
pub fn grace(pod: &Pod, spec: &Spec, why: Why) -> i64 {
    if let Some(grace) = pod.metadata.deletion_grace_period_seconds {
        return grace;
    }
    let probe = match why {
        Why::Startup => spec.startup_probe.as_ref(),
        Why::Liveness => spec.liveness_probe.as_ref(),
        Why::Other => None,
    };
    probe
        .and_then(|probe| probe.termination_grace_period_seconds)
        .or_else(|| pod.spec.as_ref()?.termination_grace_period_seconds)
        .unwrap_or(30)
}

/// The specification of a container by its name.
pub fn spec_of(pod: &Pod, name: &str) -> Option<Spec> {
    lasting_spec_of(pod, name).cloned().or_else(|| {
        let mut ephemeral = pod.spec.as_ref()?.ephemeral_containers.iter().flatten();
        ephemeral.find(|container| container.name == name).map(ephemeral_as_container)
    })
}

/// As [`spec_of`], ephemeral containers aside.
pub fn lasting_spec_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a Spec> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
}

/// Ends a container: event, pre-stop hook, stop signal, and after `grace` seconds the kill. Completes when it has
/// ended; a shorter grace of the pod, set meanwhile, counts at once.
pub async fn container(
    shared: &Arc<Shared>,
    cell: &PodCell,
    pod: &Pod,
    spec: &Spec,
    id: &str,
    message: Option<&str>,
    grace: i64,
) -> bool {
    let message = message.map_or_else(|| format!("Stopping container {}", spec.name), str::to_owned);
    shared.recorder.container(pod, &spec.name, "Killing", message);
    let started = shared.world.monotonic();
    let mut grace = grace;
    if let Some(hook) = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref())
        && grace > 0
    {
        let pod_ips: Vec<String> = cell.lock().view.addresses().iter().map(ToString::to_string).collect();
        let run = Box::pin(hooks::run(shared, pod, spec, id, hook, &pod_ips));
        let limited = shared.world.timeout(Duration::from_secs(grace as u64), run);
        tokio::select! {
            biased;
            shorter = cell.ending_within(grace) => grace = shorter,
            ran = limited => if let Ok(Err(error)) = ran {
                tracing::warn!(container = spec.name, error, "a pre-stop hook failed");
                shared.recorder.container_warning(pod, &spec.name, "FailedPreStopHook", "PreStopHook failed");
            },
        }
        grace -= shared.world.monotonic().saturating_sub(started).as_secs() as i64;
    }
    loop {
        let seconds = grace.max(LEAST_GRACE);
        let stop = shared.runtime.stop_container(id, Duration::from_secs(seconds as u64));
        tokio::select! {
            biased;
            stopped = stop => return report(spec, &stopped),
            shorter = cell.ending_within(seconds) => grace = shorter,
        }
        if grace.max(LEAST_GRACE) == seconds {
            let stop = shared.runtime.stop_container(id, Duration::from_secs(seconds as u64));
            return report(spec, &stop.await);
        }
    }
}

fn report(spec: &Spec, stopped: &Result<(), ContainerError>) -> bool {
    match stopped {
        Ok(()) => true,
        Err(error) if is_gone(error) => true,
        Err(error) => {
            tracing::warn!(container = spec.name, %error, "cannot stop a container");
            false
        }
    }
}

/// Ends everything of a pod within `grace` seconds: containers, then sidecars in reverse order, then the sandboxes.
/// `false` when something could not be ended.
pub async fn pod(shared: &Arc<Shared>, cell: &PodCell, pod: &Pod, view: &PodView, grace: i64) -> bool {
    let started = shared.world.monotonic();
    let (mut first, mut sidecars) = (Vec::new(), Vec::new());
    for seen in view.running() {
        let spec = spec_of(pod, &seen.config.name).unwrap_or_else(|| Spec { name: seen.config.name.clone(), ..Spec::default() });
        let list = if is_sidecar(&spec) && is_init(pod, &spec.name) { &mut sidecars } else { &mut first };
        list.push((spec, seen.id.clone()));
    }
    let all = join_all(first.iter().map(|(spec, id)| container(shared, cell, pod, spec, id, None, grace))).await;
    let mut good = all.into_iter().all(|ended| ended);
    let order =
        |name: &str| pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten()).position(|one| one.name == name);
    sidecars.sort_by_key(|(spec, _)| std::cmp::Reverse(order(&spec.name)));
    for (spec, id) in &sidecars {
        let passed = shared.world.monotonic().saturating_sub(started).as_secs() as i64;
        good &= container(shared, cell, pod, spec, id, None, (grace - passed).max(LEAST_GRACE)).await;
    }
    for sandbox in view.sandboxes.iter().filter(|sandbox| sandbox.ready) {
        if let Err(error) = shared.runtime.stop_sandbox(&sandbox.id).await
            && !is_gone(&error)
        {
            tracing::warn!(pod = text::pod_text(pod), %error, "cannot stop a sandbox");
            shared.recorder.pod_warning(pod, "FailedKillPod", format!("error killing pod: {error}"));
            good = false;
        }
    }
    good
}

fn is_init(pod: &Pod, name: &str) -> bool {
    pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten()).any(|container| container.name == name)
}
