//! A machine that is off gets power again.

use futures::future::{BoxFuture, join_all};

use super::{Aim, Call, Fault, FaultError, Need};
use crate::scene::Scene;

/// See the module.
pub struct PowerOn;

impl Fault for PowerOn {
    fn name(&self) -> &'static str {
        "power-on"
    }

    fn summary(&self) -> &'static str {
        "A machine that is off gets power again."
    }

    fn aim(&self) -> Aim {
        Aim::Machines
    }

    fn lasts(&self) -> bool {
        false
    }

    fn needs(&self, _call: &Call<'_>) -> Vec<Need> {
        Vec::new()
    }

    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>> {
        Box::pin(async move {
            let machines = scene.machines(call.target)?;
            scene.tells("", "power on");
            for machine in &machines {
                scene.reaches(machine);
            }
            for result in join_all(machines.iter().map(|machine| scene.hands().power_on(machine))).await {
                result?;
            }
            Ok(())
        })
    }
}
