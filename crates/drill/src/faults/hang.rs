//! A machine holds still: nothing in it runs, no packet enters or leaves.

use futures::future::{BoxFuture, join_all};

use super::{Aim, Call, Fault, FaultError, Need};
use crate::scene::Scene;
use crate::undo::UndoRecord;

/// See the module.
pub struct Hang;

impl Fault for Hang {
    fn name(&self) -> &'static str {
        "hang"
    }

    fn summary(&self) -> &'static str {
        "A machine holds still: nothing in it runs, no packet enters or leaves."
    }

    fn aim(&self) -> Aim {
        Aim::Machines
    }

    fn lasts(&self) -> bool {
        true
    }

    fn needs(&self, _call: &Call<'_>) -> Vec<Need> {
        vec![Need::Hang]
    }

    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>> {
        Box::pin(async move {
            let machines = scene.machines(call.target)?;
            scene.tells("", "hangs");
            for machine in &machines {
                scene.reaches(machine);
            }
            let back = |machine: &String| UndoRecord::Resume { machine: machine.clone() };
            scene.promise(machines.iter().map(back).collect()).await?;
            for result in join_all(machines.iter().map(|machine| scene.hands().hang(machine))).await {
                result?;
            }
            Ok(())
        })
    }
}
