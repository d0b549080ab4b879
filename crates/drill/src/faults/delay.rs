//! Packets between machines and others arrive later.

use daruma_world::machines::LinkEffect;
use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, Parameter, ParameterKind, link};
use crate::scene::Scene;

/// See the module.
pub struct Delay;

impl Fault for Delay {
    fn name(&self) -> &'static str {
        "delay"
    }

    fn summary(&self) -> &'static str {
        "Packets between machines and others arrive later."
    }

    fn aim(&self) -> Aim {
        Aim::Link
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::new("time", ParameterKind::Time, "How much later.").required()] }
    }

    fn lasts(&self) -> bool {
        true
    }

    fn needs(&self, call: &Call<'_>) -> Vec<Need> {
        effect(call).map(Need::Link).into_iter().collect()
    }

    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>> {
        Box::pin(async move {
            let effect = effect(call)?;
            link::both_ways(scene, call, effect, "delay").await
        })
    }
}

fn effect(call: &Call<'_>) -> Result<LinkEffect, FaultError> {
    Ok(LinkEffect::Delay(call.time("time")?))
}
