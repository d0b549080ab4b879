//! Processes outside of all pods keep a machine's CPUs busy.

use daruma_world::machines::Pressure;
use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, Parameter, ParameterKind};
use crate::scene::Scene;

/// See the module.
pub struct CpuStarvation;

impl Fault for CpuStarvation {
    fn name(&self) -> &'static str {
        "cpu-starvation"
    }

    fn summary(&self) -> &'static str {
        "Processes outside of all pods keep a machine's CPUs busy."
    }

    fn aim(&self) -> Aim {
        Aim::Machines
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::new("processes", ParameterKind::Count, "How many.").or("16")] }
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
            scene.tells("", "CPUs are kept busy");
            for machine in scene.machines(call.target)? {
                scene.press(&machine, pressure).await?;
            }
            Ok(())
        })
    }
}

fn pressure(call: &Call<'_>) -> Result<Pressure, FaultError> {
    Ok(Pressure::Cpu { processes: u32::try_from(call.count("processes")?).unwrap_or(u32::MAX) })
}
