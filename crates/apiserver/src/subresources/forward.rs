//! Passing a request on to another server, and bytes both ways once a connection is upgraded.

use daruma_api::status::ApiError;
use daruma_client::{Body, Transport};
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::call::Call;

/// Headers between two neighbours only (RFC 9110 section 7.6.1), and credentials.
fn stays_here(name: &HeaderName) -> bool {
    matches!(*name, HOST | AUTHORIZATION | CONNECTION | CONTENT_LENGTH | TRANSFER_ENCODING | UPGRADE)
        || name.as_str() == "keep-alive"
        || name.as_str() == "proxy-connection"
        || name.as_str() == "te"
        || name.as_str().starts_with("impersonate-")
        || name.as_str().starts_with("x-remote-")
}

/// Whether the request wants to take the connection over.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
}

/// Sends the call's request as `method path` over `transport`, with `extra` headers, and gives its answer.
/// An upgraded connection is joined with the client's.
///
/// # Errors
/// 503 where the other side does not answer.
pub async fn forward(
    call: &Call,
    transport: &dyn Transport,
    path: &str,
    content: Body,
    extra: HeaderMap,
) -> Result<Response<Body>, ApiError> {
    let mut request = Request::new(content);
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = path.parse().map_err(|error| ApiError::bad_request(format!("bad path {path:?}: {error}")))?;
    for (name, value) in call.headers.iter().filter(|(name, _)| !stays_here(name)) {
        request.headers_mut().append(name.clone(), value.clone());
    }
    let upgrade = is_upgrade(&call.headers);
    if upgrade {
        request.headers_mut().insert(CONNECTION, http::HeaderValue::from_static("Upgrade"));
        if let Some(value) = call.headers.get(UPGRADE) {
            request.headers_mut().insert(UPGRADE, value.clone());
        }
    }
    for (name, value) in &extra {
        request.headers_mut().append(name, value.clone());
    }
    let answered = transport.call(request).await;
    let mut response = answered.map_err(|error| ApiError::unavailable(format!("error trying to reach service: {error}")))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().remove(CONNECTION);
        response.headers_mut().remove(TRANSFER_ENCODING);
        return Ok(response);
    }
    let theirs = response.extensions_mut().remove::<OnUpgrade>();
    let (Some(ours), Some(theirs)) = (call.upgrade.clone(), theirs) else {
        return Err(ApiError::internal("this connection cannot be upgraded"));
    };
    call.server.world.spawn("apiserver upgraded connection", join(ours, theirs));
    Ok(response)
}

async fn join(ours: OnUpgrade, theirs: OnUpgrade) {
    let (ours, theirs) = match futures::future::try_join(ours, theirs).await {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "an upgrade did not come about");
            return;
        }
    };
    let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
    // How such a connection ends is the business of its two ends.
    let _ = tokio::io::copy_bidirectional(&mut ours, &mut theirs).await;
}
