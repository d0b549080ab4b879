//! Processes outside of all pods use up a machine's process ids.

use daruma_world::machines::Pressure;

use super::pressure::Press;
use super::{Aim, Parameter, ParameterKind};

/// See the module.
pub(super) static PID_EXHAUSTION: Press = Press {
    name: "pid-exhaustion",
    summary: "Processes outside of all pods use up a machine's process ids.",
    aim: Aim::Machines,
    parameters: &[Parameter::new("leave", ParameterKind::Count, "Processes that may still be started.").or("0")],
    told: "process ids are used up",
    pressure: |call| Ok(Pressure::Pids { leave: call.count("leave")? }),
};
