//! A pod is deleted without waiting for its end; how long its containers lived on is told.

use std::collections::BTreeSet;
use std::time::Duration;

use daruma_api::core::v1::Pod;
use daruma_client::DeleteOptions;
use futures::future::BoxFuture;

use super::{Aim, Call, Fault, FaultError, Need, pod_ref};
use crate::record::EntryKind;
use crate::scene::Scene;

/// From one look at the living containers to the next.
const LOOK: Duration = Duration::from_millis(250);
/// After this long a container that lives on is left behind.
const LEFT_BEHIND: Duration = Duration::from_secs(120);

/// See the module.
pub struct ForceDeletePod;

impl Fault for ForceDeletePod {
    fn name(&self) -> &'static str {
        "force-delete-pod"
    }

    fn summary(&self) -> &'static str {
        "A pod is deleted without waiting for its end, as kubectl delete --grace-period=0 --force does."
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
            let pod = scene.pod(pod_ref(call)?)?;
            scene.tells(&format!("pod/{}", pod.name()), format!("force deleted on {}", pod.node()));
            scene.reaches(pod.node());
            let api = scene.stage().client.namespaced::<Pod>(pod.namespace());
            let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
            let containers: BTreeSet<String> = pod.container_ids().collect();
            scene.ask(api.delete(pod.name(), &options)).await?;
            scene.suspect(pod.node());
            let (node, name) = (pod.node().to_owned(), pod.name().to_owned());
            scene.later(watch(scene.clone(), node, name, containers));
            Ok(())
        })
    }
}

/// Tells when the last container has ended, or that it has not.
async fn watch(scene: Scene, node: String, pod: String, containers: BTreeSet<String>) {
    let world = scene.stage().world.clone();
    let started = world.monotonic();
    let step = "";
    loop {
        let passed = world.monotonic().saturating_sub(started);
        let living = scene.hands().living_containers(&node).await;
        let text = match living {
            Ok(living) if living.intersection(&containers).next().is_none() => {
                let seconds = passed.as_secs_f64();
                Some(format!("its containers ended {seconds:.1} s after the pod was gone from the API"))
            }
            _ if passed >= LEFT_BEHIND => {
                Some(format!("its containers still live on {node} {} s after the pod was gone", passed.as_secs()))
            }
            Ok(_) | Err(_) => None,
        };
        if let Some(text) = text {
            scene.recorder().say_as(step, EntryKind::Step, &format!("pod/{pod}"), text, Vec::new());
            return;
        }
        world.sleep(LOOK).await;
    }
}
