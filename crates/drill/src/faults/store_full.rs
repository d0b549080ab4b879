//! A file fills the disk of a controller, and with it that of the store.

use daruma_world::machines::Pressure;

use super::pressure::Press;
use super::{Aim, Parameter, ParameterKind};

/// See the module.
pub(super) static STORE_FULL: Press = Press {
    name: "store-full",
    summary: "A file fills the disk of a controller, and with it that of the store.",
    aim: Aim::Controllers,
    parameters: &[Parameter::new("leave", ParameterKind::Bytes, "Bytes that stay free.").or("0")],
    told: "the store's disk is full",
    pressure: |call| Ok(Pressure::Disk { leave_bytes: call.bytes("leave")? }),
};
