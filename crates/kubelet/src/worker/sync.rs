//! One look at a living pod: volumes, sandbox, containers, probes, status.

use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::{Container as Spec, Pod};
use daruma_world::containers::{ContainerError, ContainerState};

use super::look::{look, tell};
use crate::backoff::between;
use crate::cell::{Forced, PodCell};
use crate::env::fields::FieldContext;
use crate::plan::{self, PodActions};
use crate::probes::Probes;
use crate::shared::Shared;
use crate::start::{self, StartError, Surroundings, ephemeral_as_container};
use crate::status::is_terminal;
use crate::text::{go_duration, pod_text};
use crate::view::PodView;
use crate::{kill, sandbox, volumes};

/// After a failure the pod is looked at again this much later (kubernetes pkg/kubelet/kubelet.go, backOffPeriod).
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// After volumes could not be set up, doubling (kubernetes pkg/util/goroutinemap/exponentialbackoff).
const AFTER_MOUNT_FAILURE: Duration = Duration::from_millis(500);
const LONGEST_MOUNT_WAIT: Duration = Duration::from_secs(122);

/// Longest wait for the API to hear of lost containers before they are started again.
const TELL_FIRST: Duration = Duration::from_millis(200);

/// Looks once and does what is due; gives the time until something else is, where something will be.
pub(super) async fn sync(shared: &Arc<Shared>, cell: &Arc<PodCell>, probes: &mut Probes) -> Option<Duration> {
    // Before anything is read: whatever changes from here on asks for another look.
    cell.lock().look_wanted = false;
    let pod = cell.pod();
    let Some(spec) = &pod.spec else { return None };
    let view = look(shared, cell).await;
    let mut next = Due(deadline(shared, cell, &pod));
    let phase = tell(shared, cell, false);
    if view.sandboxes.is_empty()
        && let Some(rest) = deadline(shared, cell, &pod)
    {
        // The start time is known only now that it has been told.
        next.within(rest);
    }
    if is_terminal(phase.as_deref()) {
        cell.end(pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30));
        return Some(Duration::ZERO);
    }
    let host_network = plan::is_host_network(&pod);
    if !host_network && let Some(problem) = shared.network_problem() {
        shared.recorder.pod_warning(&pod, "NetworkNotReady", format!("network is not ready: {problem}"));
        // The network's readiness wakes every pod.
        return Some(AFTER_FAILURE);
    }
    let problems = shared.runtime_problems();
    if !problems.is_empty() {
        tracing::debug!(?problems, "the container engine is not ready");
        return Some(Duration::from_millis(200));
    }
    let mut context = field_context(shared, &view);
    let mounted = match volumes::mount_all(shared, cell, &pod, &context).await {
        Ok(mounted) => {
            cell.lock().mount_failures = 0;
            mounted
        }
        Err(failures) => {
            let count = {
                let mut state = cell.lock();
                state.mount_failures = state.mount_failures.saturating_add(1);
                state.mount_failures
            };
            for failure in failures {
                shared.recorder.pod_warning(&pod, "FailedMount", failure);
            }
            return Some(mount_wait(count));
        }
    };
    let actions = plan::plan(&pod, &view, &cell.lock().probed.clone());
    if actions.kill_pod && !view.is_dead() {
        let grace = spec.termination_grace_period_seconds.unwrap_or(30);
        announce_new_sandbox(shared, &pod, &actions);
        if !kill::pod(shared, cell, &pod, &view, grace).await {
            return Some(AFTER_FAILURE);
        }
        look(shared, cell).await;
    } else if actions.create_sandbox {
        announce_new_sandbox(shared, &pod, &actions);
    }
    if actions.create_sandbox && actions.sandbox_id.is_some() && !cell.is_static() {
        // What the loss of the sandbox did to the containers is told before they run again.
        let _ = shared.world.timeout(TELL_FIRST, cell.sent()).await;
    }
    for doomed in &actions.to_kill {
        let Some(container) = kill::spec_of(&pod, &doomed.name) else { continue };
        let grace = kill::grace(&pod, &container, doomed.reason);
        kill::container(shared, cell, &pod, &container, &doomed.container_id, Some(&doomed.message), grace).await;
    }
    if !actions.to_kill.is_empty() {
        look(shared, cell).await;
    }
    if cell.is_ending() {
        return Some(Duration::ZERO);
    }
    let Some(sandbox_id) = ensure_sandbox(shared, cell, &pod, &actions).await else {
        tell(shared, cell, false);
        if !actions.kill_pod || actions.create_sandbox {
            next.within(Duration::from_secs(1));
        }
        return next.0;
    };
    let pod_ips = cell.lock().view.addresses().iter().map(ToString::to_string).collect();
    context.pod_ips = if host_network { shared.host_ips().iter().map(ToString::to_string).collect() } else { pod_ips };
    let around = Surroundings { sandbox_id, mounted, context };
    start_all(shared, cell, &pod, &actions, &around, &mut next).await;
    look(shared, cell).await;
    probes.adjust(shared, cell, &pod);
    tell(shared, cell, false);
    if let Some(rest) = shared.tokens.next_renewal(&cell.uid, shared.now()) {
        next.within(rest);
    }
    next.0
}

