//! namespaces/finalize: takes finalizers off a namespace's specification.
//!
//! Facts: kubernetes pkg/registry/core/namespace (`FinalizeREST`, `namespaceFinalizeStrategy`).

use std::sync::Arc;

use bytes::Bytes;
use daruma_api::status::ApiError;
use daruma_client::Body;
use http::{Response, StatusCode};
use serde_json::Value;

use crate::call::Call;
use crate::document;
use crate::http::{answer, body};
use crate::registry::Resource;
use crate::verbs::create::{check_name, painter_bytes};
use crate::verbs::update::check_preconditions;
use crate::verbs::write::{Part, Updated};

/// Replaces `spec.finalizers`; the namespace goes when nothing is left to wait for.
///
/// # Errors
/// 404; 409 where the namespace has moved on.
pub async fn update(call: &Call, resource: &Arc<Resource>, content: Bytes) -> Result<Response<Body>, ApiError> {
    let object = body::decode(&call.headers, &content)?;
    check_name(call, &object)?;
    let painter = call.painter(resource)?;
    let found = call.server.fetch(resource, "", &call.info.name).await?;
    let old = call.server.decode(resource, &found)?;
    check_preconditions(resource, &object, &found, &old)?;
    let mut new = Value::clone(&old);
    let finalizers = document::list(&object, "/spec/finalizers").to_vec();
    let spec = document::child(&mut new, "spec");
    if finalizers.is_empty() {
        spec.remove("finalizers");
    } else {
        spec.insert("finalizers".into(), finalizers.into());
    }
    match call.writer(call.dry_run(&[])?).update(resource, &found, old, new, Part::Confined).await? {
        Updated::Stored(stored) | Updated::Deleted(stored) => {
            Ok(answer::document(StatusCode::OK, call.accept.format, painter_bytes(&painter, &stored)))
        }
        Updated::Conflict(_) => Err(ApiError::modified(resource.group(), resource.plural(), &call.info.name)),
    }
}
