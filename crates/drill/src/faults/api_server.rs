//! kube-apiserver is killed, paused or restarted. Its pods are found by the label that kubeadm gives static pods.

use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, Parameter, program};
use crate::scene::Scene;

/// See the module.
pub struct ApiServer;

impl Fault for ApiServer {
    fn name(&self) -> &'static str {
        "api-server"
    }

    fn summary(&self) -> &'static str {
        "kube-apiserver is killed, paused or restarted."
    }

    fn aim(&self) -> Aim {
        Aim::Controllers
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
        Box::pin(program::to_pods(scene, call, "kube-apiserver", "component=kube-apiserver"))
    }
}
