//! A process outside of all pods holds memory of a machine.

use daruma_world::machines::Pressure;
use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, Parameter, ParameterKind};
use crate::scene::Scene;

/// See the module.
pub struct MemoryPressure;

impl Fault for MemoryPressure {
    fn name(&self) -> &'static str {
        "memory-pressure"
    }

    fn summary(&self) -> &'static str {
        "A process outside of all pods holds memory of a machine."
    }

    fn aim(&self) -> Aim {
        Aim::Machines
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::new("bytes", ParameterKind::Bytes, "Memory that it holds.").required()] }
    }

    fn lasts(&self) -> bool {
        true
    }

    fn needs(&self, call: &Call<'_>) -> Vec<Need> {
        pressure(call).map(Need::Pressure).into_iter().collect()
    }

    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>> {
        Box::pin(async move {
            let pressure = pressure(call)?;
            scene.tells("", "memory is held by somebody else");
            for machine in scene.machines(call.target)? {
                scene.press(&machine, pressure).await?;
            }
            Ok(())
        })
    }
}

fn pressure(call: &Call<'_>) -> Result<Pressure, FaultError> {
    Ok(Pressure::Memory { bytes: call.bytes("bytes")? })
}
