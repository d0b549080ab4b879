//! A process outside of all pods holds memory of a machine.

use daruma_world::machines::Pressure;

use super::pressure::Press;
use super::{Aim, Parameter, ParameterKind};

/// See the module.
pub(super) static MEMORY_PRESSURE: Press = Press {
    name: "memory-pressure",
    summary: "A process outside of all pods holds memory of a machine.",
    aim: Aim::Machines,
    parameters: &[Parameter::new("bytes", ParameterKind::Bytes, "Memory that it holds.").required()],
    told: "memory is held by somebody else",
    pressure: |call| Ok(Pressure::Memory { bytes: call.bytes("bytes")? }),
};
