//! kube-proxy of a machine is killed, paused or restarted.

use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, Parameter, program};
use crate::scene::Scene;

/// See the module.
pub struct KubeProxy;

impl Fault for KubeProxy {
    fn name(&self) -> &'static str {
        "kube-proxy"
    }

    fn summary(&self) -> &'static str {
        "kube-proxy of a machine is killed, paused or restarted."
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
        Box::pin(program::to_pods(scene, call, "kube-proxy", "k8s-app=kube-proxy"))
    }
}
