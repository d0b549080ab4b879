//! The client's side of the wire.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daruma_client::{Body, Transport, TransportError};
use futures::FutureExt;
use futures::future::{BoxFuture, Either, select};
use http::{Request, Response};
use tokio::sync::oneshot;

use super::call::call;
use super::plain;
use super::{HttpServer, PeerAddress};
use crate::clock::{Sleep, nanos};
use crate::network::{Astray, Break, CLIENT, Endpoint, Kind, Line, Server, endpoint, socket_address};
use crate::scope::ScopeInner;

/// How long a connection may take to be opened, TLS handshake included.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// First pause before a connection is asked for again; Linux `TCP_TIMEOUT_INIT`.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Connection {
    line: Arc<Line>,
    server: Arc<HttpServer>,
    peer: PeerAddress,
}

struct Inner {
    scope: Arc<ScopeInner>,
    host: String,
    port: u16,
    extensions: http::Extensions,
    connection: Mutex<Option<Connection>>,
}

/// See [`super::Wire::transport`].
pub(super) struct WireTransport {
    inner: Arc<Inner>,
}

impl WireTransport {
    pub(super) fn new(scope: &Arc<ScopeInner>, host: &str, port: u16, extensions: http::Extensions) -> Self {
        let inner = Inner { scope: scope.clone(), host: host.to_owned(), port, extensions, connection: Mutex::new(None) };
        Self { inner: Arc::new(inner) }
    }
}

impl Transport for WireTransport {
    fn call(&self, mut request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let inner = self.inner.clone();
        async move {
            if inner.scope.is_dead() {
                return std::future::pending().await;
            }
            let connection = if plain::asks_for_upgrade(&request) {
                None
            } else if let Some(present) = inner.present() {
                Some(present)
            } else {
                inner.connect().await?
            };
            let Some(connection) = connection else {
                let to = SocketAddr::new(inner.ip()?, inner.port);
                return plain::call(&inner.scope, to, inner.extensions.clone(), request).await;
            };
            request.extensions_mut().extend(inner.extensions.clone());
            // Whoever holds the transport no longer closes the connection once its last call is through.
            drop(inner);
            call(connection.line, connection.server, connection.peer, request).await
        }
        .boxed()
    }

    fn close_connections(&self) {
        let connection = self.inner.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(connection) = connection {
            // As when pings go unanswered: the server hears of it, if it can.
            connection.line.break_end(CLIENT, Break::TimedOut);
        }
    }
}

impl Inner {
    /// The connection, where there is one of use.
    fn present(&self) -> Option<Connection> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if connection.as_ref().is_some_and(|connection| !connection.line.is_usable(CLIENT)) {
            let old = connection.take();
            drop(connection);
            drop(old);
            return None;
        }
        connection.clone()
    }

    fn error(&self, why: impl std::fmt::Display) -> TransportError {
        TransportError(format!("connect to {}:{}: {why}", self.host, self.port))
    }

    fn ip(&self) -> Result<IpAddr, TransportError> {
        let host = if self.host == "localhost" { "127.0.0.1" } else { &self.host };
        host.parse().map_err(|_| self.error("the virtual wire takes addresses only"))
    }

    /// Opens a connection; `None` where the server speaks bytes only.
    async fn connect(&self) -> Result<Option<Connection>, TransportError> {
        let to = endpoint(SocketAddr::new(self.ip()?, self.port)).map_err(|error| self.error(error))?;
        let limit = Sleep::new(&self.scope, CONNECT_LIMIT);
        let connecting = std::pin::pin!(self.try_to_connect(to));
        match select(connecting, limit).await {
            Either::Left((connected, _)) => {
                let Some(connection) = connected? else { return Ok(None) };
                let mut kept = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
                // Of several that were opened at once the first is kept, as in an HTTP/2 pool.
                if let Some(first) = kept.as_ref().filter(|first| first.line.is_usable(CLIENT)) {
                    let first = first.clone();
                    drop(kept);
                    connection.line.close(CLIENT);
                    return Ok(Some(first));
                }
                *kept = Some(connection.clone());
                Ok(Some(connection))
            }
            Either::Right(_) => Err(self.error("deadline has elapsed")),
        }
    }

    async fn try_to_connect(&self, to: Endpoint) -> Result<Option<Connection>, TransportError> {
        let scope = &self.scope;
        let (network, space) = (&scope.network, scope.space());
        let port = space.free_port();
        let mut pause = RETRY;
        loop {
            let (_, mut chance) = network.new_line_id();
            let asked = network.route(&space, port, to).and_then(|route| {
                let there = network.cross(&route.hops, true, 64, &mut chance).ok_or(Astray::Silent)?;
                let back = network.cross(&route.hops, false, 64, &mut chance).ok_or(Astray::Silent)?;
                Ok((route, there + back))
            });
            match asked {
                Ok((route, takes)) => {
                    wait(scope, takes).await;
                    match route.space.tcp_server(route.to) {
                        Some(Server::Http(server)) => {
                            let line = Line::new(network, Kind::Http, scope, server.scope(), route.hops, chance);
                            let connection = Connection { line, server, peer: PeerAddress(socket_address(route.source)) };
                            self.shake_hands(&connection, takes).await?;
                            return Ok(Some(connection));
                        }
                        Some(Server::Stream(_)) => return Ok(None),
                        None => return Err(self.error(Astray::Refused.error(to))),
                    }
                }
                Err(Astray::Silent) => {
                    wait(scope, nanos(pause)).await;
                    pause *= 2;
                }
                Err(astray) => return Err(self.error(astray.error(to))),
            }
        }
    }

    /// The TLS handshake: it needs the server's process, and takes a round trip.
    async fn shake_hands(&self, connection: &Connection, takes_ns: u64) -> Result<(), TransportError> {
        let server = connection.server.scope();
        if server.core.is_paused(server) {
            let (sender, receiver) = oneshot::channel();
            let greeting = async move {
                // The client may have given up.
                let _ = sender.send(());
            };
            server.core.spawn(server, "handshake", greeting.boxed());
            if receiver.await.is_err() {
                return Err(self.error(crate::network::Break::Reset.error()));
            }
        }
        wait(&self.scope, takes_ns).await;
        if connection.line.is_usable(CLIENT) { Ok(()) } else { Err(self.error(crate::network::Break::Reset.error())) }
    }
}

async fn wait(scope: &Arc<ScopeInner>, time_ns: u64) {
    if time_ns > 0 {
        Sleep::until(scope, scope.core.now_ns().saturating_add(time_ns)).await;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Calls in progress keep the connection; it is forgotten with the last of them.
        let connection = self.connection.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        drop(connection);
    }
}
