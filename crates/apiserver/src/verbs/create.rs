//! create: POST to a collection.

use std::sync::Arc;

use bytes::Bytes;
use daruma_api::status::ApiError;
use daruma_client::Body;
use daruma_kinds::protobuf;
use http::{Response, StatusCode};
use serde_json::Value;

use super::options::Verb;
use super::write::{Stored, Writer};
use crate::call::Call;
use crate::document::text;
use crate::glue;
use crate::http::{answer, body};
use crate::registry::Resource;

/// Media types of custom resources (apiextensions-apiserver pkg/apiserver/customresource_handler.go
/// `unstructuredNegotiatedSerializer`).
const ACCEPTED_CUSTOM: &str = "application/json, application/yaml";

/// Creates the object of the body.
///
/// # Errors
/// What does not decode, is refused or is there already.
pub async fn create(call: &Call, resource: &Arc<Resource>, content: Bytes) -> Result<Response<Body>, ApiError> {
    call.check_options(Verb::Create)?;
    let dry_run = call.dry_run(&[])?;
    let painter = call.painter(resource)?;
    let object = decode(call, resource, &content)?;
    let writer = call.writer(dry_run);
    let stored = writer.create(resource, &call.info.namespace, object).await?;
    Ok(answer::document(StatusCode::CREATED, call.accept.format, painter_bytes(&painter, &stored)))
}

/// A written object in the shape that was asked for.
pub fn painter_bytes(painter: &crate::show::Painter, stored: &Stored) -> Bytes {
    if stored.revision == 0 && painter.shape == crate::http::Shape::Object {
        painter.resource.head.show_unwritten(&stored.value)
    } else {
        painter.one(&stored.value, stored.revision)
    }
}

/// Decodes an object of `resource` and checks its kind and fields.
///
/// # Errors
/// 400, 415.
pub fn decode(call: &Call, resource: &Resource, content: &Bytes) -> Result<Value, ApiError> {
    // There is no protobuf of what a definition tells.
    if resource.custom_kind().is_some() && body::media_type(&call.headers) == protobuf::MEDIA_TYPE {
        return Err(body::unsupported_media_type(ACCEPTED_CUSTOM));
    }
    let mut object = body::decode(&call.headers, content)?;
    check_kind(resource, &mut object)?;
    glue::check_fields(call, resource, &mut object)?;
    Ok(object)
}

/// Fills in or checks `kind` and `apiVersion`.
fn check_kind(resource: &Resource, object: &mut Value) -> Result<(), ApiError> {
    let (kind, version) = (resource.kind_name(), resource.api_version());
    let Some(fields) = object.as_object_mut() else {
        return Err(ApiError::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {kind}: json: cannot unmarshal into Go value of type {kind}",
            resource.kind.names().version
        )));
    };
    let has = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (body_kind, body_version) = (has("kind"), has("apiVersion"));
    if !body_kind.is_empty() && body_kind != kind {
        return Err(ApiError::bad_request(format!(
            "{body_kind} in version {:?} cannot be handled as a {kind}: converting ({body_version}.{body_kind}) to ({version}.{kind}): unknown conversion",
            resource.kind.names().version
        )));
    }
    if !body_version.is_empty() && body_version != version {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({body_version}) does not match the expected API version ({version})"
        )));
    }
    if body_kind.is_empty() {
        fields.insert("kind".into(), kind.into());
    }
    if body_version.is_empty() {
        fields.insert("apiVersion".into(), version.into());
    }
    Ok(())
}

impl Call {
    /// Writes on behalf of the caller.
    pub fn writer(&self, dry_run: bool) -> Writer<'_> {
        Writer {
            server: &self.server,
            user: &self.user,
            dry_run,
            subresource: &self.info.subresource,
            tracked: Some(self),
            neighbours: self.neighbours.as_deref(),
            warnings: &self.warnings,
        }
    }
}

/// The name in the body, checked against the one in the path.
///
/// # Errors
/// 400 where they differ.
pub fn check_name(call: &Call, object: &Value) -> Result<(), ApiError> {
    let (name, namespace) = (text(object, "/metadata/name"), text(object, "/metadata/namespace"));
    if name.is_empty() {
        return Err(ApiError::bad_request("the name of the object (\"\") does not match the name on the URL"));
    }
    if name != call.info.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.info.name
        )));
    }
    let in_path = if call.info.resource == "namespaces" { "" } else { &call.info.namespace };
    if !namespace.is_empty() && namespace != in_path {
        return Err(ApiError::bad_request(format!(
            "the namespace of the object ({namespace}) does not match the namespace on the URL ({in_path})"
        )));
    }
    Ok(())
}
