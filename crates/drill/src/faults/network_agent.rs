//! The pod network agent of a machine is killed, paused or restarted.

use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, Parameter, program};
use crate::scene::Scene;

/// See the module.
pub struct NetworkAgent;

impl Fault for NetworkAgent {
    fn name(&self) -> &'static str {
        "network-agent"
    }

    fn summary(&self) -> &'static str {
        "The pod network agent of a machine is killed, paused or restarted."
    }

    fn aim(&self) -> Aim {
        Aim::Machines
    }

    fn parameters(&self) -> &'static [Parameter] {
        program::CONTAINER
    }

    fn needs_node_agents(&self) -> bool {
        true
    }

    fn lasts(&self) -> bool {
        true
    }

    fn needs(&self, call: &Call<'_>) -> Vec<Need> {
        program::container_needs(call)
    }

    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>> {
        Box::pin(program::to_pods(scene, call, "network agent", "k8s-app=daruma-network"))
    }
}
