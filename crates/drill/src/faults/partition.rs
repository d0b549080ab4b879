//! Nothing passes between two sets of machines.

use daruma_world::machines::LinkEffect;
use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, link};
use crate::scene::Scene;

/// See the module.
pub struct Partition;

impl Fault for Partition {
    fn name(&self) -> &'static str {
        "partition"
    }

    fn summary(&self) -> &'static str {
        "Nothing passes between two sets of machines."
    }

    fn aim(&self) -> Aim {
        Aim::Sides
    }

    fn lasts(&self) -> bool {
        true
    }

    fn needs(&self, _call: &Call<'_>) -> Vec<Need> {
        vec![Need::Link(LinkEffect::Cut)]
    }

    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>> {
        Box::pin(link::both_ways(scene, call, LinkEffect::Cut, "partition"))
    }
}
