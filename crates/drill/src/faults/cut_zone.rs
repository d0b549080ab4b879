//! Every machine of a zone is cut off from all machines outside of it.

use daruma_world::machines::LinkEffect;
use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, link};
use crate::scene::Scene;

/// See the module.
pub struct CutZone;

impl Fault for CutZone {
    fn name(&self) -> &'static str {
        "cut-zone"
    }

    fn summary(&self) -> &'static str {
        "Every machine of a zone is cut off from all machines outside of it."
    }

    fn aim(&self) -> Aim {
        Aim::Zone
    }

    fn lasts(&self) -> bool {
        true
    }

    fn needs(&self, _call: &Call<'_>) -> Vec<Need> {
        vec![Need::Link(LinkEffect::Cut)]
    }

    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>> {
        Box::pin(link::from_others(scene, call, LinkEffect::Cut, "cut"))
    }
}
