//! Small plain answers of health and metrics endpoints.

use daruma_client::{Body, full_body};
use http::{Response, StatusCode, header};

/// An answer with a text body.
pub(crate) fn text(status: StatusCode, content_type: &'static str, content: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(full_body(content.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

/// An answer in JSON, as kube-proxy marks it.
pub(crate) fn json(status: StatusCode, content: String) -> Response<Body> {
    let mut response = text(status, "application/json", content);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    response
}

/// Nothing lives at this path.
pub(crate) fn not_found() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n")
}
