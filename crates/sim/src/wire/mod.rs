//! HTTP between the processes of a universe: requests and responses travel as they are, without bytes
//! or TLS, and meet all that bytes would meet on their way.
//!
//! A server answers TCP connections to its port, too, in plain HTTP/1.1, so that whoever has sockets
//! only (a probe) can ask it.

mod body;
mod call;
mod plain;
mod server;
mod transport;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use daruma_client::{Body, Transport};
use futures::future::BoxFuture;
use http::{Request, Response};

use crate::scope::Scope;
pub(crate) use server::HttpServer;
use transport::WireTransport;

/// Answers requests.
pub type Handler = Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Who has sent a request; in its extensions. An address after translation, as the server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress(pub SocketAddr);

/// HTTP between processes. Cheap to clone.
#[derive(Clone)]
pub struct Wire {
    pub(crate) _private: (),
}

impl Wire {
    /// Answers requests at an address of the scope's machine (or pod), until the scope dies.
    /// Every request is handled in a task of the scope.
    ///
    /// # Errors
    /// Where somebody listens there already, or it is no address of that machine.
    pub fn serve(&self, scope: &Scope, at: SocketAddr, handler: Handler) -> io::Result<()> {
        HttpServer::bind(&scope.inner, at, handler)
    }

    /// Sends requests from a scope to `host` (an address) and `port`, over one connection that is opened
    /// when it is first needed, and again when it is lost. `extensions` (who the caller is) are put
    /// into every request.
    ///
    /// As our real transport it gives up a connection attempt after 10 s and a silent connection by HTTP/2
    /// pings: after 30 s without a word and 15 s more without an answer. A request that asks for an upgrade gets a
    /// connection of its own in HTTP/1.1, and so does every request to a port at which plain sockets listen.
    pub fn transport(&self, scope: &Scope, host: &str, port: u16, extensions: http::Extensions) -> Arc<dyn Transport> {
        Arc::new(WireTransport::new(&scope.inner, host, port, extensions))
    }
}
