//! Requests as bytes, in HTTP/1.1: where the connection is to become something else (a WebSocket), and
//! to servers that know nothing of the wire.

use std::net::SocketAddr;
use std::sync::Arc;

use daruma_client::{Body, TransportError};
use futures::future::{Either, select};
use http::header::{CONNECTION, HOST, HeaderValue};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;

use super::transport::CONNECT_LIMIT;
use crate::clock::Sleep;
use crate::network::open_stream;
use crate::scope::{Scope, ScopeInner};

/// Whether the connection is to become something else.
pub(super) fn asks_for_upgrade(request: &Request<Body>) -> bool {
    let names = request.headers().get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    names.flat_map(|value| value.split(',')).any(|name| name.trim().eq_ignore_ascii_case("upgrade"))
}

/// Sends one request over a connection of its own. A server of the wire finds `extensions` in it.
pub(super) async fn call(
    scope: &Arc<ScopeInner>,
    to: SocketAddr,
    extensions: http::Extensions,
    mut request: Request<Body>,
) -> Result<Response<Body>, TransportError> {
    let failed = |why: &dyn std::fmt::Display| TransportError(format!("connect to {to}: {why}"));
    let opening = std::pin::pin!(open_stream(scope.clone(), to, extensions));
    let stream = match select(opening, Sleep::new(scope, CONNECT_LIMIT)).await {
        Either::Left((opened, _)) => opened.map_err(|error| failed(&error))?,
        Either::Right(_) => return Err(failed(&"deadline has elapsed")),
    };
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| failed(&error))?;
    Scope { inner: scope.clone() }.spawn("http connection", async move {
        // How it ends, the response's body says.
        let _ = connection.with_upgrades().await;
    });
    if let Ok(host) = HeaderValue::from_str(&to.to_string()) {
        request.headers_mut().entry(HOST).or_insert(host);
    }
    let response = sender.send_request(request).await.map_err(|error| TransportError(error.to_string()))?;
    Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
}
