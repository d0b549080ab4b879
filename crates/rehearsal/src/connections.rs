//! Servers and transports of the virtual world's wire, in the form that components ask for.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use daruma_client::connection::{ClientIdentity, Handler, Peer};
use daruma_client::{Body, Transport, TransportError};
use daruma_cluster::platform::{Server, Target};
use daruma_sim::{PeerAddress, Scope, Wire};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{Extensions, HeaderValue, Request, Response};
use tokio::sync::Notify;

use crate::certificates::{self, Authority};

/// The client certificate (DER) that a caller shows. Set by transports of this module only: what a program
/// puts into a request does not become a certificate.
#[derive(Debug, Clone)]
struct Shown(Arc<Vec<u8>>);

/// A server whose port is taken and whose handler comes later.
pub struct WireServer {
    slot: Arc<Slot>,
}

#[derive(Default)]
struct Slot {
    handler: Mutex<Option<Handler>>,
    set: Notify,
}

impl Slot {
    fn get(&self) -> Option<Handler> {
        self.handler.lock().expect("no panic while held").clone()
    }

    fn put(&self, handler: Handler) {
        *self.handler.lock().expect("no panic while held") = Some(handler);
        self.set.notify_waiters();
    }

    /// The handler, once it is there; until then a caller waits as in a real server's backlog.
    async fn wait(&self) -> Handler {
        loop {
            let set = self.set.notified();
            if let Some(handler) = self.get() {
                return handler;
            }
            set.await;
        }
    }
}

impl WireServer {
    /// Takes the port `at` in `scope`. Certificates of `client_ca` (PEM) are believed, others are not seen.
    ///
    /// # Errors
    /// The port is taken, or the address is not the machine's.
    pub fn bind(wire: &Wire, scope: &Scope, at: SocketAddr, client_ca: Option<String>) -> io::Result<Self> {
        let slot = Arc::new(Slot::default());
        let waiting = slot.clone();
        let authority = client_ca.as_deref().and_then(Authority::of);
        let answer = move |mut request: Request<Body>| {
            let peer = peer(request.extensions_mut(), authority.as_ref());
            match waiting.get() {
                Some(handler) => handler(request, &peer),
                None => {
                    let waiting = waiting.clone();
                    async move { waiting.wait().await(request, &peer).await }.boxed()
                }
            }
        };
        wire.serve(scope, at, Arc::new(answer))?;
        Ok(Self { slot })
    }
}

impl Server for WireServer {
    fn serve(self: Box<Self>, handler: Handler) -> BoxFuture<'static, ()> {
        self.slot.put(handler);
        futures::future::pending().boxed()
    }
}

fn peer(extensions: &mut Extensions, authority: Option<&Authority>) -> Peer {
    let unknown = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let address = extensions.get::<PeerAddress>().map_or(unknown, |peer| peer.0);
    let shown = extensions.remove::<Shown>();
    let certificate = shown.filter(|shown| authority.is_some_and(|authority| authority.has_signed(&shown.0)));
    Peer { address, certificate: certificate.map(|shown| shown.0.to_vec()) }
}

/// A transport from `scope` to `target`.
pub fn transport(wire: &Wire, scope: &Scope, target: &Target) -> Arc<dyn Transport> {
    let mut extensions = Extensions::new();
    let identity = target.tls.as_ref().map(|tls| &tls.identity);
    if let Some(ClientIdentity::Certificate { certificate, .. }) = identity
        && let Some(der) = certificates::der(certificate)
    {
        extensions.insert(Shown(Arc::new(der)));
    }
    let wire = wire.transport(scope, &target.host, target.port, extensions);
    match identity {
        Some(ClientIdentity::Token(token)) => Arc::new(WithToken { transport: wire, token: token.clone() }),
        _ => wire,
    }
}

/// Puts a bearer token, read anew each time, into every request that has none.
struct WithToken {
    transport: Arc<dyn Transport>,
    token: Arc<dyn Fn() -> Option<String> + Send + Sync>,
}

impl Transport for WithToken {
    fn call(&self, mut request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        if let Some(token) = (self.token)()
            && let Ok(value) = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        {
            request.headers_mut().entry(AUTHORIZATION).or_insert(value);
        }
        self.transport.call(request)
    }

    fn close_connections(&self) {
        self.transport.close_connections();
    }
}