/// When something is due next, if ever.
struct Due(Option<Duration>);

impl Due {
    /// Something is due after this time.
    fn within(&mut self, rest: Duration) {
        self.0 = Some(self.0.map_or(rest, |earlier| earlier.min(rest)));
    }
}

/// Wait after the `count`th failure in a row.
fn mount_wait(count: u32) -> Duration {
    AFTER_MOUNT_FAILURE.saturating_mul(1 << count.saturating_sub(1).min(16)).min(LONGEST_MOUNT_WAIT)
}

/// Seconds left of `activeDeadlineSeconds`; ends the pod where none are.
fn deadline(shared: &Shared, cell: &PodCell, pod: &Pod) -> Option<Duration> {
    let allowed = Duration::from_secs(u64::try_from(pod.spec.as_ref()?.active_deadline_seconds?).unwrap_or_default());
    let start = {
        let state = cell.lock();
        let own = state.status.as_ref().and_then(|status| status.start_time.clone());
        own.or_else(|| pod.status.as_ref().and_then(|status| status.start_time.clone()))
    };
    let rest = allowed.saturating_sub(between(start?.0, shared.now()));
    if rest.is_zero() && cell.lock().forced.is_none() {
        let message = "Pod was active on the node longer than the specified deadline";
        shared.recorder.pod(pod, "DeadlineExceeded", message);
        cell.force(Forced { reason: "DeadlineExceeded".into(), message: message.into(), ..Forced::default() });
    }
    Some(rest)
}

pub(super) fn field_context(shared: &Shared, view: &PodView) -> FieldContext {
    FieldContext {
        pod_ips: view.addresses().iter().map(ToString::to_string).collect(),
        host_ips: shared.host_ips(),
        cpu_millis: shared.facts.cpu_millis as i64,
        memory_bytes: crate::node::status::allocatable(shared).get("memory").map_or(0, |memory| memory.value()),
        ephemeral_bytes: 0,
    }
}

