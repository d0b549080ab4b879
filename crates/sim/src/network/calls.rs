//! [`Net`] for a scope.

use std::io;
use std::net::SocketAddr;

use daruma_world::Net;
use daruma_world::net::{Datagrams, Listener, Stream};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::tcp::{TcpListener, open_stream};
use super::udp::UdpSocket;
use crate::handle::Handle;

impl Net for Handle {
    fn connect(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let opening = open_stream(self.scope.clone(), to, http::Extensions::new());
        async move {
            let stream: Box<dyn Stream> = Box::new(opening.await?);
            Ok(stream)
        }
        .boxed()
    }

    fn listen(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let scope = self.scope.clone();
        async move {
            if scope.is_dead() {
                return std::future::pending().await;
            }
            let listener: Box<dyn Listener> = Box::new(TcpListener::bind(&scope, at)?);
            Ok(listener)
        }
        .boxed()
    }

    fn bind_udp(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Datagrams>>> {
        let scope = self.scope.clone();
        async move {
            if scope.is_dead() {
                return std::future::pending().await;
            }
            let socket: Box<dyn Datagrams> = Box::new(UdpSocket::bind(&scope, at)?);
            Ok(socket)
        }
        .boxed()
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
        });
    }
}
