//! A pod is deleted.

use daruma_api::core::v1::Pod;
use daruma_client::DeleteOptions;
use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, pod_ref};
use crate::scene::Scene;

/// See the module.
pub struct DeletePod;

impl Fault for DeletePod {
    fn name(&self) -> &'static str {
        "delete-pod"
    }

    fn summary(&self) -> &'static str {
        "A pod is deleted."
    }

    fn aim(&self) -> Aim {
        Aim::Pod
    }

    fn lasts(&self) -> bool {
        false
    }

    fn needs(&self, _call: &Call<'_>) -> Vec<Need> {
        Vec::new()
    }

    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>> {
        Box::pin(async move {
            let reference = pod_ref(call)?;
            let pod = scene.pod(reference)?;
            scene.tells(&format!("pod/{}", pod.name()), format!("deleted on {}", pod.node()));
            scene.reaches(pod.node());
            let api = scene.stage().client.namespaced::<Pod>(pod.namespace());
            scene.ask(api.delete(pod.name(), &DeleteOptions::default())).await?;
            Ok(())
        })
    }
}
