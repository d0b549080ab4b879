//! The container engine of a machine is killed, paused, restarted or stopped. Where it is a part of the kubelet, the machines say so.

use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, Parameter, program};
use crate::scene::Scene;

/// The service as init calls it.
const SERVICE: &str = "container-engine";

/// See the module.
pub struct ContainerEngine;

impl Fault for ContainerEngine {
    fn name(&self) -> &'static str {
        "container-engine"
    }

    fn summary(&self) -> &'static str {
        "The container engine of a machine is killed, paused, restarted or stopped."
    }

    fn aim(&self) -> Aim {
        Aim::Machines
    }

    fn parameters(&self) -> &'static [Parameter] {
        program::SERVICE
    }

    fn lasts(&self) -> bool {
        true
    }

    fn needs(&self, call: &Call<'_>) -> Vec<Need> {
        program::service_needs(call, SERVICE)
    }

    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>> {
        Box::pin(program::to_service(scene, call, SERVICE))
    }
}
