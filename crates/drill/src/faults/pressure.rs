//! The shape of faults that use a machine up. What differs between them is a row of data in their files.

use daruma_world::machines::Pressure;
use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, Parameter};
use crate::scene::Scene;

/// A fault that presses machines until it is undone.
pub(super) struct Press {
    pub(super) name: &'static str,
    pub(super) summary: &'static str,
    /// [`Aim::Machines`] or [`Aim::Controllers`].
    pub(super) aim: Aim,
    pub(super) parameters: &'static [Parameter],
    /// For the timeline.
    pub(super) told: &'static str,
    /// What the parameters ask for.
    pub(super) pressure: fn(&Call<'_>) -> Result<Pressure, FaultError>,
}

impl Fault for Press {
    fn name(&self) -> &'static str {
        self.name
    }

    fn summary(&self) -> &'static str {
        self.summary
    }

    fn aim(&self) -> Aim {
        self.aim
    }

    fn parameters(&self) -> &'static [Parameter] {
        self.parameters
    }

    fn lasts(&self) -> bool {
        true
    }

    fn needs(&self, call: &Call<'_>) -> Vec<Need> {
        (self.pressure)(call).map(Need::Pressure).into_iter().collect()
    }

    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>> {
        Box::pin(async move {
            let pressure = (self.pressure)(call)?;
            scene.tells("", self.told);
            let machines = match self.aim {
                Aim::Controllers => scene.machines_or_controllers(call.target)?,
                _ => scene.machines(call.target)?,
            };
            for machine in machines {
                scene.press(&machine, pressure).await?;
            }
            Ok(())
        })
    }
}
