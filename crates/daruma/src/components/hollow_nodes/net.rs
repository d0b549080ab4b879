//! What a simulated node's kubelet finds at its pods' addresses: the kubelet probes running containers only, and what
//! runs answers.

use std::io;
use std::net::SocketAddr;

use daruma_sim::behaviour::http::{self, HttpAnswer};
use daruma_world::net::{Datagrams, Listener, Stream};
use daruma_world::{Net, World};
use futures::FutureExt;
use futures::future::BoxFuture;

/// Bytes on their way in each direction.
const BUFFER: usize = 4096;

/// Every connection opens, and every HTTP request is answered with 200. Nothing leaves the process.
pub struct PodNet {
    world: World,
}

impl PodNet {
    /// The connections' tasks run in `world`.
    pub fn new(world: &World) -> Self {
        Self { world: world.clone() }
    }
}

fn unsupported<T: Send + 'static>() -> BoxFuture<'static, io::Result<T>> {
    let error = io::Error::new(io::ErrorKind::Unsupported, "a simulated node has no sockets");
    std::future::ready(Err(error)).boxed()
}

impl Net for PodNet {
    fn connect(&self, _to: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let world = self.world.clone();
        self.world.spawn("pod", async move {
            // A client that goes away is its own business.
            let _ = http::serve(&world, Box::new(theirs), |_| HttpAnswer::default()).await;
        });
        std::future::ready(Ok(Box::new(ours) as Box<dyn Stream>)).boxed()
    }

    fn listen(&self, _at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        unsupported()
    }

    fn bind_udp(&self, _at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Datagrams>>> {
        unsupported()
    }
}
