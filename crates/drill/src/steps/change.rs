//! Steps that change objects as kubectl would.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::file::{PatchCall, PatchType, ScaleCall, Workload};
use crate::objects::Place;
use crate::record::EntryKind;
use crate::scene::Scene;

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// Creates objects, or merges them into those that are there.
pub(crate) async fn apply(scene: &Scene, objects: &[Value]) -> Result<(), String> {
    for object in objects {
        let place = Place::of(object)?;
        let body = encode(object);
        let client = &scene.stage().client;
        let created = scene.ask(client.json(Method::POST, &place.collection, JSON, Some(body.clone()))).await;
        let done = match created {
            Ok(_) => "created",
            Err(error) if error.is_already_exists() => {
                let patched = scene.ask(client.json(Method::PATCH, &place.path(), MERGE, Some(body))).await;
                patched.map_err(|error| format!("{}: {error}", place.shown))?;
                "configured"
            }
            Err(error) => return Err(format!("{}: {error}", place.shown)),
        };
        say(scene, &place.shown, done);
    }
    Ok(())
}

/// Deletes objects; those that are not there are no error.
pub(super) async fn delete(scene: &Scene, objects: &[Value]) -> Result<(), String> {
    for object in objects {
        let place = Place::of(object)?;
        let options = encode(&json!({"propagationPolicy": "Background"}));
        let path = place.path();
        let call = scene.stage().client.json(Method::DELETE, &path, JSON, Some(options));
        let done = match scene.ask(call).await {
            Ok(_) => "deleted",
            Err(error) if error.is_not_found() => "was not there",
            Err(error) => return Err(format!("{}: {error}", place.shown)),
        };
        say(scene, &place.shown, done);
    }
    Ok(())
}

/// Patches one object.
pub(super) async fn patch(scene: &Scene, call: &PatchCall) -> Result<(), String> {
    let place = Place::named(&call.api_version, &call.kind, &call.namespace, &call.name)?;
    let content_type = match call.patch_type {
        PatchType::Strategic => STRATEGIC,
        PatchType::Merge => MERGE,
        PatchType::Json => "application/json-patch+json",
    };
    let path = match &call.subresource {
        Some(subresource) => format!("{}/{subresource}", place.path()),
        None => place.path(),
    };
    send(scene, &path, content_type, &call.patch, &place.shown).await?;
    say(scene, &place.shown, "patched");
    Ok(())
}

/// Changes the number of replicas.
pub(super) async fn scale(scene: &Scene, call: &ScaleCall) -> Result<(), String> {
    let patch = json!({"spec": {"replicas": call.replicas}});
    send(scene, &call.workload.path(), MERGE, &patch, &call.workload.short()).await?;
    say(scene, &call.workload.short(), &format!("scaled to {}", call.replicas));
    Ok(())
}

/// Sets the annotation that `kubectl rollout restart` sets (kubectl pkg/polymorphichelpers/objectrestarter.go).
pub(super) async fn restart(scene: &Scene, workload: &Workload) -> Result<(), String> {
    let now = scene.stage().world.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let annotations = json!({"kubectl.kubernetes.io/restartedAt": now});
    let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
    send(scene, &workload.path(), STRATEGIC, &patch, &workload.short()).await?;
    say(scene, &workload.short(), "restarted");
    Ok(())
}

pub(super) async fn send(scene: &Scene, path: &str, content_type: &str, patch: &Value, shown: &str) -> Result<(), String> {
    let call = scene.stage().client.json(Method::PATCH, path, content_type, Some(encode(patch)));
    scene.ask(call).await.map_err(|error| format!("{shown}: {error}"))?;
    Ok(())
}

pub(super) fn encode(value: &Value) -> Bytes {
    serde_json::to_vec(value).expect("a JSON value is always JSON").into()
}

fn say(scene: &Scene, about: &str, done: &str) {
    scene.recorder().say(EntryKind::Step, about, done);
}
