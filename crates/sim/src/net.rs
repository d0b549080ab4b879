//! Sockets in memory: TCP between those who share the world. There is no UDP.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daruma_world::Net;
use daruma_world::net::{Datagrams, Listener, Stream};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

/// Connections that may wait to be accepted.
const BACKLOG: usize = 1024;
/// Bytes on their way in each direction of a connection.
const WINDOW: usize = 64 * 1024;
/// First port that the world chooses itself.
const FIRST_FREE_PORT: u16 = 32_768;

/// The network of one world: everybody reaches every listener.
#[derive(Clone, Default)]
pub struct MemoryNet {
    state: Arc<Mutex<State>>,
}

type Connection = (Box<dyn Stream>, SocketAddr);

#[derive(Default)]
struct State {
    listeners: BTreeMap<SocketAddr, mpsc::Sender<Connection>>,
    ports_given: u16,
}

impl State {
    fn free_port(&mut self) -> u16 {
        loop {
            let port = FIRST_FREE_PORT + self.ports_given % (u16::MAX - FIRST_FREE_PORT);
            self.ports_given = self.ports_given.wrapping_add(1);
            if !self.listeners.keys().any(|at| at.port() == port) {
                return port;
            }
        }
    }

    /// Who listens at this very address, or at its port on all addresses.
    fn listener(&self, to: SocketAddr) -> Option<&mpsc::Sender<Connection>> {
        let everywhere = SocketAddr::new(unspecified(to.ip()), to.port());
        self.listeners.get(&to).or_else(|| self.listeners.get(&everywhere))
    }
}

impl MemoryNet {
    /// A network on which nobody listens.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect_now(&self, to: SocketAddr) -> io::Result<Box<dyn Stream>> {
        let mut state = self.state();
        let from = SocketAddr::new(to.ip(), state.free_port());
        let listener = state.listener(to).ok_or_else(|| refused(to))?;
        let (near, far) = tokio::io::duplex(WINDOW);
        listener.try_send((Box::new(far), from)).map_err(|_| refused(to))?;
        Ok(Box::new(near))
    }

    fn listen_now(&self, at: SocketAddr) -> io::Result<Box<dyn Listener>> {
        let mut state = self.state();
        let at = if at.port() == 0 { SocketAddr::new(at.ip(), state.free_port()) } else { at };
        if state.listeners.contains_key(&at) {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("somebody listens at {at} already")));
        }
        let (sender, connections) = mpsc::channel(BACKLOG);
        state.listeners.insert(at, sender);
        Ok(Box::new(MemoryListener { net: self.clone(), at, connections }))
    }
}

impl Net for MemoryNet {
    fn connect(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let net = self.clone();
        async move { net.connect_now(to) }.boxed()
    }

    fn listen(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let net = self.clone();
        async move { net.listen_now(at) }.boxed()
    }

    fn bind_udp(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Datagrams>>> {
        let error = io::Error::new(io::ErrorKind::Unsupported, format!("cannot bind {at}: the virtual world has no UDP"));
        async move { Err(error) }.boxed()
    }
}

fn refused(to: SocketAddr) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionRefused, format!("nobody listens at {to}"))
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

struct MemoryListener {
    net: MemoryNet,
    at: SocketAddr,
    connections: mpsc::Receiver<Connection>,
}

impl Listener for MemoryListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>> {
        async move { self.connections.recv().await.ok_or_else(|| io::Error::other("the listener is closed")) }.boxed()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.at)
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        let sender = self.net.state().listeners.remove(&self.at);
        drop(sender);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn bytes_reach_the_listener_and_a_missing_one_refuses() {
        crate::run(1, |world| async move {
            let mut listener = world.net.listen("0.0.0.0:0".parse().unwrap()).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let at = format!("10.0.0.1:{port}").parse().unwrap();
            let mut near = world.net.connect(at).await.unwrap();
            let (mut far, _) = listener.accept().await.unwrap();
            near.write_all(b"hello").await.unwrap();
            drop(near);
            let mut text = String::new();
            far.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "hello");
            drop(listener);
            let error = world.net.connect(at).await.err().unwrap();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
            assert!(world.net.bind_udp(at).await.is_err());
        });
    }
}
