//! HTTPS: serving a handler, and a transport for clients.

mod bulk;
mod client;
mod server;
mod sockets;
#[cfg(test)]
mod tests;

pub use client::HttpsTransport;
pub use daruma_client::connection::{ClientIdentity, Handler, Peer, ServerIdentity, TlsTrust};
pub use server::{HttpsServer, serve_http};

/// What can go wrong with certificates and sockets.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// A certificate or key could not be understood.
    #[error("cannot use the {what}: {why}")]
    Certificate {
        /// Which one.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// The address could not be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}
