//! Empty files use up a machine's inodes.

use daruma_world::machines::Pressure;
use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, Parameter, ParameterKind};
use crate::scene::Scene;

/// See the module.
pub struct InodesFull;

impl Fault for InodesFull {
    fn name(&self) -> &'static str {
        "inodes-full"
    }

    fn summary(&self) -> &'static str {
        "Empty files use up a machine's inodes."
    }

    fn aim(&self) -> Aim {
        Aim::Machines
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::new("leave", ParameterKind::Count, "Inodes that stay free.").or("100")] }
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
            scene.tells("", "inodes full");
            for machine in scene.machines(call.target)? {
                scene.press(&machine, pressure).await?;
            }
            Ok(())
        })
    }
}

fn pressure(call: &Call<'_>) -> Result<Pressure, FaultError> {
    Ok(Pressure::Inodes { leave: call.count("leave")? })
}
