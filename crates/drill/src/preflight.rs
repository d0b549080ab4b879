//! What a world refuses of a drill that reads well, found out before anything is touched.

use daruma_api::simulated::is_name as is_simulated;
use daruma_world::machines::{Ability, MachineError};

use crate::WorldKind;
use crate::faults::Call;
use crate::file::simulated::{certain, no_link, no_link_between, only_simulated};
use crate::file::{Action, Drill, Problem};

/// Says what machines can do, as [`daruma_world::machines::Machines::supports`] does.
pub type Supports<'a> = &'a dyn Fn(&Ability<'_>) -> Result<(), MachineError>;

/// Everything that a world of this kind, on machines of this kind, refuses; nothing where the drill can be played there.
pub fn problems(drill: &Drill, world: WorldKind, supports: Supports<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, step) in drill.spec.steps.iter().enumerate() {
        let Action::Fault(call) = &step.action else { continue };
        let mut refuse = |message: String| problems.push(Problem::new(format!("spec.steps[{index}].fault"), message));
        let Some(known) = Call::of(call) else {
            refuse(format!("there is no fault {:?}", call.fault));
            continue;
        };
        if known.fault.only_in().is_some_and(|only| only != world) {
            refuse(format!("{} is possible in the virtual world only (--world sim)", call.fault));
            continue;
        }
        for need in known.fault.needs(&known) {
            if let Err(error) = need.ask(supports) {
                refuse(error.to_string());
            }
        }
    }
    if world == WorldKind::Real {
        real(drill, &mut problems);
    }
    problems
}

/// What only the virtual world can be.
fn real(drill: &Drill, problems: &mut Vec<Problem>) {
    if !drill.spec.cluster.preload.is_empty() {
        let message = "a ready-made state can be loaded in the virtual world only (--world sim)";
        problems.push(Problem::new("spec.cluster.preload", message));
    }
    for (index, probe) in drill.spec.probes.iter().enumerate() {
        let place = format!("spec.probes[{index}]");
        if probe.from.as_deref().is_some_and(is_simulated) {
            let message = "a simulated node has no sockets outside of its simulation: ask from a real machine";
            problems.push(Problem::new(format!("{place}.from"), message));
        }
        let destinations = [("http.to", probe.http.as_ref().map(|http| &http.to)), ("tcp", probe.tcp.as_ref())];
        for (field, to) in destinations.into_iter().filter_map(|(field, to)| to.map(|to| (field, to))) {
            let node = to.node.as_ref().filter(|node| is_simulated(node)).map(|node| ("node", node.clone()));
            let pod = to.pod.as_ref().and_then(|pod| only_simulated(drill, pod)).map(|node| ("pod", node));
            for (part, node) in node.into_iter().chain(pod) {
                let message = format!("nothing answers there: no packet enters the simulation that {node} is in");
                problems.push(Problem::new(format!("{place}.{field}.{part}"), message));
            }
        }
    }
    for (index, step) in drill.spec.steps.iter().enumerate() {
        if let Action::Fault(call) = &step.action
            && let Some(to) = &call.target.to
            && let (Some(from), Some(to)) = (certain(&drill.spec.cluster, &call.target), certain(&drill.spec.cluster, to))
            && no_link_between(&from, &to)
        {
            problems.push(Problem::new(format!("spec.steps[{index}].target.to"), no_link(&from, &to)));
        }
    }
}
