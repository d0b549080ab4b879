//! A machine loses its power and gets it again at once; it boots.

use futures::future::{BoxFuture, join_all};

use super::{Aim, Call, Fault, FaultError, Need};
use crate::scene::Scene;
use crate::undo::UndoRecord;

/// See the module.
pub struct Reset;

impl Fault for Reset {
    fn name(&self) -> &'static str {
        "reset"
    }

    fn summary(&self) -> &'static str {
        "A machine loses its power and gets it again at once; it boots."
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
            scene.tells("", "reset");
            for machine in &machines {
                scene.reaches(machine);
                scene.suspect(machine);
            }
            let back = |machine: &String| UndoRecord::PowerOn { machine: machine.clone() };
            scene.promise(machines.iter().map(back).collect()).await?;
            for result in join_all(machines.iter().map(|machine| scene.hands().reset(machine))).await {
                result?;
            }
            Ok(())
        })
    }
}
