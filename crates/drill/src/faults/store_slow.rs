//! Every durable write to a controller's disk, and with it the store's, takes longer.

use daruma_world::machines::Pressure;

use super::pressure::Press;
use super::{Aim, Parameter, ParameterKind};

/// See the module.
pub(super) static STORE_SLOW: Press = Press {
    name: "store-slow",
    summary: "Every durable write to a controller's disk, and with it the store's, takes longer.",
    aim: Aim::Controllers,
    parameters: &[Parameter::new("delay", ParameterKind::Time, "Time added to each durable write.").or("500ms")],
    told: "the store's disk is slow",
    pressure: |call| Ok(Pressure::SlowDisk { delay: call.time("delay")? }),
};
