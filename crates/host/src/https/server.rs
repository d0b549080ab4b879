//! Serves a handler over TLS (HTTP/1.1 and HTTP/2) or plain HTTP.
#![expect(clippy::disallowed_methods, reason = "connections are tokio tasks of the real world")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daruma_client::connection::{Handler, Peer, ServerIdentity};
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::HttpsError;
use super::bulk::Bulk;
use crate::world::bind_tcp;

/// Most connections that wait for their TLS handshake to end.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Bytes of an answer that wait to be encrypted, and bytes that wait for the socket after that, on one connection. A long
/// answer to a client that takes large frames goes out in few calls, each of several encrypted records.
const WAITING_PLAIN: usize = 1024 * 1024;
const WAITING_ENCRYPTED: usize = 512 * 1024;

/// A bound HTTPS server.
pub struct HttpsServer {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl HttpsServer {
    /// Binds `address`. Clients may show a certificate, but need not.
    pub fn bind(address: SocketAddr, identity: &ServerIdentity) -> Result<Self, HttpsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| bad("server configuration", error))?;
        let builder = match &identity.client_ca {
            Some(ca) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider)
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| bad("client CA", error))?;
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(certificates(&identity.certificate)?, key(&identity.key)?)
            .map_err(|error| bad("server certificate", error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = bind_tcp(address).map_err(|source| HttpsError::Listen { address, source })?;
        Ok(Self { listener, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// The bound address.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the future is dropped.
    pub async fn serve(self, handler: Handler) {
        loop {
            let Some((stream, address)) = accept(&self.listener).await else { continue };
            let (acceptor, handler) = (self.acceptor.clone(), handler.clone());
            tokio::spawn(async move {
                let accepted = tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(Bulk::new(stream))).await;
                let Ok(Ok(mut stream)) = accepted else { return };
                stream.get_mut().1.set_buffer_limit(Some(WAITING_ENCRYPTED));
                let certificate =
                    stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec());
                serve_connection(stream, Peer { address, certificate }, handler).await;
            });
        }
    }
}

/// Serves plain HTTP at `address` until the future is dropped.
pub async fn serve_http(address: SocketAddr, handler: Handler) -> Result<(), HttpsError> {
    let listener = bind_tcp(address).map_err(|source| HttpsError::Listen { address, source })?;
    loop {
        let Some((stream, address)) = accept(&listener).await else { continue };
        let handler = handler.clone();
        tokio::spawn(async move { serve_connection(stream, Peer { address, certificate: None }, handler).await });
    }
}

async fn accept(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    match listener.accept().await {
        Ok((stream, address)) => {
            keep_alive(&stream);
            Some((stream, address))
        }
        Err(error) => {
            // Out of file descriptors, say: the next attempt may find some again.
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

/// Finds dead peers within about two minutes; small writes go out at once.
pub(super) fn keep_alive(stream: &TcpStream) {
    use nix::sys::socket::{setsockopt, sockopt};
    // A socket that refuses an option still works.
    let _ = stream.set_nodelay(true);
    let _ = setsockopt(stream, sockopt::KeepAlive, &true);
    let _ = setsockopt(stream, sockopt::TcpKeepIdle, &30);
    let _ = setsockopt(stream, sockopt::TcpKeepInterval, &15);
    let _ = setsockopt(stream, sockopt::TcpKeepCount, &6);
}

async fn serve_connection<S>(stream: S, peer: Peer, handler: Handler)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = handler(request.map(|body| body.map_err(Into::into).boxed_unsync()), &peer);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(1000)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(WAITING_PLAIN);
    if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "connection ended");
    }
}

pub(super) fn bad(what: &'static str, why: impl std::fmt::Display) -> HttpsError {
    HttpsError::Certificate { what, why: why.to_string() }
}

pub(super) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, HttpsError> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|error| bad("certificate", error))
}

pub(super) fn key(pem: &str) -> Result<PrivateKeyDer<'static>, HttpsError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| bad("private key", error))
}

pub(super) fn roots(pem: &str) -> Result<RootCertStore, HttpsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem)? {
        store.add(certificate).map_err(|error| bad("CA certificate", error))?;
    }
    Ok(store)
}
