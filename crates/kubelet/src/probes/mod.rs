//! Probes: is a container started, alive, ready.
//!
//! Source: kubernetes pkg/kubelet/prober.

pub mod check;
mod grpc;
mod http;
mod redirect;
pub mod state;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::{Container as Spec, Pod, Probe};
use daruma_world::containers::ContainerState;
use daruma_world::tasks::AbortOnDrop;

use crate::cell::PodCell;
use crate::plan::is_sidecar;
use crate::shared::Shared;
use crate::worker::look;
use check::{Found, NoResult};
pub use state::{Kind, ProbeState, Step};

/// So often a probe is made until it has a result (`maxProbeRetries`).
const ATTEMPTS: usize = 3;

/// The probes of one pod that run.
#[derive(Default)]
pub struct Probes {
    tasks: BTreeMap<(String, Kind), AbortOnDrop>,
}

impl Probes {
    /// Starts the probes that the pod names and that do not run yet.
    pub fn adjust(&mut self, shared: &Arc<Shared>, cell: &Arc<PodCell>, pod: &Pod) {
        let Some(spec) = &pod.spec else { return };
        let sidecars = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container));
        for container in spec.containers.iter().chain(sidecars) {
            for kind in Kind::ALL {
                let key = (container.name.clone(), kind);
                if kind.of(container).is_some() && !self.tasks.contains_key(&key) {
                    let task = shared.world.spawn("probe", run(shared.clone(), cell.clone(), container.name.clone(), kind));
                    self.tasks.insert(key, task.abort_on_drop());
                }
            }
        }
    }

    /// A pod that ends is asked for readiness only.
    pub fn end_liveness(&mut self) {
        self.tasks.retain(|(_, kind), _| *kind == Kind::Readiness);
    }

    /// Ends all.
    pub fn stop(&mut self) {
        self.tasks.clear();
    }
}

async fn run(shared: Arc<Shared>, cell: Arc<PodCell>, name: String, kind: Kind) {
    let mut state = ProbeState::new(kind);
    loop {
        // From here on nothing is missed; a probe that has nothing to do waits for news only.
        let news = cell.news();
        let pod = cell.pod();
        let Some(spec) = crate::kill::lasting_spec_of(&pod, &name) else { return };
        let Some(probe) = kind.of(spec) else { return };
        let seen = {
            let guard = cell.lock();
            guard.view.latest(&name).map(|container| {
                let started_at = match container.state {
                    ContainerState::Running { started_at } => Some(started_at),
                    _ => None,
                };
                (container.id.clone(), started_at)
            })
        };
        let started = is_started(&cell, &name);
        let step = state.next(seen.as_ref().map(|(id, at)| (id.as_str(), *at)), probe, started, shared.started_at, shared.now());
        let container_id = seen.map(|(id, _)| id).unwrap_or_default();
        match step {
            Step::Wait(Some(wait)) => {
                let pause = shared.world.sleep(wait);
                tokio::select! {
                    biased;
                    () = pause => {}
                    () = news => {}
                }
            }
            Step::Wait(None) => news.await,
            Step::Set(result) => set(&shared, &cell, &container_id, kind, result),
            Step::Probe => {
                let good = Box::pin(ask(&shared, &cell, &pod, spec, probe, kind, &container_id)).await;
                if let Some(good) = good
                    && let Some(result) = state.observe(good, probe)
                {
                    set(&shared, &cell, &container_id, kind, result);
                }
                let period = Duration::from_secs(probe.period_seconds.unwrap_or(10).max(1) as u64);
                shared.world.sleep(period).await;
            }
        }
    }
}

/// Whether the container counts as started, as its status says.
fn is_started(cell: &PodCell, name: &str) -> bool {
    let state = cell.lock();
    let Some(status) = &state.status else { return false };
    let lists = [&status.container_statuses, &status.init_container_statuses];
    lists.into_iter().flatten().flatten().any(|one| one.name == name && one.started == Some(true))
}

fn set(shared: &Arc<Shared>, cell: &Arc<PodCell>, container_id: &str, kind: Kind, result: bool) {
    {
        let mut guard = cell.lock();
        let state = &mut *guard;
        let map = match kind {
            Kind::Startup => &mut state.probed.startup,
            Kind::Liveness => &mut state.probed.liveness,
            Kind::Readiness => &mut state.probed.readiness,
        };
        if map.get(container_id) == Some(&result) {
            return;
        }
        // The results of containers that are gone go with them.
        map.retain(|id, _| state.view.containers.iter().any(|container| container.id == *id));
        map.insert(container_id.to_owned(), result);
    }
    look::tell(shared, cell, false);
    if kind != Kind::Readiness {
        cell.wake();
    }
}

/// One probe, with its event; `None` where no result came about.
async fn ask(
    shared: &Arc<Shared>,
    cell: &PodCell,
    pod: &Pod,
    spec: &Spec,
    probe: &Probe,
    kind: Kind,
    container_id: &str,
) -> Option<bool> {
    let pod_ip = cell.lock().status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default();
    let title = kind.title();
    let mut found = check::check(shared, spec, probe, container_id, &pod_ip).await;
    for _ in 1..ATTEMPTS {
        if found.is_ok() {
            break;
        }
        found = check::check(shared, spec, probe, container_id, &pod_ip).await;
    }
    match found {
        Ok(Found::Healthy) => Some(true),
        Ok(Found::Warning(output)) => {
            shared.recorder.container_warning(pod, &spec.name, "ProbeWarning", format!("{title} probe warning: {output}"));
            Some(true)
        }
        Ok(Found::Unhealthy(output)) => {
            shared.recorder.container_warning(pod, &spec.name, "Unhealthy", format!("{title} probe failed: {output}"));
            Some(false)
        }
        Err(NoResult { state, why }) => {
            if !cell.is_ending() {
                let message = format!("{title} probe errored and resulted in {state} state: {why}");
                shared.recorder.container_warning(pod, &spec.name, "Unhealthy", message);
            }
            None
        }
    }
}
