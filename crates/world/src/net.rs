//! Sockets.

use std::io;
use std::net::SocketAddr;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A machine's transport layer, seen from one network namespace.
pub trait Net: Send + Sync {
    /// Opens a TCP connection. There is no time limit of its own; see [`crate::World::timeout`].
    fn connect(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Stream>>>;

    /// Listens for TCP connections; port 0 asks for a free one.
    fn listen(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;

    /// Binds a UDP socket; port 0 asks for a free one.
    fn bind_udp(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Datagrams>>>;
}

/// A listening TCP socket.
pub trait Listener: Send {
    /// The next connection and its peer.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>>;

    /// The bound address.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A bound UDP socket.
pub trait Datagrams: Send + Sync {
    /// Receives one datagram into `buffer`; gives its length and sender.
    fn recv_from<'a>(&'a self, buffer: &'a mut [u8]) -> BoxFuture<'a, io::Result<(usize, SocketAddr)>>;

    /// Sends one datagram.
    fn send_to<'a>(&'a self, data: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<usize>>;

    /// The bound address.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}
