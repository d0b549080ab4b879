//! Processes outside of all pods use up a machine's process ids.

use daruma_world::machines::Pressure;
use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, Parameter, ParameterKind};
use crate::scene::Scene;

/// See the module.
pub struct PidExhaustion;

impl Fault for PidExhaustion {
    fn name(&self) -> &'static str {
        "pid-exhaustion"
    }

    fn summary(&self) -> &'static str {
        "Processes outside of all pods use up a machine's process ids."
    }

    fn aim(&self) -> Aim {
        Aim::Machines
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::new("leave", ParameterKind::Count, "Processes that may still be started.").or("0")] }
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
            scene.tells("", "process ids are used up");
            for machine in scene.machines(call.target)? {
                scene.press(&machine, pressure).await?;
            }
            Ok(())
        })
    }
}

fn pressure(call: &Call<'_>) -> Result<Pressure, FaultError> {
    Ok(Pressure::Pids { leave: call.count("leave")? })
}
