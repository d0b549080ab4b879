//! Responses, and the one place where errors become `Status` objects on the wire.

use bytes::Bytes;
use daruma_api::status::ApiError;
use daruma_client::{Body, full_body};
use daruma_store::StoreError;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::{Map, Value};

use super::Format;

/// A whole JSON answer.
pub fn json(status: StatusCode, content: impl Into<Bytes>) -> Response<Body> {
    with_type(status, "application/json", full_body(content))
}

/// A JSON document as the negotiated format.
pub fn value(status: StatusCode, format: Format, value: &Value) -> Response<Body> {
    match format {
        Format::Json => json(status, value.to_string()),
        Format::Yaml => yaml(status, value),
    }
}

/// JSON bytes as the negotiated format.
pub fn document(status: StatusCode, format: Format, content: Bytes) -> Response<Body> {
    match format {
        Format::Json => json(status, content),
        Format::Yaml => yaml(status, &serde_json::from_slice(&content).unwrap_or_default()),
    }
}

fn yaml(status: StatusCode, value: &Value) -> Response<Body> {
    match serde_yaml_ng::to_string(value) {
        Ok(text) => with_type(status, "application/yaml", full_body(text)),
        Err(why) => error(&ApiError::internal(why)),
    }
}

/// Plain text.
pub fn text(status: StatusCode, content: impl Into<Bytes>) -> Response<Body> {
    with_type(status, "text/plain; charset=utf-8", full_body(content))
}

/// Any content.
pub fn with_type(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// An error as a `Status`.
pub fn error(error: &ApiError) -> Response<Body> {
    let status = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, status_json(error).to_string());
    let retry = error.details.as_ref().and_then(|details| details.retry_after_seconds);
    // With details the answer is about an object (a disruption budget, say), and they alone tell when to come again.
    if let Some(seconds) = retry.or_else(|| (error.code == 429 && error.details.is_none()).then_some(1)) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The `Status` object of an error.
pub fn status_json(error: &ApiError) -> Value {
    let mut status = serde_json::to_value(error.to_status()).unwrap_or_default();
    if let Value::Object(fields) = &mut status {
        fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    }
    status
}

/// What a store's failure means to a client.
pub fn from_store(error: StoreError) -> ApiError {
    match error {
        StoreError::Compacted { .. } => ApiError::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.",
        ),
        StoreError::Future { requested, newest } => too_large_version(requested, newest),
        StoreError::Disk(why) => ApiError::internal(why),
    }
}

/// 504 for a revision that has not happened yet (apiserver pkg/storage/errors.go
/// `NewTooLargeResourceVersionError`).
pub fn too_large_version(requested: u64, newest: u64) -> ApiError {
    let mut error = ApiError::timeout(format!("Too large resource version: {requested}, current: {newest}"));
    error.details = Some(Box::new(daruma_api::metav1::StatusDetails {
        retry_after_seconds: Some(1),
        causes: Some(vec![daruma_api::metav1::StatusCause {
            reason: Some("ResourceVersionTooLarge".into()),
            message: Some("Too large resource version".into()),
            field: None,
        }]),
        ..Default::default()
    }));
    error
}

/// 405 (apimachinery pkg/api/errors `NewMethodNotSupported`).
pub fn method_not_supported(group: &str, resource: &str, verb: &str) -> ApiError {
    let qualified = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    ApiError::new(405, "MethodNotAllowed", format!("{verb} is not supported on resources of kind \"{qualified}\""))
}

/// 405 for a method that a path does not know at all.
pub fn method_not_allowed() -> ApiError {
    ApiError::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
}

/// 404 for a path that nothing serves.
pub fn no_such_path() -> ApiError {
    let mut error = ApiError::new(404, "NotFound", "the server could not find the requested resource");
    error.details = Some(Box::default());
    error
}

/// Adds a `Warning: 299` header for each text (RFC 7234 section 5.5).
pub fn add_warnings(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(http::header::WARNING, value);
        }
    }
}
