//! Processes outside of all pods keep a machine's CPUs busy.

use daruma_world::machines::Pressure;

use super::pressure::Press;
use super::{Aim, Parameter, ParameterKind};

/// See the module.
pub(super) static CPU_STARVATION: Press = Press {
    name: "cpu-starvation",
    summary: "Processes outside of all pods keep a machine's CPUs busy.",
    aim: Aim::Machines,
    parameters: &[Parameter::new("processes", ParameterKind::Count, "How many.").or("16")],
    told: "CPUs are kept busy",
    pressure: |call| Ok(Pressure::Cpu { processes: u32::try_from(call.count("processes")?).unwrap_or(u32::MAX) }),
};
