//! What a world refuses of a drill that reads well, found out before anything is touched.

use daruma_world::machines::{Ability, MachineError};

use crate::WorldKind;
use crate::faults::Call;
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
}
