//! A machine loses its power and stays off.

use futures::future::{BoxFuture, join_all};

use super::{Aim, Call, Fault, FaultError, Need};
use crate::scene::Scene;
use crate::undo::UndoRecord;

/// See the module.
pub struct PowerOff;

impl Fault for PowerOff {
    fn name(&self) -> &'static str {
        "power-off"
    }

    fn summary(&self) -> &'static str {
        "A machine loses its power and stays off."
    }

    fn aim(&self) -> Aim {
        Aim::Machines
    }

    fn lasts(&self) -> bool {
        true
    }

    fn needs(&self, _call: &Call<'_>) -> Vec<Need> {
        Vec::new()
    }

    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>> {
        Box::pin(async move {
            let machines = scene.machines(call.target)?;
            scene.tells("", "power off");
            for machine in &machines {
                scene.reaches(machine);
                scene.suspect(machine);
            }
            let back = |machine: &String| UndoRecord::PowerOn { machine: machine.clone() };
            scene.promise(machines.iter().map(back).collect()).await?;
            for result in join_all(machines.iter().map(|machine| scene.hands().power_off(machine, false))).await {
                result?;
            }
            Ok(())
        })
    }
}
