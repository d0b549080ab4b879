//! A share of the packets between machines and others gets lost.

use daruma_world::machines::LinkEffect;
use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, Parameter, ParameterKind, link};
use crate::scene::Scene;

/// See the module.
pub struct Loss;

impl Fault for Loss {
    fn name(&self) -> &'static str {
        "loss"
    }

    fn summary(&self) -> &'static str {
        "A share of the packets between machines and others gets lost."
    }

    fn aim(&self) -> Aim {
        Aim::Link
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::new("percent", ParameterKind::Percent, "Share that gets lost, in percent.").required()] }
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
            link::both_ways(scene, call, effect, "loss").await
        })
    }
}

fn effect(call: &Call<'_>) -> Result<LinkEffect, FaultError> {
    Ok(LinkEffect::Loss(call.percent("percent")?))
}
