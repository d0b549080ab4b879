//! Only so many bits a second pass between machines and others.

use daruma_world::machines::LinkEffect;
use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, Parameter, ParameterKind, link};
use crate::scene::Scene;

/// See the module.
pub struct Bandwidth;

impl Fault for Bandwidth {
    fn name(&self) -> &'static str {
        "bandwidth"
    }

    fn summary(&self) -> &'static str {
        "Only so many bits a second pass between machines and others."
    }

    fn aim(&self) -> Aim {
        Aim::Link
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::new("bitsPerSecond", ParameterKind::Count, "Bits a second.").required()] }
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
            link::both_ways(scene, call, effect, "little bandwidth").await
        })
    }
}

fn effect(call: &Call<'_>) -> Result<LinkEffect, FaultError> {
    Ok(LinkEffect::Bandwidth(call.count("bitsPerSecond")?))
}
