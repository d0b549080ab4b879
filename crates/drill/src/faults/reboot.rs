//! A machine ends everything in order and boots again.

use futures::future::{BoxFuture, join_all};

use super::{Aim, Call, Fault, FaultError, Need};
use crate::scene::Scene;
use crate::undo::UndoRecord;

/// See the module.
pub struct Reboot;

impl Fault for Reboot {
    fn name(&self) -> &'static str {
        "reboot"
    }

    fn summary(&self) -> &'static str {
        "A machine ends everything in order and boots again."
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
            scene.tells("", "reboot");
            for machine in &machines {
                scene.reaches(machine);
            }
            let back = |machine: &String| UndoRecord::PowerOn { machine: machine.clone() };
            scene.promise(machines.iter().map(back).collect()).await?;
            for result in join_all(machines.iter().map(|machine| scene.hands().reboot(machine))).await {
                result?;
            }
            Ok(())
        })
    }
}
