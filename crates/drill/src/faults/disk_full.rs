//! A file fills a machine's disk.

use daruma_world::machines::Pressure;

use super::pressure::Press;
use super::{Aim, Parameter, ParameterKind};

/// See the module.
pub(super) static DISK_FULL: Press = Press {
    name: "disk-full",
    summary: "A file fills a machine's disk.",
    aim: Aim::Machines,
    parameters: &[Parameter::new("leave", ParameterKind::Bytes, "Bytes that stay free.").or("64Mi")],
    told: "disk full",
    pressure: |call| Ok(Pressure::Disk { leave_bytes: call.bytes("leave")? }),
};
