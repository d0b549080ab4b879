//! How requests reach a server.

use futures::future::BoxFuture;
use http::{Request, Response};

use crate::{Body, TransportError};

/// Carries one request to a server and its response back. The URI holds path and query only.
///
/// A response with status 101 carries the upgraded stream as `hyper::upgrade::OnUpgrade` in its
/// extensions, where the transport supports upgrades. Implementations: HTTPS in `host`, a direct
/// call of the API server's service in one process.
pub trait Transport: Send + Sync {
    /// Sends `request`; completes with the response's head, the body streams.
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, TransportError>>;

    /// Gives up every connection: calls in progress and streams of bodies fail now, the next call connects anew. For
    /// whoever has waited in vain often enough to believe in none of them. A transport without connections has nothing
    /// to do.
    fn close_connections(&self) {}
}
