//! The surroundings of a simulated node's kubelet: a process of a machine of the universe, whose API server is real.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use daruma_client::connection::{Handler, Peer};
use daruma_client::{Body, Transport};
use daruma_cluster::platform::{EngineOptions, Platform, PlatformError, Server, Serving, Target};
use daruma_sim::{Machine, PeerAddress, Scope, Wire};
use daruma_store::embedded::Backend;
use daruma_world::World;
use daruma_world::containers::ContainerRuntime;
use daruma_world::hardware::Hardware;
use daruma_world::links::Links;
use daruma_world::packet_rules::PacketRules;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Request;

use super::gateway::Outward;
use super::pod_net::PodNet;
use crate::platform::RealPlatform;

/// Who the caller of a kubelet is, as the real HTTPS server has verified it; in a request's extensions.
#[derive(Debug, Clone)]
pub struct Shown(pub Peer);

/// One kubelet's process.
pub struct HollowPlatform {
    real: RealPlatform,
    wire: Wire,
    machine: Machine,
    scope: Scope,
    world: World,
    /// A kubelet talks to one server, as one user.
    api_server: Mutex<Option<Arc<dyn Transport>>>,
}

impl HollowPlatform {
    /// The process whose scope is `scope`.
    pub fn new(real: &RealPlatform, wire: &Wire, machine: &Machine, scope: &Scope) -> Self {
        let plain = scope.world();
        let net = PodNet::new(&plain, machine.engine());
        let world = World { net: Arc::new(net), ..plain };
        let (machine, scope) = (machine.clone(), scope.clone());
        Self { real: real.clone(), wire: wire.clone(), machine, scope, world, api_server: Mutex::default() }
    }
}

/// A server of the wire; it listens when it serves.
struct WireServer {
    wire: Wire,
    scope: Scope,
    at: SocketAddr,
}

impl Server for WireServer {
    fn serve(self: Box<Self>, handler: Handler) -> BoxFuture<'static, ()> {
        let answer = move |mut request: Request<Body>| {
            let shown = request.extensions_mut().remove::<Shown>();
            let peer = shown.map_or_else(|| unknown(&request), |Shown(peer)| peer);
            handler(request, &peer)
        };
        async move {
            if let Err(error) = self.wire.serve(&self.scope, self.at, Arc::new(answer)) {
                tracing::error!(at = %self.at, %error, "cannot listen");
            }
            futures::future::pending::<()>().await;
        }
        .boxed()
    }
}

fn unknown(request: &Request<Body>) -> Peer {
    let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let address = request.extensions().get::<PeerAddress>().map_or(nowhere, |peer| peer.0);
    Peer { address, certificate: None }
}

impl Platform for HollowPlatform {
    fn world(&self) -> World {
        self.world.clone()
    }

    fn hostname(&self) -> Result<String, PlatformError> {
        Ok(self.machine.name().to_owned())
    }

    fn terminated(&self) -> BoxFuture<'static, ()> {
        self.scope.termination().boxed()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        // Reads of a universe take no time, so they are done when they are first asked for.
        let read = self.world.disk.read(path).now_or_never();
        let content = read.unwrap_or_else(|| Err(io::Error::other("the machine is going down")))?;
        String::from_utf8(content).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// The real server in front has done the TLS part already.
    fn bind(&self, at: SocketAddr, _: &Serving) -> Result<Box<dyn Server>, PlatformError> {
        Ok(Box::new(WireServer { wire: self.wire.clone(), scope: self.scope.clone(), at }))
    }

    fn serve_plain(&self, at: SocketAddr, handler: Handler) -> BoxFuture<'static, Result<(), PlatformError>> {
        let server = Box::new(WireServer { wire: self.wire.clone(), scope: self.scope.clone(), at });
        server.serve(handler).map(Ok).boxed()
    }

    fn speaks_tls(&self) -> bool {
        false
    }

    fn transport(&self, target: &Target) -> Result<Arc<dyn Transport>, PlatformError> {
        let mut kept = self.api_server.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transport) = &*kept {
            return Ok(transport.clone());
        }
        let through = self.real.transport(target)?;
        let outward: Arc<dyn Transport> = Arc::new(Outward::new(&self.wire, &self.scope, &target.host, target.port, through));
        *kept = Some(outward.clone());
        Ok(outward)
    }

    fn links(&self) -> Arc<dyn Links> {
        Arc::new(self.machine.links())
    }

    fn packet_rules(&self) -> Arc<dyn PacketRules> {
        Arc::new(self.machine.packet_rules())
    }

    fn store_backend(&self, _: &Path) -> Result<Arc<dyn Backend>, PlatformError> {
        Err(PlatformError::new("a simulated node keeps no store"))
    }

    /// The machine's engine attaches pods itself.
    fn engine(&self, _: EngineOptions) -> BoxFuture<'static, Result<Arc<dyn ContainerRuntime>, PlatformError>> {
        let engine: Arc<dyn ContainerRuntime> = Arc::new(self.machine.engine());
        futures::future::ready(Ok(engine)).boxed()
    }

    fn hardware(&self) -> Result<Arc<dyn Hardware>, PlatformError> {
        Ok(self.machine.hardware())
    }
}
