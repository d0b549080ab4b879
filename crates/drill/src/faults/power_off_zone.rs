//! Every machine of a zone loses its power at once.

use futures::future::{BoxFuture, join_all};

use super::{Aim, Call, Fault, FaultError, Need};
use crate::scene::Scene;
use crate::undo::UndoRecord;

/// See the module.
pub struct PowerOffZone;

impl Fault for PowerOffZone {
    fn name(&self) -> &'static str {
        "power-off-zone"
    }

    fn summary(&self) -> &'static str {
        "Every machine of a zone loses its power at once."
    }

    fn aim(&self) -> Aim {
        Aim::Zone
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
