//! Mends links: those of some machines, or all.

use std::collections::BTreeSet;

use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need};
use crate::scene::Scene;

/// See the module.
pub struct Mend;

impl Fault for Mend {
    fn name(&self) -> &'static str {
        "mend"
    }

    fn summary(&self) -> &'static str {
        "Mends links: those of some machines, or all."
    }

    fn aim(&self) -> Aim {
        Aim::Optional
    }

    fn lasts(&self) -> bool {
        false
    }

    fn needs(&self, _call: &Call<'_>) -> Vec<Need> {
        Vec::new()
    }

    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>> {
        Box::pin(async move {
            let named = !call.target.machine_fields().is_empty();
            let machines = if named { Some(scene.machines(call.target)?) } else { None };
            for machine in machines.iter().flatten() {
                scene.reaches(machine);
            }
            scene.tells("", "links mended");
            let touches = |side: &Option<BTreeSet<String>>, machines: &BTreeSet<String>| {
                side.as_ref().is_some_and(|side| side.intersection(machines).next().is_some())
            };
            scene
                .mend_links(|fault| {
                    machines.as_ref().is_none_or(|machines| touches(&fault.from, machines) || touches(&fault.to, machines))
                })
                .await
        })
    }
}
