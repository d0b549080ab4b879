//! A machine that hangs goes on.

use futures::future::{BoxFuture, join_all};

use super::{Aim, Call, Fault, FaultError, Need};
use crate::scene::Scene;

/// See the module.
pub struct Resume;

impl Fault for Resume {
    fn name(&self) -> &'static str {
        "resume"
    }

    fn summary(&self) -> &'static str {
        "A machine that hangs goes on."
    }

    fn aim(&self) -> Aim {
        Aim::Machines
    }

    fn lasts(&self) -> bool {
        false
    }

    fn needs(&self, _call: &Call<'_>) -> Vec<Need> {
        vec![Need::Hang]
    }

    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>> {
        Box::pin(async move {
            let machines = scene.machines(call.target)?;
            scene.tells("", "goes on");
            for machine in &machines {
                scene.reaches(machine);
            }
            for result in join_all(machines.iter().map(|machine| scene.hands().resume(machine))).await {
                result?;
            }
            Ok(())
        })
    }
}
