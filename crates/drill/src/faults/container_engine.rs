//! The container engine of a machine is killed, paused, restarted or stopped.
//!
//! Where machines have no service of that name, their engine is a part of the kubelet (the embedded engine of real
//! machines), and its process is the kubelet's. Containers go on in either case: what holds them are their shims.

use daruma_world::machines::{Ability, MachineError, Program, Signal};
use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, Parameter, program};
use crate::preflight::Supports;
use crate::scene::Scene;

/// The services that can be the engine, as init calls them.
const OWN: &str = "container-engine";
const KUBELET: &str = "kubelet";

/// The service to signal.
///
/// # Errors
/// There is none.
pub(super) fn service(supports: Supports<'_>, signal: Signal) -> Result<&'static str, MachineError> {
    let can = |service: &str| supports(&Ability::Signal(&Program::Service(service.to_owned()), signal));
    can(OWN).map(|()| OWN).or_else(|_| can(KUBELET).map(|()| KUBELET))
}

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
        program::signals(call).into_iter().map(Need::Engine).collect()
    }

    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>> {
        Box::pin(async move {
            let service = service(&|ability| scene.hands().supports(ability), program::signal(call)?)?;
            let name = if service == OWN { "container-engine" } else { "kubelet, which is the container engine here," };
            program::to_service(scene, call, service, name).await
        })
    }
}
