//! The processes of a pod's container are killed.

use daruma_world::machines::{Program, Signal};
use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, pod_ref};
use crate::scene::Scene;

/// See the module.
pub struct KillContainer;

impl Fault for KillContainer {
    fn name(&self) -> &'static str {
        "kill-container"
    }

    fn summary(&self) -> &'static str {
        "The processes of a pod's container are killed."
    }

    fn aim(&self) -> Aim {
        Aim::Pod
    }

    fn lasts(&self) -> bool {
        false
    }

    fn needs(&self, _call: &Call<'_>) -> Vec<Need> {
        vec![Need::container(Signal::Kill)]
    }

    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>> {
        Box::pin(async move {
            let pod = scene.pod(pod_ref(call)?)?;
            let id = scene.container(&pod, pod_ref(call)?.container.as_deref())?;
            scene.tells(&format!("pod/{}", pod.name()), "container killed");
            scene.signal(pod.node(), &Program::Container(id), Signal::Kill).await
        })
    }
}
