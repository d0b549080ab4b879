//! The transport of clients: one HTTP/2 connection (HTTP/1.1 where upgrades are needed) to one server.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use daruma_client::connection::{ClientIdentity, TlsTrust};
use daruma_client::{Body, Transport, TransportError};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::rt::ReadBufCursor;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::{CipherSuite, ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::HttpsError;
use super::bulk::Bulk;
use super::server::{bad, certificates, keep_alive, key, roots};
use super::sockets::{Sockets, Tracked};

/// Bytes of the largest HTTP/2 frame that is taken. Of long lists a sixteenth as many arrive as with the usual 16 kB.
const LARGEST_FRAME: u32 = 256 * 1024;

/// Sends requests to one server. Cheap to clone.
#[derive(Clone)]
pub struct HttpsTransport {
    client: Client<Connector, Body>,
    scheme: Scheme,
    authority: Authority,
    token: Option<Arc<dyn Fn() -> Option<String> + Send + Sync>>,
    sockets: Sockets,
}

impl HttpsTransport {
    /// A transport to `host:port`. With `upgrades` it speaks HTTP/1.1 only, so that a request may
    /// become a WebSocket. Connects at the first request, and again whenever the connection is lost.
    pub fn new(host: &str, port: u16, trust: &TlsTrust, identity: &ClientIdentity, upgrades: bool) -> Result<Self, HttpsError> {
        Self::named(host, port, host, trust, identity, upgrades)
    }

    /// A transport without TLS, for what answers in plain HTTP.
    pub fn plain(host: &str, port: u16) -> Result<Self, HttpsError> {
        Self::with_connector(Connector { host: host.into(), port, tls: None, sockets: Sockets::default() }, Scheme::HTTP, None)
    }

    /// As [`HttpsTransport::new`], to a server whose certificate is made for another `name` than `host`.
    pub fn named(
        host: &str,
        port: u16,
        name: &str,
        trust: &TlsTrust,
        identity: &ClientIdentity,
        upgrades: bool,
    ) -> Result<Self, HttpsError> {
        let mut provider = rustls::crypto::ring::default_provider();
        // As Go's crypto/tls prefers on processors with AES instructions: the shorter key takes fewer rounds.
        provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
        let provider = Arc::new(provider);
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| bad("client configuration", error))?;
        let builder = match trust {
            TlsTrust::Ca(pem) => builder.with_root_certificates(roots(pem)?),
            TlsTrust::Anyone => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer { provider: provider.clone() }))
            }
        };
        let mut tls = match identity {
            ClientIdentity::Certificate { certificate, key: private } => builder
                .with_client_auth_cert(certificates(certificate)?, key(private)?)
                .map_err(|error| bad("client certificate", error))?,
            ClientIdentity::Anonymous | ClientIdentity::Token(_) => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = if upgrades { vec![b"http/1.1".to_vec()] } else { vec![b"h2".to_vec(), b"http/1.1".to_vec()] };
        let name = ServerName::try_from(name.to_owned()).map_err(|error| bad("server name", error))?;
        let token = match identity {
            ClientIdentity::Token(token) => Some(token.clone()),
            _ => None,
        };
        let tls = Some((TlsConnector::from(Arc::new(tls)), name));
        Self::with_connector(Connector { host: host.into(), port, tls, sockets: Sockets::default() }, Scheme::HTTPS, token)
    }

    fn with_connector(
        connector: Connector,
        scheme: Scheme,
        token: Option<Arc<dyn Fn() -> Option<String> + Send + Sync>>,
    ) -> Result<Self, HttpsError> {
        let (host, port) = (&connector.host, connector.port);
        let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let authority: Authority = authority.parse().map_err(|error| bad("server name", error))?;
        let sockets = connector.sockets.clone();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(90))
            .http2_initial_stream_window_size(1024 * 1024)
            .http2_initial_connection_window_size(4 * 1024 * 1024)
            .http2_max_frame_size(LARGEST_FRAME)
            // client-go finds a dead server with the same two figures (ReadIdleTimeout, PingTimeout).
            .http2_keep_alive_interval(Duration::from_secs(30))
            .http2_keep_alive_timeout(Duration::from_secs(15))
            .build(connector);
        Ok(Self { client, scheme, authority, token, sockets })
    }
}

impl Transport for HttpsTransport {
    fn call(&self, mut request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        if let Some(token) = self.token.as_ref().and_then(|token| token())
            && let Ok(value) = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        {
            request.headers_mut().entry(http::header::AUTHORIZATION).or_insert(value);
        }
        let answer = self.client.request(request);
        async move {
            let response = answer.await.map_err(|error| TransportError(describe(&error)))?;
            Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
        }
        .boxed()
    }

    fn close_connections(&self) {
        self.sockets.shut_down();
    }
}

/// The whole chain of causes in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[derive(Clone)]
struct Connector {
    host: Arc<str>,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    sockets: Sockets,
}

impl tower_service::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Stream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        async move {
            let connect = async {
                let tcp = TcpStream::connect((&*connector.host, connector.port)).await?;
                keep_alive(&tcp);
                let tcp = Tracked::new(tcp, connector.sockets);
                Ok::<Box<dyn MaybeHttp2>, io::Error>(match connector.tls {
                    Some((tls, name)) => Box::new(tls.connect(name, Bulk::new(tcp)).await?),
                    None => Box::new(tcp),
                })
            };
            #[expect(clippy::disallowed_methods, reason = "the real world's own time limit on a handshake")]
            let stream = tokio::time::timeout(Duration::from_secs(10), connect).await??;
            Ok(Stream(TokioIo::new(stream)))
        }
        .boxed()
    }
}

/// A connected stream that knows whether HTTP/2 was agreed on.
trait MaybeHttp2: AsyncRead + AsyncWrite + Send + Unpin {
    fn is_http2(&self) -> bool;
}

impl MaybeHttp2 for Tracked {
    fn is_http2(&self) -> bool {
        false
    }
}

impl MaybeHttp2 for TlsStream<Bulk<Tracked>> {
    fn is_http2(&self) -> bool {
        self.get_ref().1.alpn_protocol() == Some(b"h2")
    }
}

struct Stream(TokioIo<Box<dyn MaybeHttp2>>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.0.inner().is_http2() { connected.negotiated_h2() } else { connected }
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Believes every server, but still checks that it holds the key of what it shows.
#[derive(Debug)]
struct AnyServer {
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