fn announce_new_sandbox(shared: &Shared, pod: &Pod, actions: &PodActions) {
    if actions.create_sandbox && actions.sandbox_id.is_some() {
        shared.recorder.pod(pod, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.");
    }
}

/// The sandbox to start containers in; `None` where there is none to be or it could not be made.
async fn ensure_sandbox(shared: &Arc<Shared>, cell: &Arc<PodCell>, pod: &Pod, actions: &PodActions) -> Option<String> {
    if !actions.create_sandbox {
        return if actions.kill_pod { None } else { actions.sandbox_id.clone() };
    }
    match make_sandbox(shared, cell, pod, actions.attempt).await {
        Ok(id) => {
            look(shared, cell).await;
            // The address is known before the images are.
            tell(shared, cell, false);
            Some(id)
        }
        Err(error) => {
            if !cell.is_ending() {
                tracing::warn!(pod = pod_text(pod), %error, "cannot make a sandbox");
                shared.recorder.pod_warning(pod, "FailedCreatePodSandBox", format!("Failed to create pod sandbox: {error}"));
            }
            None
        }
    }
}

/// Makes the pod's sandbox and gives its id.
pub(super) async fn make_sandbox(shared: &Shared, cell: &PodCell, pod: &Pod, attempt: u32) -> Result<String, ContainerError> {
    let no_spec = Default::default();
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    let node_resolver = shared.world.disk.read(&shared.config.resolv_conf).await.unwrap_or_default();
    let node_resolver = sandbox::parse_resolv_conf(&String::from_utf8_lossy(&node_resolver));
    let dns = sandbox::dns(pod, spec, &shared.config, node_resolver);
    let config = sandbox::sandbox_config(pod, spec, &shared.config, cell.source, attempt, dns);
    let failed = |error: std::io::Error| ContainerError::Other(error.to_string());
    shared.world.disk.create_dir_all(&config.log_directory, 0o755).await.map_err(failed)?;
    shared.runtime.run_sandbox(config).await
}

async fn start_all(
    shared: &Arc<Shared>,
    cell: &Arc<PodCell>,
    pod: &Pod,
    actions: &PodActions,
    around: &Surroundings,
    next: &mut Due,
) {
    let Some(spec) = &pod.spec else { return };
    let ephemeral: Vec<Spec> = spec.ephemeral_containers.iter().flatten().map(ephemeral_as_container).collect();
    let init: &[Spec] = spec.init_containers.as_deref().unwrap_or_default();
    for index in &actions.ephemeral_to_start {
        if let Some(container) = ephemeral.get(*index) {
            start_one(shared, cell, pod, container, around, next).await;
        }
    }
    for container in actions.init_to_start.iter().filter_map(|index| init.get(*index)) {
        if !start_one(shared, cell, pod, container, around, next).await && !plan::is_sidecar(container) {
            return;
        }
    }
    for container in actions.to_start.iter().filter_map(|index| spec.containers.get(*index)) {
        start_one(shared, cell, pod, container, around, next).await;
    }
}

/// Starts one container unless it has to wait; notes why it does not run.
async fn start_one(
    shared: &Arc<Shared>,
    cell: &Arc<PodCell>,
    pod: &Pod,
    container: &Spec,
    around: &Surroundings,
    next: &mut Due,
) -> bool {
    if cell.is_ending() {
        return false;
    }
    let result = match crash_loop(shared, cell, pod, container) {
        Some(error) => Err(error),
        None => start::start(shared, cell, pod, container, around).await,
    };
    match result {
        Ok(()) => {
            cell.lock().waiting.remove(&container.name);
            true
        }
        Err(error) if error.reason.is_empty() => false,
        Err(error) => {
            next.within(error.retry_after.unwrap_or(AFTER_FAILURE));
            cell.lock().waiting.insert(container.name.clone(), (error.reason.to_owned(), error.message));
            false
        }
    }
}

/// Whether a container that ended has to wait before it runs again.
fn crash_loop(shared: &Shared, cell: &PodCell, pod: &Pod, container: &Spec) -> Option<StartError> {
    let finished_at = {
        let state = cell.lock();
        state.view.containers.iter().find_map(|seen| match seen.state {
            ContainerState::Exited { finished_at, .. } if seen.config.name == container.name => Some(finished_at),
            _ => None,
        })
    }?;
    let key = format!("{}/{}/{}", cell.uid, container.name, plan::container_hash(container));
    let now = shared.now();
    let mut restarts = shared.restarts.lock().expect("no panic while held");
    let Some(rest) = restarts.remaining(&key, finished_at, now) else {
        restarts.next(&key, finished_at, now);
        return None;
    };
    let wait = go_duration(restarts.wait(&key));
    drop(restarts);
    let place = format!("{} in pod {}", container.name, pod_text(pod));
    // One event a wait, not one a look.
    let told = cell
        .lock()
        .waiting
        .get(&container.name)
        .is_some_and(|(reason, message)| reason == "CrashLoopBackOff" && message.starts_with(&format!("back-off {wait} ")));
    if !told {
        shared.recorder.container_warning(
            pod,
            &container.name,
            "BackOff",
            format!("Back-off restarting failed container {place}"),
        );
    }
    let message = format!("back-off {wait} restarting failed container={} pod={}", container.name, pod_text(pod));
    Some(StartError::new("CrashLoopBackOff", message).retry_after(rest))
}
