//! A file fills the disk of a controller, and with it that of the store.

use daruma_world::machines::Pressure;
use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, Parameter, ParameterKind};
use crate::scene::Scene;

/// See the module.
pub struct StoreFull;

impl Fault for StoreFull {
    fn name(&self) -> &'static str {
        "store-full"
    }

    fn summary(&self) -> &'static str {
        "A file fills the disk of a controller, and with it that of the store."
    }

    fn aim(&self) -> Aim {
        Aim::Controllers
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::new("leave", ParameterKind::Bytes, "Bytes that stay free.").or("0")] }
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
            scene.tells("", "the store's disk is full");
            for machine in scene.machines_or_controllers(call.target)? {
                scene.press(&machine, pressure).await?;
            }
            Ok(())
        })
    }
}

fn pressure(call: &Call<'_>) -> Result<Pressure, FaultError> {
    Ok(Pressure::Disk { leave_bytes: call.bytes("leave")? })
}
