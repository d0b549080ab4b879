//! The two ends of a connection: how a client shows who it is and whom it believes, what a server
//! shows, and what it learns of its peer.
//!
//! Invariant: descriptions only. HTTPS in `host` and the virtual world's wire carry them out.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::{Request, Response};

use crate::Body;

/// Whose server certificates are believed.
#[derive(Debug, Clone)]
pub enum TlsTrust {
    /// Signed by one of these authorities (PEM) and made for the host that is called.
    Ca(String),
    /// Any (`insecureSkipTLSVerify`).
    Anyone,
}

/// How the client proves who it is.
#[derive(Clone)]
pub enum ClientIdentity {
    /// Not at all.
    Anonymous,
    /// A certificate and its key, in PEM.
    Certificate {
        /// Certificate chain.
        certificate: String,
        /// Private key.
        key: String,
    },
    /// A bearer token, read anew for every request (tokens rotate).
    Token(Arc<dyn Fn() -> Option<String> + Send + Sync>),
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Its verified client certificate (DER), where it showed one.
    pub certificate: Option<Vec<u8>>,
}

/// Answers requests.
pub type Handler = Arc<dyn Fn(Request<Body>, &Peer) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// What a server shows and whom it trusts. All in PEM.
#[derive(Debug, Clone)]
pub struct ServerIdentity {
    /// Certificate chain, the server's own first.
    pub certificate: String,
    /// Private key.
    pub key: String,
    /// Authorities of client certificates; `None` asks for none.
    pub client_ca: Option<String>,
}
