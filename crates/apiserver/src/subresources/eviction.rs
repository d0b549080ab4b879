//! pods/eviction: a deletion that says why. Disruption budgets are not looked at: there are none yet.
//!
//! Facts: kubernetes pkg/registry/core/pod/storage/eviction.go.

use bytes::Bytes;
use daruma_api::status::ApiError;
use daruma_client::Body;
use daruma_store::{Expect, Outcome};
use http::Response;
use serde_json::{Value, json};

use super::binding::{set_condition, success};
use crate::admission::{self, Attributes, Operation};
use crate::call::Call;
use crate::document::text;
use crate::http::{answer, body};
use crate::verbs::delete::Options;

/// Evicts a pod.
///
/// # Errors
/// 404; 409 where a precondition does not hold.
pub async fn create(call: &Call, content: Bytes) -> Result<Response<Body>, ApiError> {
    let eviction: Value = body::decode(&call.headers, &content)?;
    let (server, name) = (&call.server, &call.info.name);
    let in_body = text(&eviction, "/metadata/name");
    if !in_body.is_empty() && in_body != name {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    let options: Options = match eviction.get("deleteOptions").filter(|options| !options.is_null()) {
        Some(options) => serde_json::from_value(options.clone())
            .map_err(|error| ApiError::bad_request(format!("unable to decode deleteOptions: {error}")))?,
        None => Options::default(),
    };
    let pods = server.registry.get("", "v1", "pods").ok_or_else(answer::no_such_path)?;
    let found = server.fetch(pods, &call.info.namespace, name).await?;
    let mut pod = server.decode(pods, &found)?;
    let dry_run = options.dry_run(call)?;
    let attributes = Attributes {
        operation: Operation::Create,
        resource: pods.clone(),
        subresource: "eviction".into(),
        namespace: call.info.namespace.clone(),
        name: name.clone(),
        user: call.user.clone(),
        dry_run,
        object: eviction,
        old: Some(pod.clone()),
        warnings: Vec::new(),
    };
    admission::validate(server, &attributes).await?;
    let ended = matches!(text(&pod, "/status/phase"), "Succeeded" | "Failed" | "Pending")
        || !text(&pod, "/metadata/deletionTimestamp").is_empty();
    if !ended && !dry_run {
        let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"});
        set_condition(&mut pod, condition, server.world.now());
        let written = server.put(pods, &found.key, Expect::Revision(found.mod_revision), pods.head.encode(&pod)).await?;
        if let Outcome::Conflict { .. } = written {
            return Err(ApiError::modified("", "pods", name));
        }
    }
    call.writer(dry_run).delete(pods, &call.info.namespace, name, &options).await?;
    Ok(success())
}
