//! What a simulated node's kubelet finds at its pods' addresses. Images that a behaviour is known for answer as that
//! says; of all others nobody knows what they would answer, so their probes succeed, as KWOK's pods are Ready.

use std::io;
use std::net::{IpAddr, SocketAddr};

use daruma_sim::behaviour::http::{self, HttpAnswer};
use daruma_sim::containers::SimRuntime;
use daruma_world::World;
use daruma_world::containers::ContainerRuntime;
use daruma_world::net::{Datagrams, Listener, Stream};
use futures::FutureExt;
use futures::future::BoxFuture;

/// Bytes on their way in each direction.
const BUFFER: usize = 4096;

/// The machine's sockets, and an answer of 200 to every HTTP request to a pod of unknown behaviour.
pub struct PodNet {
    world: World,
    engine: SimRuntime,
}

impl PodNet {
    /// In front of the sockets of `world`, whose scope the answering tasks belong to.
    pub fn new(world: &World, engine: SimRuntime) -> Self {
        Self { world: world.clone(), engine }
    }
}

/// Whether `address` is a running pod's, and nothing is known of its images.
async fn is_of_unknown(engine: &SimRuntime, address: IpAddr) -> bool {
    let behaviours = engine.config().behaviours;
    let Ok(sandboxes) = engine.list_sandboxes().await else { return false };
    let Some(sandbox) = sandboxes.iter().find(|sandbox| sandbox.ready && sandbox.addresses.contains(&address)) else {
        return false;
    };
    let Ok((_, containers)) = engine.list_pod(&sandbox.config.uid).await else { return false };
    containers.iter().all(|container| behaviours.of(&container.image_ref).is_none())
}

impl daruma_world::Net for PodNet {
    fn connect(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let (world, engine, opening) = (self.world.clone(), self.engine.clone(), self.world.net.connect(to));
        async move {
            let refused = match opening.await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => error,
                other => return other,
            };
            if !is_of_unknown(&engine, to.ip()).await {
                return Err(refused);
            }
            let (ours, theirs) = tokio::io::duplex(BUFFER);
            let answering = world.clone();
            world.spawn("unknown pod", async move {
                // A client that goes away is its own business.
                let _ = http::serve(&answering, Box::new(theirs), |_| HttpAnswer::default()).await;
            });
            Ok(Box::new(ours) as Box<dyn Stream>)
        }
        .boxed()
    }

    fn listen(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        self.world.net.listen(at)
    }

    fn bind_udp(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Datagrams>>> {
        self.world.net.bind_udp(at)
    }
}
