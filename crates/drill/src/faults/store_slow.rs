//! Every durable write to a controller's disk, and with it the store's, takes longer.

use daruma_world::machines::Pressure;
use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, Parameter, ParameterKind};
use crate::scene::Scene;

/// See the module.
pub struct StoreSlow;

impl Fault for StoreSlow {
    fn name(&self) -> &'static str {
        "store-slow"
    }

    fn summary(&self) -> &'static str {
        "Every durable write to a controller's disk, and with it the store's, takes longer."
    }

    fn aim(&self) -> Aim {
        Aim::Controllers
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::new("delay", ParameterKind::Time, "Time added to each durable write.").or("500ms")] }
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
            scene.tells("", "the store's disk is slow");
            for machine in scene.machines_or_controllers(call.target)? {
                scene.press(&machine, pressure).await?;
            }
            Ok(())
        })
    }
}

fn pressure(call: &Call<'_>) -> Result<Pressure, FaultError> {
    Ok(Pressure::SlowDisk { delay: call.time("delay")? })
}
