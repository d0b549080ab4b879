//! Signals to the cluster's own programs, for the faults of software and control plane.

use daruma_api::simulated::is_name as is_simulated;
use daruma_world::machines::{Program, Signal};

use super::{Call, FaultError, Need, Parameter, ParameterKind};
use crate::file::PodRef;
use crate::file::simulated::not_there;
use crate::scene::Scene;

/// What is done to a service of a machine.
pub(super) const SERVICE: &[Parameter] = &[Parameter::new(
    "how",
    ParameterKind::Choice(&["kill", "pause", "restart", "stop"]),
    "kill ends it at once and restart asks it to end (it is started again), pause holds it still, stop keeps it ended.",
)
.required()];

/// What is done to a program that is a container.
pub(super) const CONTAINER: &[Parameter] = &[Parameter::new(
    "how",
    ParameterKind::Choice(&["kill", "pause", "restart"]),
    "kill ends it at once and restart asks it to end (its kubelet starts it again), pause holds it still.",
)
.required()];

/// The signal that is asked for.
pub(super) fn signal(call: &Call<'_>) -> Result<Signal, FaultError> {
    Ok(match call.text("how")?.as_deref() {
        Some("kill") => Signal::Kill,
        Some("pause") => Signal::Pause,
        Some("restart") => Signal::Terminate,
        Some("stop") => Signal::Stop,
        _ => return Err(FaultError::Parameter("how: one of kill, pause, restart, stop".to_owned())),
    })
}

fn done(signal: Signal) -> &'static str {
    match signal {
        Signal::Kill => "killed",
        Signal::Pause => "paused",
        Signal::Terminate => "restarted",
        Signal::Stop => "stopped",
        Signal::Continue | Signal::Start => "continued",
    }
}

/// The signals of a service fault: the one that is asked for, and what takes it back.
pub(super) fn signals(call: &Call<'_>) -> Vec<Signal> {
    let Ok(signal) = signal(call) else { return Vec::new() };
    let back = match signal {
        Signal::Pause => Some(Signal::Continue),
        Signal::Stop => Some(Signal::Start),
        _ => None,
    };
    [Some(signal), back].into_iter().flatten().collect()
}

/// What a service fault asks of the machines.
pub(super) fn service_needs(call: &Call<'_>, service: &str) -> Vec<Need> {
    signals(call).into_iter().map(|signal| Need::service(service, signal)).collect()
}

/// What a container fault asks of the machines.
pub(super) fn container_needs(call: &Call<'_>) -> Vec<Need> {
    match signal(call) {
        Ok(Signal::Pause) => vec![Need::container(Signal::Pause), Need::container(Signal::Continue)],
        Ok(signal) => vec![Need::container(signal)],
        Err(_) => Vec::new(),
    }
}

/// Signals a service of all target machines; the timeline calls it `name`.
pub(super) async fn to_service(scene: &Scene, call: &Call<'_>, service: &str, name: &str) -> Result<(), FaultError> {
    let signal = signal(call)?;
    let machines = scene.machines(call.target)?;
    scene.tells("", format!("{name} {}", done(signal)));
    for machine in &machines {
        scene.signal(machine, &Program::Service(service.to_owned()), signal).await?;
    }
    Ok(())
}

/// Signals the containers of all kube-system pods with `selector` that are on the target machines (all controllers
/// where none is named).
pub(super) async fn to_pods(scene: &Scene, call: &Call<'_>, program: &str, selector: &str) -> Result<(), FaultError> {
    let signal = signal(call)?;
    let machines = if call.target.machine_fields().is_empty() && call.fault.aim() == super::Aim::Optional {
        None
    } else {
        Some(scene.machines_or_controllers(call.target)?)
    };
    let spared = machines.iter().flatten().find(|machine| call.fault.needs_node_agents() && is_simulated(machine));
    if let Some(machine) = spared {
        return Err(FaultError::Target(not_there(call.fault.name(), machine)));
    }
    let reference = PodRef {
        namespace: "kube-system".to_owned(),
        name: None,
        selector: Some(selector.to_owned()),
        workload: None,
        node: None,
        nth: 0,
        container: None,
    };
    let mut pods = scene.observer().pods_of(&reference).map_err(FaultError::Target)?;
    pods.retain(|pod| machines.as_ref().is_none_or(|machines| machines.contains(pod.node())) && !pod.node().is_empty());
    if pods.is_empty() {
        return Err(FaultError::Target(format!("no pod of {program} ({selector}) is there")));
    }
    let about = if let [pod] = &pods[..] { format!("pod/{}", pod.name()) } else { String::new() };
    scene.tells(&about, format!("{program} {}", done(signal)));
    for pod in &pods {
        let id = scene.container(pod, None)?;
        scene.signal(pod.node(), &Program::Container(id), signal).await?;
    }
    Ok(())
}
