//! The cluster's name servers (all, or those on some machines) are killed, paused or restarted.

use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, Parameter, program};
use crate::scene::Scene;

/// See the module.
pub struct Dns;

impl Fault for Dns {
    fn name(&self) -> &'static str {
        "dns"
    }

    fn summary(&self) -> &'static str {
        "The cluster's name servers (all, or those on some machines) are killed, paused or restarted."
    }

    fn aim(&self) -> Aim {
        Aim::Optional
    }

    fn parameters(&self) -> &'static [Parameter] {
        program::CONTAINER
    }

    fn lasts(&self) -> bool {
        true
    }

    fn needs(&self, call: &Call<'_>) -> Vec<Need> {
        program::container_needs(call)
    }

    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>> {
        Box::pin(program::to_pods(scene, call, "DNS", "k8s-app=kube-dns"))
    }
}
