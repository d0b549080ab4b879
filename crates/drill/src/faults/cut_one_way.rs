//! Nothing passes from machines to others; what comes back does.

use daruma_world::machines::LinkEffect;
use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, link};
use crate::scene::Scene;

/// See the module.
pub struct CutOneWay;

impl Fault for CutOneWay {
    fn name(&self) -> &'static str {
        "cut-one-way"
    }

    fn summary(&self) -> &'static str {
        "Nothing passes from machines to others; what comes back does."
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
        Box::pin(link::one_way(scene, call, LinkEffect::Cut, "cut one way"))
    }
}
