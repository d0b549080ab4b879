//! A controller loses its power in the middle of a write, of which the disk keeps a part.

use futures::future::{BoxFuture, join_all};

use super::{Aim, Call, Fault, FaultError, Need};
use crate::WorldKind;
use crate::scene::Scene;
use crate::undo::UndoRecord;

/// See the module.
pub struct StoreTorn;

impl Fault for StoreTorn {
    fn name(&self) -> &'static str {
        "store-torn"
    }

    fn summary(&self) -> &'static str {
        "A controller loses its power in the middle of a write, of which the disk keeps a part."
    }

    fn aim(&self) -> Aim {
        Aim::Controllers
    }

    fn only_in(&self) -> Option<WorldKind> {
        Some(WorldKind::Sim)
    }

    fn lasts(&self) -> bool {
        true
    }

    fn needs(&self, _call: &Call<'_>) -> Vec<Need> {
        vec![Need::TornWrites]
    }

    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>> {
        Box::pin(async move {
            let machines = scene.machines_or_controllers(call.target)?;
            scene.tells("", "power off in the middle of a write");
            for machine in &machines {
                scene.reaches(machine);
            }
            let back = |machine: &String| UndoRecord::PowerOn { machine: machine.clone() };
            scene.promise(machines.iter().map(back).collect()).await?;
            for result in join_all(machines.iter().map(|machine| scene.hands().power_off(machine, true))).await {
                result?;
            }
            Ok(())
        })
    }
}
