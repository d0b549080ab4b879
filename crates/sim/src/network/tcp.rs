//! TCP: byte streams and who listens for them.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use daruma_world::net::{Listener, Stream};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::line::{CLIENT, SERVER};
use super::{Astray, Endpoint, Kind, Line, Network, Part, Pipe, Received, Server, Space, endpoint, socket_address};
use crate::clock::{Sleep, nanos};
use crate::scope::{Attachment, ScopeInner};

/// Connections that may wait to be accepted: Linux `somaxconn`.
const BACKLOG: usize = 4096;
/// Bytes on their way in each direction of a connection.
const WINDOW: usize = 64 * 1024;
/// First pause before a connection is asked for again: Linux `TCP_TIMEOUT_INIT`.
const RETRY: Duration = Duration::from_secs(1);
/// How often that is done, with twice the pause each time: Linux `tcp_syn_retries`.
const RETRIES: u32 = 6;

/// Both directions of one connection.
struct Duplex {
    pipes: [Pipe<Bytes>; 2],
}

impl Part for Duplex {
    fn broken(&self, _: usize) {
        for pipe in &self.pipes {
            pipe.wake();
        }
    }
}

/// One end of a connection.
pub(crate) struct TcpStream {
    line: Arc<Line>,
    duplex: Arc<Duplex>,
    end: usize,
    rest: Bytes,
    is_at_end: bool,
    sleep: Option<(u64, Sleep)>,
}

/// Both ends of a new connection.
pub(crate) fn stream_pair(line: &Arc<Line>) -> (TcpStream, TcpStream) {
    let duplex = Arc::new(Duplex { pipes: [Pipe::new(CLIENT, WINDOW), Pipe::new(SERVER, WINDOW)] });
    let weak: Weak<dyn Part> = Arc::downgrade(&duplex) as Weak<dyn Part>;
    line.add_part(weak);
    let end =
        |end| TcpStream { line: line.clone(), duplex: duplex.clone(), end, rest: Bytes::new(), is_at_end: false, sleep: None };
    (end(CLIENT), end(SERVER))
}

