//! Empty files use up a machine's inodes.

use daruma_world::machines::Pressure;

use super::pressure::Press;
use super::{Aim, Parameter, ParameterKind};

/// See the module.
pub(super) static INODES_FULL: Press = Press {
    name: "inodes-full",
    summary: "Empty files use up a machine's inodes.",
    aim: Aim::Machines,
    parameters: &[Parameter::new("leave", ParameterKind::Count, "Inodes that stay free.").or("100")],
    told: "inodes full",
    pressure: |call| Ok(Pressure::Inodes { leave: call.count("leave")? }),
};
