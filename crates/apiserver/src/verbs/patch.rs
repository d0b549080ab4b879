//! patch: JSON patch, merge patch, strategic merge patch. Applying a configuration is a verb of its own: [`super::apply`].
//!
//! Rules: kubernetes apiserver pkg/endpoints/handlers/patch.go.

use std::sync::Arc;

use bytes::Bytes;
use daruma_api::json;
use daruma_api::status::ApiError;
use daruma_client::Body;
use http::{Response, StatusCode};
use serde_json::Value;

use super::apply;
use super::create::painter_bytes;
use super::options::Verb;
use super::write::{Part, Updated};
use crate::call::Call;
use crate::document::text;
use crate::glue;
use crate::http::{answer, body};
use crate::registry::Resource;

/// Attempts after a conflict (`MaxRetryWhenPatchConflicts`).
pub const ATTEMPTS: usize = 6;

const ACCEPTED: &str = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, \
    application/apply-patch+yaml";
/// Of custom resources, for which there are no strategic merges.
const ACCEPTED_CUSTOM: &str = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";

/// A patch of one of the three kinds.
#[derive(Clone)]
pub enum Change {
    /// RFC 6902.
    Json(Value),
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' own.
    Strategic(Value),
}

impl Change {
    /// Reads the body by its media type.
    ///
    /// # Errors
    /// 415 for other types, 422 for wrong options, 400 for what does not parse.
    pub fn decode(call: &Call, resource: &Resource, content: &Bytes) -> Result<Self, ApiError> {
        let is_strategic = resource.kind.supports_strategic_merge();
        let parse = || {
            json::parse(content)
                .or_else(|_| body::yaml(content))
                .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))
        };
        let of: fn(Value) -> Self = match body::media_type(&call.headers).as_str() {
            "application/json-patch+json" => Self::Json,
            "application/merge-patch+json" => Self::Merge,
            "application/strategic-merge-patch+json" if is_strategic => Self::Strategic,
            _ => return Err(body::unsupported_media_type(if is_strategic { ACCEPTED } else { ACCEPTED_CUSTOM })),
        };
        call.check_options(Verb::Patch)?;
        parse().map(of)
    }

    /// `old` with the change.
    ///
    /// # Errors
    /// 422 for a JSON patch that does not fit, 400 for a malformed one.
    pub fn apply(self, resource: &Resource, old: &Value) -> Result<Value, ApiError> {
        match self {
            Self::Json(patch) => glue::json_patch(old, &patch),
            Self::Merge(patch) => glue::merge_patch(old, &patch),
            Self::Strategic(patch) => glue::strategic_merge(resource, old, patch),
        }
    }
}

/// Patches the main resource.
///
/// # Errors
/// What does not fit or is refused.
pub async fn patch(call: &Call, resource: &Arc<Resource>, content: Bytes) -> Result<Response<Body>, ApiError> {
    patch_part(call, resource, content, Part::Main).await
}

/// Patches one part of an object; tries again when somebody else was faster.
///
/// # Errors
/// As [`patch`].
pub async fn patch_part(call: &Call, resource: &Arc<Resource>, content: Bytes, part: Part) -> Result<Response<Body>, ApiError> {
    if apply::is_apply(call) {
        return apply::apply(call, resource, content, part).await;
    }
    let mut change = Some(Change::decode(call, resource, &content)?);
    let dry_run = call.dry_run(&[])?;
    let painter = call.painter(resource)?;
    let name = &call.info.name;
    let mut current = Some(call.server.fetch(resource, &call.info.namespace, name).await?);
    let writer = call.writer(dry_run);
    for _ in 0..ATTEMPTS {
        let Some(found) = current else {
            return Err(ApiError::not_found(resource.group(), resource.plural(), name));
        };
        let old = call.server.decode(resource, &found)?;
        // Seldom somebody else is faster: then the change is decoded once more.
        let change = change.take().map_or_else(|| Change::decode(call, resource, &content), Ok)?;
        let mut new = change.apply(resource, &old)?;
        check_identity(resource, &old, &new)?;
        glue::check_fields(call, resource, &mut new)?;
        super::update::check_preconditions(resource, &new, &found, &old)?;
        // A patch may take the revision away: kubectl apply does where the last applied configuration had one.
        super::update::fill_revision(&mut new, &found);
        match writer.update(resource, &found, old, new, part).await? {
            Updated::Stored(stored) | Updated::Deleted(stored) => {
                return Ok(answer::document(StatusCode::OK, call.accept.format, painter_bytes(&painter, &stored)));
            }
            Updated::Conflict(newer) => current = newer,
        }
    }
    Err(ApiError::modified(resource.group(), resource.plural(), name))
}

fn check_identity(resource: &Resource, old: &Value, new: &Value) -> Result<(), ApiError> {
    for pointer in ["/kind", "/apiVersion"] {
        if text(old, pointer) != text(new, pointer) {
            return Err(ApiError::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: a patch may not change kind or apiVersion",
                text(new, "/kind"),
                text(new, "/apiVersion"),
                resource.kind_name()
            )));
        }
    }
    if text(old, "/metadata/name") != text(new, "/metadata/name") {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            text(new, "/metadata/name"),
            text(old, "/metadata/name")
        )));
    }
    if text(old, "/metadata/namespace") != text(new, "/metadata/namespace") {
        return Err(ApiError::bad_request(format!(
            "the namespace of the object ({}) does not match the namespace on the URL ({})",
            text(new, "/metadata/namespace"),
            text(old, "/metadata/namespace")
        )));
    }
    Ok(())
}