impl AsyncRead for TcpStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.rest.is_empty() && !this.is_at_end {
            let received = this.duplex.pipes[this.end].poll_receive(&this.line, context, &mut this.sleep);
            match std::task::ready!(received) {
                Received::Item(bytes) => this.rest = bytes,
                Received::End => this.is_at_end = true,
                Received::Broken(why) => return Poll::Ready(Err(why.error())),
            }
        }
        let count = this.rest.len().min(buffer.remaining());
        buffer.put_slice(&this.rest.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, content: &[u8]) -> Poll<io::Result<usize>> {
        let pipe = &self.duplex.pipes[1 - self.end];
        match std::task::ready!(pipe.poll_room(&self.line, context)) {
            Ok(room) => {
                let count = content.len().min(room);
                let sent = pipe.send(&self.line, Some(Bytes::copy_from_slice(&content[..count])), count);
                Poll::Ready(sent.map(|()| count).map_err(super::Break::error))
            }
            Err(why) => Poll::Ready(Err(why.error())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nobody is left to be told where this fails.
        let _ = self.duplex.pipes[1 - self.end].send(&self.line, None, 0);
        Poll::Ready(Ok(()))
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        if self.line.scope(self.end).is_dead() {
            // What the kernel says for a dead process is said where the scope dies.
            return;
        }
        // The end arrives behind what was sent; what comes the other way from now on is refused.
        let _ = self.duplex.pipes[1 - self.end].send(&self.line, None, 0);
        self.line.close_quietly(self.end);
        self.duplex.pipes[self.end].wake();
    }
}

/// Connections that wait to be accepted.
pub(crate) struct Backlog {
    scope: Arc<ScopeInner>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(TcpStream, SocketAddr)>,
    accepting: Option<Waker>,
}

impl Backlog {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, stream: TcpStream, from: SocketAddr) -> Result<(), TcpStream> {
        let waker = {
            let mut queue = self.queue();
            if queue.waiting.len() >= BACKLOG {
                return Err(stream);
            }
            queue.waiting.push_back((stream, from));
            queue.accepting.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }
}

/// What became of a request for a connection.
enum Opened {
    Stream(TcpStream, u64),
    Refused(u64),
}

/// Asks once for a connection.
fn ask(
    scope: &Arc<ScopeInner>,
    space: &Arc<Space>,
    port: u16,
    to: Endpoint,
    extensions: &http::Extensions,
) -> Result<Opened, Astray> {
    let network: &Arc<Network> = &scope.network;
    let route = network.route(space, port, to)?;
    let (_, mut chance) = network.new_line_id();
    let there = network.cross(&route.hops, true, 64, &mut chance).ok_or(Astray::Silent)?;
    let back = network.cross(&route.hops, false, 64, &mut chance).ok_or(Astray::Silent)?;
    let takes = there + back;
    let from = socket_address(route.source);
    match route.space.tcp_server(route.to) {
        None => Ok(Opened::Refused(takes)),
        Some(Server::Stream(backlog)) => {
            let line = Line::new(network, Kind::Stream, scope, &backlog.scope, route.hops, chance);
            let (near, far) = stream_pair(&line);
            match backlog.push(far, from) {
                Ok(()) => Ok(Opened::Stream(near, takes)),
                // A full backlog takes no notice.
                Err(_) => Err(Astray::Silent),
            }
        }
        Some(Server::Http(server)) => {
            let line = Line::new(network, Kind::Stream, scope, server.scope(), route.hops, chance);
            let (near, far) = stream_pair(&line);
            server.serve_stream(far, from, extensions.clone());
            Ok(Opened::Stream(near, takes))
        }
    }
}

/// Opens a connection from a scope: as a kernel does, asking again where nobody answers. A server of HTTP
/// requests finds `extensions` in each of them.
pub(crate) async fn open_stream(scope: Arc<ScopeInner>, to: SocketAddr, extensions: http::Extensions) -> io::Result<TcpStream> {
    if scope.is_dead() {
        return std::future::pending().await;
    }
    let (space, to) = (scope.space(), endpoint(to)?);
    let port = space.free_port();
    for attempt in 0..=RETRIES {
        match ask(&scope, &space, port, to, &extensions) {
            Ok(Opened::Stream(stream, takes)) => {
                wait(&scope, takes).await;
                return Ok(stream);
            }
            Ok(Opened::Refused(takes)) => {
                wait(&scope, takes).await;
                return Err(Astray::Refused.error(to));
            }
            Err(Astray::Silent) => wait(&scope, nanos(RETRY) << attempt).await,
            Err(astray) => return Err(astray.error(to)),
        }
    }
    Err(Astray::Silent.error(to))
}

async fn wait(scope: &Arc<ScopeInner>, time_ns: u64) {
    if time_ns > 0 {
        Sleep::until(scope, scope.core.now_ns().saturating_add(time_ns)).await;
    }
}

/// A listening socket.
pub(crate) struct TcpListener {
    backlog: Arc<Backlog>,
    space: Arc<Space>,
    at: SocketAddr,
    guard: Arc<Unbind>,
    attachment: u64,
}

/// Frees the port when the scope dies.
struct Unbind {
    backlog: Arc<Backlog>,
    space: Arc<Space>,
    port: u16,
}

impl Unbind {
    fn unbind(&self) {
        let backlog = &self.backlog;
        self.space.unbind_tcp(self.port, |server| matches!(server, Server::Stream(one) if Arc::ptr_eq(one, backlog)));
    }
}

impl Attachment for Unbind {
    fn died(&self, _: &ScopeInner) {
        self.unbind();
        let waiting = std::mem::take(&mut self.backlog.queue().waiting);
        drop(waiting);
    }
}

impl TcpListener {
    pub(crate) fn bind(scope: &Arc<ScopeInner>, at: SocketAddr) -> io::Result<Self> {
        let space = scope.space();
        let backlog = Arc::new(Backlog { scope: scope.clone(), queue: Mutex::default() });
        let at = space.bind_tcp(at, Server::Stream(backlog.clone()))?;
        let guard = Arc::new(Unbind { backlog: backlog.clone(), space: space.clone(), port: at.port() });
        let weak: Weak<dyn Attachment> = Arc::downgrade(&guard) as Weak<dyn Attachment>;
        let attachment = scope.attach(weak);
        Ok(Self { backlog, space, at, guard, attachment })
    }
}

impl Listener for TcpListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        poll_fn(|context| {
            if self.backlog.scope.is_dead() {
                return Poll::Pending;
            }
            let mut queue = self.backlog.queue();
            if let Some((stream, from)) = queue.waiting.pop_front() {
                let stream: Box<dyn Stream> = Box::new(stream);
                return Poll::Ready(Ok((stream, from)));
            }
            queue.accepting = Some(context.waker().clone());
            Poll::Pending
        })
        .boxed()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.at)
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        let _ = &self.space;
        self.guard.unbind();
        self.backlog.scope.detach(self.attachment);
    }
}
