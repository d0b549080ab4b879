//! Cordon, uncordon and drain.
//!
//! Source: kubectl pkg/drain (filters.go, drain.go): pods of DaemonSets and mirror pods stay, a refused eviction is
//! tried again every 5 s.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use daruma_api::meta::ObjectExt;
use http::Method;
use serde_json::json;

use super::change::{encode, send};
use crate::file::{DrainCall, Target};
use crate::observe::SeenPod;
use crate::record::EntryKind;
use crate::scene::Scene;

/// From a refused eviction to the next try.
const AGAIN: Duration = Duration::from_secs(5);
/// From one look at pods that are leaving to the next.
const LOOK: Duration = Duration::from_secs(1);

/// Marks nodes unschedulable, or takes that back.
pub(super) async fn cordon(scene: &Scene, target: &Target, unschedulable: bool) -> Result<(), String> {
    for node in scene.machines(target).map_err(|error| error.to_string())? {
        let patch = json!({"spec": {"unschedulable": if unschedulable { Some(true) } else { None }}});
        send(scene, &format!("/api/v1/nodes/{node}"), "application/merge-patch+json", &patch, &node).await?;
        let done = if unschedulable { "cordoned" } else { "uncordoned" };
        scene.recorder().say(EntryKind::Step, &format!("node/{node}"), done);
    }
    Ok(())
}

/// Cordons nodes and evicts their pods.
pub(super) async fn drain(scene: &Scene, call: &DrainCall) -> Result<(), String> {
    cordon(scene, &call.target, true).await?;
    let world = scene.stage().world.clone();
    let nodes = scene.machines(&call.target).map_err(|error| error.to_string())?;
    let drained = world.timeout(call.limit.duration(), evict_all(scene, call, &nodes)).await;
    drained.map_err(|_| format!("drain of {} took more than {}", list(&nodes), call.limit))??;
    for node in &nodes {
        scene.recorder().say(EntryKind::Step, &format!("node/{node}"), "drained");
    }
    Ok(())
}

async fn evict_all(scene: &Scene, call: &DrainCall, nodes: &BTreeSet<String>) -> Result<(), String> {
    let mut pods: Vec<Arc<SeenPod>> = nodes.iter().flat_map(|node| scene.observer().pods_on(node)).collect();
    pods.retain(|pod| leaves(pod));
    let bare: Vec<&str> = pods.iter().filter(|pod| pod.controller().is_none()).map(|pod| pod.name()).collect();
    if !bare.is_empty() && !call.force {
        return Err(format!("cannot delete pods that declare no controller (use force): {}", bare.join(", ")));
    }
    let world = scene.stage().world.clone();
    for pod in &pods {
        while !evict(scene, call, pod).await? {
            world.sleep(AGAIN).await;
        }
    }
    for pod in &pods {
        while scene.observer().pod(pod.namespace(), pod.name()).is_some_and(|now| now.uid() == pod.uid()) {
            world.sleep(LOOK).await;
        }
    }
    Ok(())
}

/// Whether a drain takes the pod away.
fn leaves(pod: &SeenPod) -> bool {
    // A mirror pod belongs to its Node.
    !pod.controller().is_some_and(|owner| matches!(owner.kind.as_str(), "DaemonSet" | "Node"))
}

/// Gives whether the eviction was granted (or the pod is gone); a disruption budget refuses with 429.
async fn evict(scene: &Scene, call: &DrainCall, pod: &SeenPod) -> Result<bool, String> {
    let path = format!("/api/v1/namespaces/{}/pods/{}/eviction", pod.namespace(), pod.name());
    let mut eviction = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod.name(), "namespace": pod.namespace()},
    });
    if let Some(seconds) = call.grace_period_seconds {
        eviction["deleteOptions"] = json!({"gracePeriodSeconds": seconds});
    }
    let about = format!("pod/{}", pod.name());
    let sent = scene.stage().client.json(Method::POST, &path, "application/json", Some(encode(&eviction)));
    match scene.ask(sent).await {
        Ok(_) => {
            scene.recorder().say(EntryKind::Step, &about, "evicted");
            Ok(true)
        }
        Err(error) if error.is_not_found() => Ok(true),
        Err(error) if error.api().is_some_and(|error| error.code == 429) => {
            scene.recorder().say(EntryKind::Step, &about, format!("eviction refused, tried again in 5 s: {error}"));
            Ok(false)
        }
        Err(error) => Err(format!("{about}: {error}")),
    }
}

fn list(nodes: &BTreeSet<String>) -> String {
    nodes.iter().cloned().collect::<Vec<_>>().join(", ")
}
