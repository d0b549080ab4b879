//! Sockets in the network namespace of a machine, opened by a process outside of it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use daruma_world::Net;
use daruma_world::net::{Datagrams, Listener, Stream};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::{TcpSocket, UdpSocket};

use super::{SupervisedMachines, blocking};
use crate::netlink::namespace::run_inside;
use crate::world::{Tcp, Udp, bound_tcp};

/// Sockets of one machine. Each call asks anew where the machine is, which changes with every boot.
pub(super) struct MachineNet {
    machines: SupervisedMachines,
    name: String,
}

impl MachineNet {
    pub(super) fn new(machines: SupervisedMachines, name: &str) -> Self {
        Self { machines, name: name.to_owned() }
    }

    /// Runs `work` inside the machine's network namespace: a socket stays where it was made.
    fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, io::Result<T>> {
        let (machines, name) = (self.machines.clone(), self.name.clone());
        async move {
            let pid = blocking(move || {
                let status = machines.client()?.status()?;
                let pid = status.machine(&name).and_then(|machine| machine.pid);
                Ok(pid.ok_or_else(|| io::Error::new(io::ErrorKind::NetworkDown, format!("{name} is off"))))
            });
            let pid = pid.await.map_err(io::Error::other)??;
            run_inside(Some(PathBuf::from(format!("/proc/{pid}/ns/net"))), work).await
        }
        .boxed()
    }
}

impl Net for MachineNet {
    fn connect(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let made = self.inside(move || if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() });
        async move {
            let stream = made.await?.connect(to).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        }
        .boxed()
    }

    fn listen(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let made = self.inside(move || bound_tcp(at));
        async move { Ok(Box::new(Tcp(made.await?.listen(1024)?)) as Box<dyn Listener>) }.boxed()
    }

    fn bind_udp(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Datagrams>>> {
        let made = self.inside(move || {
            let socket = std::net::UdpSocket::bind(at)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        async move { Ok(Box::new(Udp(UdpSocket::from_std(made.await?)?)) as Box<dyn Datagrams>) }.boxed()
    }
}
