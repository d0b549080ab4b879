//! One request to a server, on a connection of its own.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daruma_world::World;
use daruma_world::net::Stream;
use http::{Method, Request, Response, Uri, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::trust;
use crate::images::dns;

/// Time for a connection to be made, and for an answer to begin: Go's net/http dials as long in containerd.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Time for the handshake of TLS: containerd's `TLSHandshakeTimeout`.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Clone)]
pub struct Ask<'a> {
    /// `HEAD` or `GET`.
    pub method: Method,
    /// The whole URL.
    pub url: &'a str,
    /// Media types.
    pub accept: &'a str,
    /// Leaves out so many bytes of the content, where the server can.
    pub from: u64,
    /// `Authorization`.
    pub authorization: Option<String>,
}

/// A request that got no answer, as Go's net/http words it.
#[derive(Debug, thiserror::Error)]
#[error("{method} {url:?}: {source}")]
pub struct Unanswered {
    method: &'static str,
    url: String,
    source: io::Error,
}

impl Unanswered {
    /// What went wrong with a request for `url`.
    pub fn new(method: &Method, url: &str, source: io::Error) -> Self {
        let method = if method == Method::HEAD { "Head" } else { "Get" };
        Self { method, url: url.to_owned(), source }
    }
}

/// Sends the request; gives the head of its answer.
pub async fn send(world: &World, tls: &Arc<ClientConfig>, ask: &Ask<'_>) -> Result<Response<Incoming>, Unanswered> {
    let sent = async {
        let uri: Uri = ask.url.parse().map_err(io::Error::other)?;
        let stream = connect(world, tls, &uri).await?;
        exchange(world, ask, &uri, stream).await
    };
    sent.await.map_err(|source| Unanswered::new(&ask.method, ask.url, source))
}

async fn exchange(world: &World, ask: &Ask<'_>, uri: &Uri, stream: Box<dyn Stream>) -> io::Result<Response<Incoming>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    world.spawn("registry-connection", async move {
        // Its end reaches the reader of the body.
        let _ = connection.await;
    });
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let mut request = Request::builder()
        .method(&ask.method)
        .uri(path)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, concat!("daruma/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, ask.accept);
    if ask.from > 0 {
        request = request.header(header::RANGE, format!("bytes={}-", ask.from));
    }
    if let Some(authorization) = &ask.authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
    match world.timeout(PATIENCE, sender.send_request(request)).await {
        Ok(answer) => {
            answer.map_err(|error| if error.is_incomplete_message() { io::Error::other("EOF") } else { io::Error::other(error) })
        }
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "net/http: timeout awaiting response headers")),
    }
}

async fn connect(world: &World, tls: &Arc<ClientConfig>, uri: &Uri) -> io::Result<Box<dyn Stream>> {
    let host = uri.host().ok_or_else(|| io::Error::other("http: no Host in request URL"))?;
    let bare = host.trim_matches(['[', ']']);
    let secure = uri.scheme_str() == Some("https");
    let stream = dial(world, bare, uri.port_u16().unwrap_or(if secure { 443 } else { 80 })).await?;
    if !secure {
        return Ok(stream);
    }
    let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
    let handshake = tokio_rustls::TlsConnector::from(tls.clone()).connect(name, stream);
    match world.timeout(HANDSHAKE, handshake).await {
        Ok(stream) => Ok(Box::new(stream.map_err(trust::describe)?)),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "net/http: TLS handshake timeout")),
    }
}

async fn dial(world: &World, host: &str, port: u16) -> io::Result<Box<dyn Stream>> {
    let (name, id) = (host.to_owned(), world.random.next_u64() as u16);
    let addresses: Vec<IpAddr> = world
        .blocking(move || dns::lookup(&name, id))
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("dial tcp: {error}")))?;
    let mut first = None;
    for address in addresses {
        let to = (address, port).into();
        let why = match world.timeout(PATIENCE, world.net.connect(to)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => format!("dial tcp {to}: connect: {}", reason(&error)),
            Err(_) => format!("dial tcp {to}: i/o timeout"),
        };
        first.get_or_insert(io::Error::other(why));
    }
    Err(first.unwrap_or_else(|| io::Error::other(format!("dial tcp: lookup {host}: no such host"))))
}

/// The system's words for an error, without its number: `connection refused`.
fn reason(error: &io::Error) -> String {
    let Some(code) = error.raw_os_error() else { return error.to_string() };
    let text = nix::errno::Errno::from_raw(code).desc();
    text[..1].to_lowercase() + &text[1..]
}
