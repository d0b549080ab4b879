//! The kubelet of a machine is killed, paused, restarted or stopped.

use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, Parameter, program};
use crate::scene::Scene;

/// The service as init calls it.
const SERVICE: &str = "kubelet";

/// See the module.
pub struct Kubelet;

impl Fault for Kubelet {
    fn name(&self) -> &'static str {
        "kubelet"
    }

    fn summary(&self) -> &'static str {
        "The kubelet of a machine is killed, paused, restarted or stopped."
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
        Box::pin(program::to_service(scene, call, SERVICE, SERVICE))
    }
}
