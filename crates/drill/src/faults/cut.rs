//! Nothing passes between machines and others, in either direction.

use daruma_world::machines::LinkEffect;
use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, link};
use crate::scene::Scene;

/// See the module.
pub struct Cut;

impl Fault for Cut {
    fn name(&self) -> &'static str {
        "cut"
    }

    fn summary(&self) -> &'static str {
        "Nothing passes between machines and others, in either direction."
    }

    fn aim(&self) -> Aim {
        Aim::Link
    }

    fn lasts(&self) -> bool {
        true
    }

    fn needs(&self, _call: &Call<'_>) -> Vec<Need> {
        vec![Need::Link(LinkEffect::Cut)]
    }

    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>> {
        Box::pin(link::both_ways(scene, call, LinkEffect::Cut, "cut"))
    }
}
