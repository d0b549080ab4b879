//! update: PUT of a whole object, main resource and status alike.

use std::sync::Arc;

use bytes::Bytes;
use daruma_api::status::{ApiError, FieldError};
use daruma_client::Body;
use daruma_store::KeyValue;
use http::{Response, StatusCode};
use serde_json::Value;

use super::create::{check_name, decode, painter_bytes};
use super::options::Verb;
use super::write::{Part, Updated, refuse};
use crate::call::Call;
use crate::document::{self, text};
use crate::http::answer;
use crate::registry::Resource;
use crate::show::Painter;

/// Attempts of an update that named no revision.
const ATTEMPTS: usize = 20;

/// Replaces the main resource.
///
/// # Errors
/// What does not decode or is refused; `Conflict` where the object has moved on.
pub async fn update(call: &Call, resource: &Arc<Resource>, content: Bytes) -> Result<Response<Body>, ApiError> {
    update_part(call, resource, content, Part::Main).await
}

/// Replaces one part of an object by that of the body.
///
/// # Errors
/// As [`update`].
pub async fn update_part(call: &Call, resource: &Arc<Resource>, content: Bytes, part: Part) -> Result<Response<Body>, ApiError> {
    call.check_options(Verb::Update)?;
    let dry_run = call.dry_run(&[])?;
    let painter = call.painter(resource)?;
    let mut object = decode(call, resource, &content)?;
    check_name(call, &object)?;
    if resource.is_namespaced() && text(&object, "/metadata/namespace") != call.info.namespace {
        document::set_metadata(&mut object, "namespace", Some(call.info.namespace.clone().into()));
    }
    let key = resource.key(&call.info.namespace, &call.info.name);
    let mut current = call.server.store.get(&key).await.map_err(answer::from_store)?;
    let is_conditional = !matches!(text(&object, "/metadata/resourceVersion"), "" | "0");
    let writer = call.writer(dry_run);
    for _ in 0..ATTEMPTS {
        let Some(found) = current else {
            return create_instead(call, resource, object, &painter, dry_run, part).await;
        };
        let old = call.server.decode(resource, &found)?;
        check_preconditions(resource, &object, &found, &old)?;
        // What names a revision has one attempt only.
        let mut new = if is_conditional { std::mem::take(&mut object) } else { object.clone() };
        fill_revision(&mut new, &found);
        match writer.update(resource, &found, old, new, part).await? {
            Updated::Stored(stored) | Updated::Deleted(stored) => {
                return Ok(answer::document(StatusCode::OK, call.accept.format, painter_bytes(&painter, &stored)));
            }
            Updated::Conflict(_) if is_conditional => {
                return Err(ApiError::modified(resource.group(), resource.plural(), &call.info.name));
            }
            Updated::Conflict(newer) => current = newer,
        }
    }
    Err(ApiError::modified(resource.group(), resource.plural(), &call.info.name))
}

async fn create_instead(
    call: &Call,
    resource: &Arc<Resource>,
    mut object: Value,
    painter: &Painter,
    dry_run: bool,
    part: Part,
) -> Result<Response<Body>, ApiError> {
    let name = &call.info.name;
    if !resource.kind.allows_create_on_update() || part != Part::Main {
        return Err(ApiError::not_found(resource.group(), resource.plural(), name));
    }
    let version = text(&object, "/metadata/resourceVersion");
    if !matches!(version, "" | "0") {
        return Err(ApiError::modified(resource.group(), resource.plural(), name));
    }
    document::set_metadata(&mut object, "resourceVersion", None);
    let stored = call.writer(dry_run).create(resource, &call.info.namespace, object).await?;
    Ok(answer::document(StatusCode::CREATED, call.accept.format, painter_bytes(painter, &stored)))
}

/// An unconditional update is one of whatever is there now; validation wants to see a revision.
pub fn fill_revision(object: &mut Value, found: &KeyValue) {
    if matches!(text(object, "/metadata/resourceVersion"), "" | "0") {
        document::set_metadata(object, "resourceVersion", Some(found.mod_revision.to_string().into()));
    }
}

/// Compares uid and resourceVersion of the body with what is stored, and decoded in `old`.
///
/// # Errors
/// 409, or 422 where the kind wants a revision and none is given.
pub fn check_preconditions(resource: &Resource, object: &Value, found: &KeyValue, old: &Value) -> Result<(), ApiError> {
    let name = text(old, "/metadata/name");
    let version = text(object, "/metadata/resourceVersion");
    match version {
        "" | "0" if !resource.kind.allows_unconditional_update() => {
            refuse(resource, name, &[FieldError::invalid("metadata.resourceVersion", "0", "must be specified for an update")])?;
        }
        "" | "0" => {}
        version => match version.parse::<u64>() {
            Ok(version) if version == found.mod_revision => {}
            Ok(_) => return Err(ApiError::modified(resource.group(), resource.plural(), name)),
            Err(_) => {
                let wrong =
                    FieldError::invalid("metadata.resourceVersion", format!("{version:?}"), "must be an unsigned integer");
                refuse(resource, name, &[wrong])?;
            }
        },
    }
    let uid = text(object, "/metadata/uid");
    let stored_uid = text(old, "/metadata/uid");
    if uid.is_empty() || uid == stored_uid {
        return Ok(());
    }
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {stored_uid}",
        found.key
    );
    Err(ApiError::conflict(resource.group(), resource.plural(), name, &why))
}
