//! A machine's clock goes wrong by so many milliseconds.

use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, Parameter, ParameterKind};
use crate::WorldKind;
use crate::scene::Scene;
use crate::undo::UndoRecord;

/// See the module.
pub struct ClockSkew;

impl Fault for ClockSkew {
    fn name(&self) -> &'static str {
        "clock-skew"
    }

    fn summary(&self) -> &'static str {
        "A machine's clock goes wrong by so many milliseconds."
    }

    fn aim(&self) -> Aim {
        Aim::Machines
    }

    fn parameters(&self) -> &'static [Parameter] {
        const {
            &[Parameter::new("offsetMs", ParameterKind::Signed, "Milliseconds from the true time; below zero it is behind.")
                .required()]
        }
    }

    fn only_in(&self) -> Option<WorldKind> {
        Some(WorldKind::Sim)
    }

    fn lasts(&self) -> bool {
        true
    }

    fn needs(&self, _call: &Call<'_>) -> Vec<Need> {
        vec![Need::ClockOffset]
    }

    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>> {
        Box::pin(async move {
            let offset_ms = call.signed("offsetMs")?;
            let machines = scene.machines(call.target)?;
            scene.tells("", format!("clock is {offset_ms} ms off"));
            for machine in &machines {
                scene.reaches(machine);
                scene.promise(vec![UndoRecord::Clock { machine: machine.clone() }]).await?;
                scene.hands().set_clock_offset(machine, offset_ms).await?;
            }
            Ok(())
        })
    }
}
