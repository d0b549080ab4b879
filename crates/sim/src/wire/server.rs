//! Servers of requests.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use daruma_client::Body;
use http::Request;
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::{Handler, PeerAddress};
use crate::network::{Server, Space, TcpStream};
use crate::scope::{Attachment, Scope, ScopeInner};

/// One bound server.
pub(crate) struct HttpServer {
    scope: Arc<ScopeInner>,
    space: Arc<Space>,
    at: SocketAddr,
    pub(super) handler: Handler,
}

impl HttpServer {
    pub(super) fn bind(scope: &Arc<ScopeInner>, at: SocketAddr, handler: Handler) -> io::Result<()> {
        if scope.is_dead() {
            return Ok(());
        }
        let space = scope.space();
        let at = if at.port() == 0 { SocketAddr::new(at.ip(), space.free_port()) } else { at };
        let server = Arc::new(Self { scope: scope.clone(), space: space.clone(), at, handler });
        space.bind_tcp(at, Server::Http(server.clone()))?;
        let weak: Weak<dyn Attachment> = Arc::downgrade(&server) as Weak<dyn Attachment>;
        scope.attach(weak);
        Ok(())
    }

    pub(crate) fn scope(&self) -> &Arc<ScopeInner> {
        &self.scope
    }

    /// Answers in plain HTTP/1.1 on a byte stream. `extensions` are put into every request.
    pub(crate) fn serve_stream(&self, stream: TcpStream, from: SocketAddr, extensions: http::Extensions) {
        let handler = self.handler.clone();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let mut request = request.map(|body| -> Body { body.map_err(Into::into).boxed_unsync() });
            request.extensions_mut().extend(extensions.clone());
            request.extensions_mut().insert(PeerAddress(from));
            let answer = handler(request);
            async move { Ok::<http::Response<Body>, std::convert::Infallible>(answer.await) }
        });
        let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
        Scope { inner: self.scope.clone() }.spawn("http connection", async move {
            // A connection that ends badly concerns its client only.
            let _ = serving.await;
        });
    }
}

impl Attachment for HttpServer {
    fn died(&self, _: &ScopeInner) {
        self.space
            .unbind_tcp(self.at.port(), |server| matches!(server, Server::Http(one) if std::ptr::eq(Arc::as_ptr(one), self)));
    }
}
