//! The processes of a pod's container hold still, so that its probes get no answer. (A liveness probe will end them in time.)

use daruma_world::machines::{Program, Signal};
use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, pod_ref};
use crate::scene::Scene;

/// See the module.
pub struct ReadinessFailure;

impl Fault for ReadinessFailure {
    fn name(&self) -> &'static str {
        "readiness-failure"
    }

    fn summary(&self) -> &'static str {
        "The processes of a pod's container hold still, so that its probes get no answer."
    }

    fn aim(&self) -> Aim {
        Aim::Pod
    }

    fn lasts(&self) -> bool {
        true
    }

    fn needs(&self, _call: &Call<'_>) -> Vec<Need> {
        vec![Need::container(Signal::Pause), Need::container(Signal::Continue)]
    }

    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>> {
        Box::pin(async move {
            let pod = scene.pod(pod_ref(call)?)?;
            let id = scene.container(&pod, pod_ref(call)?.container.as_deref())?;
            scene.tells(&format!("pod/{}", pod.name()), "container holds still: its probes get no answer");
            scene.signal(pod.node(), &Program::Container(id), Signal::Pause).await
        })
    }
}
