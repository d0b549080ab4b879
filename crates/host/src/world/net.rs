//! Sockets on tokio.

use std::io;
use std::net::SocketAddr;

use daruma_world::Net;
use daruma_world::net::{Datagrams, Listener, Stream};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

/// The network name space of this process.
pub struct LinuxNet;

impl Net for LinuxNet {
    fn connect(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        async move {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        }
        .boxed()
    }

    fn listen(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        async move { Ok(Box::new(Tcp(bind_tcp(at)?)) as Box<dyn Listener>) }.boxed()
    }

    fn bind_udp(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Datagrams>>> {
        async move { Ok(Box::new(Udp(UdpSocket::bind(at).await?)) as Box<dyn Datagrams>) }.boxed()
    }
}

/// A listening socket that may take over an address in TIME_WAIT.
pub(crate) fn bind_tcp(at: SocketAddr) -> io::Result<TcpListener> {
    bound_tcp(at)?.listen(1024)
}

/// A socket that is bound so and does not listen yet; it needs no runtime and stays in the namespace of its thread.
pub(crate) fn bound_tcp(at: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    Ok(socket)
}

/// A listening socket.
pub(crate) struct Tcp(pub(crate) TcpListener);

impl Listener for Tcp {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        async move {
            let (stream, peer) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Box<dyn Stream>, peer))
        }
        .boxed()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A bound socket.
pub(crate) struct Udp(pub(crate) UdpSocket);

impl Datagrams for Udp {
    fn recv_from<'a>(&'a self, buffer: &'a mut [u8]) -> BoxFuture<'a, io::Result<(usize, SocketAddr)>> {
        self.0.recv_from(buffer).boxed()
    }

    fn send_to<'a>(&'a self, data: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<usize>> {
        self.0.send_to(data, to).boxed()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
