//! Steps that change objects as kubectl would.

use std::time::Duration;

use bytes::Bytes;
use daruma_client::ClientError;
use http::Method;
use serde_json::{Value, json};

use crate::file::{PatchCall, PatchType, ScaleCall, Workload};
use crate::objects::{Place, is_definition};
use crate::record::EntryKind;
use crate::scene::Scene;

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// How long a kind may take until it is served.
const ESTABLISH_LIMIT: Duration = Duration::from_secs(30);
/// How long the last API server may take to hear of that.
const SERVED_LIMIT: Duration = Duration::from_secs(5);

/// Creates objects, or merges them into those that are there: definitions of kinds first, and the rest when those kinds
/// are served.
pub(crate) async fn apply(scene: &Scene, objects: &[Value]) -> Result<(), String> {
    let (definitions, rest): (Vec<&Value>, Vec<&Value>) = objects.iter().partition(|object| is_definition(object));
    apply_each(scene, &definitions).await?;
    for definition in definitions {
        established(scene, definition).await?;
    }
    apply_each(scene, &rest).await
}

/// Waits until a kind is served.
async fn established(scene: &Scene, definition: &Value) -> Result<(), String> {
    let place = Place::of(definition, scene.kinds())?;
    let world = &scene.stage().world;
    let deadline = world.monotonic() + ESTABLISH_LIMIT;
    loop {
        let asked = scene.ask(scene.stage().client.json(Method::GET, &place.path(), JSON, None)).await;
        let found: Value = match asked {
            Ok(content) => serde_json::from_slice(&content).map_err(|error| format!("{}: {error}", place.shown))?,
            Err(error) => return Err(format!("{}: {error}", place.shown)),
        };
        let conditions = found["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        if conditions.iter().any(|one| one["type"] == "Established" && one["status"] == "True") {
            return Ok(());
        }
        if world.monotonic() >= deadline {
            let said = conditions.iter().filter(|one| one["status"] == "False").filter_map(|one| one["message"].as_str());
            let said: Vec<&str> = said.collect();
            return Err(format!("{}: not established within {} s: {}", place.shown, ESTABLISH_LIMIT.as_secs(), said.join(", ")));
        }
        world.sleep(Duration::from_millis(100)).await;
    }
}

async fn apply_each(scene: &Scene, objects: &[&Value]) -> Result<(), String> {
    for object in objects {
        let place = Place::of(object, scene.kinds())?;
        let body = encode(object);
        let client = &scene.stage().client;
        let created = create(scene, &place, &body).await;
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

/// Creates an object. One of several API servers may not have heard of its kind yet.
async fn create(scene: &Scene, place: &Place, body: &Bytes) -> Result<Bytes, ClientError> {
    let (client, world) = (&scene.stage().client, &scene.stage().world);
    let deadline = world.monotonic() + SERVED_LIMIT;
    loop {
        let created = scene.ask(client.json(Method::POST, &place.collection, JSON, Some(body.clone()))).await;
        match created {
            Err(error) if error.is_not_found() && place.is_custom && world.monotonic() < deadline => {
                world.sleep(Duration::from_millis(100)).await;
            }
            other => return other,
        }
    }
}

/// Deletes objects; those that are not there are no error.
pub(super) async fn delete(scene: &Scene, objects: &[Value]) -> Result<(), String> {
    for object in objects {
        let place = Place::of(object, scene.kinds())?;
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
    let place = Place::named(scene.kinds(), &call.api_version, &call.kind, &call.namespace, &call.name)?;
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
