//! The surroundings of a component in the virtual world: a process of a machine.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use daruma_client::Transport;
use daruma_client::connection::Handler;
use daruma_cluster::platform::{EngineOptions, Platform, PlatformError, Server, Serving, Target};
use daruma_cluster::shape::API_SERVER_PORT;
use daruma_sim::containers::Process;
use daruma_sim::{Machine, Scope, StoreBackend, Wire};
use daruma_store::embedded::Backend;
use daruma_world::World;
use daruma_world::containers::ContainerRuntime;
use daruma_world::hardware::Hardware;
use daruma_world::links::Links;
use daruma_world::packet_rules::PacketRules;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::connections::{self, WireServer};
use crate::event_log::{EventLog, LoggedBackend};
use crate::gate::Gate;
use crate::interposer::{Interposer, Wrapped};
use crate::invariants::Guard;

/// What all processes of one virtual cluster share.
#[derive(Clone)]
pub struct Surroundings {
    /// Carries requests.
    pub wire: Wire,
    /// Hears of what happens.
    pub log: EventLog,
    /// Watches over it.
    pub guard: Option<Guard>,
    /// Holds components back.
    pub gate: Gate,
    /// Stands between components and what they rely on.
    pub interposer: Option<Arc<dyn Interposer>>,
}

/// One process.
pub struct SimPlatform {
    surroundings: Surroundings,
    machine: Machine,
    scope: Scope,
    world: World,
    process: Option<Arc<Process>>,
}

impl SimPlatform {
    /// A process right on the machine.
    pub fn on_machine(surroundings: &Surroundings, machine: &Machine, scope: &Scope) -> Self {
        Self {
            surroundings: surroundings.clone(),
            machine: machine.clone(),
            scope: scope.clone(),
            world: scope.world(),
            process: None,
        }
    }

    /// The main process of a container: files by way of its mounts, sockets of its pod.
    pub fn in_container(surroundings: &Surroundings, machine: &Machine, process: &Arc<Process>) -> Self {
        Self {
            surroundings: surroundings.clone(),
            machine: machine.clone(),
            scope: process.scope.clone(),
            world: process.world(),
            process: Some(process.clone()),
        }
    }
}

impl Platform for SimPlatform {
    fn world(&self) -> World {
        self.world.clone()
    }

    fn hostname(&self) -> Result<String, PlatformError> {
        Ok(self.machine.name().to_owned())
    }

    fn terminated(&self) -> BoxFuture<'static, ()> {
        match &self.process {
            Some(process) => process.terminated(),
            None => self.scope.termination().boxed(),
        }
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        // Reads of this world take no time, so they are done when they are first asked for.
        let read = self.world.disk.read(path).now_or_never();
        let content = read.unwrap_or_else(|| Err(io::Error::other("the machine is going down")))?;
        String::from_utf8(content).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn bind(&self, at: SocketAddr, serving: &Serving) -> Result<Box<dyn Server>, PlatformError> {
        let client_ca = match serving {
            Serving::Given(identity) => identity.client_ca.clone(),
            Serving::SelfSigned { client_ca, .. } => client_ca.clone(),
        };
        let server = WireServer::bind(&self.surroundings.wire, &self.scope, at, client_ca)
            .map_err(|error| PlatformError::doing(format!("listening on {at}"), error))?;
        let server = Box::new(server);
        match &self.surroundings.interposer {
            Some(interposer) if at.port() == API_SERVER_PORT => Ok(Box::new(Wrapped { server, interposer: interposer.clone() })),
            _ => Ok(server),
        }
    }

    fn serve_plain(&self, at: SocketAddr, handler: Handler) -> BoxFuture<'static, Result<(), PlatformError>> {
        match WireServer::bind(&self.surroundings.wire, &self.scope, at, None) {
            Ok(server) => Box::new(server).serve(handler).map(Ok).boxed(),
            Err(error) => {
                let error = PlatformError::doing(format!("listening on {at}"), error);
                futures::future::ready(Err(error)).boxed()
            }
        }
    }

    fn speaks_tls(&self) -> bool {
        false
    }

    fn transport(&self, target: &Target) -> Result<Arc<dyn Transport>, PlatformError> {
        Ok(connections::transport(&self.surroundings.wire, &self.scope, target))
    }

    fn links(&self) -> Arc<dyn Links> {
        Arc::new(self.machine.links())
    }

    fn packet_rules(&self) -> Arc<dyn PacketRules> {
        Arc::new(self.machine.packet_rules())
    }

    fn store_backend(&self, directory: &Path) -> Result<Arc<dyn Backend>, PlatformError> {
        let file = directory.join("store");
        let place = self.process.as_ref().map_or_else(|| file.clone(), |process| process.path(&file));
        let Surroundings { log, guard, interposer, .. } = &self.surroundings;
        let disk: Arc<dyn Backend> = Arc::new(StoreBackend::open(&self.scope, &place));
        let disk = interposer.as_ref().map_or(disk.clone(), |interposer| interposer.disk(disk));
        let store: Arc<dyn Backend> = Arc::new(LoggedBackend::new(disk, &self.world, log, guard.clone()));
        Ok(interposer.as_ref().map_or(store.clone(), |interposer| interposer.store(store)))
    }

    /// The machine's engine attaches pods itself and has its images from the start.
    fn engine(&self, _: EngineOptions) -> BoxFuture<'static, Result<Arc<dyn ContainerRuntime>, PlatformError>> {
        let engine: Arc<dyn ContainerRuntime> = Arc::new(self.machine.engine());
        futures::future::ready(Ok(engine)).boxed()
    }

    fn hardware(&self) -> Result<Arc<dyn Hardware>, PlatformError> {
        Ok(self.machine.hardware())
    }
}
