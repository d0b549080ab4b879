//! The surroundings of a component on Linux: this process, this machine.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use daruma_client::Transport;
use daruma_client::connection::{Handler, ServerIdentity};
use daruma_cluster::pki;
use daruma_cluster::platform::{EngineOptions, Platform, PlatformError, Server, Serving, Target};
use daruma_host::hardware::MachineHardware;
use daruma_host::https::{HttpsServer, HttpsTransport, serve_http};
use daruma_host::links::LinuxLinks;
use daruma_host::packet_rules::NfTables;
use daruma_runtime::images::registry::{Settings as RegistrySettings, hosts};
use daruma_runtime::{EmbeddedEngine, EngineConfig};
use daruma_store::embedded::{Backend, RedbBackend};
use daruma_world::World;
use daruma_world::containers::ContainerRuntime;
use daruma_world::hardware::Hardware;
use daruma_world::links::Links;
use daruma_world::packet_rules::PacketRules;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::components::image_socket;

/// The real world of this process.
#[derive(Clone)]
pub struct RealPlatform {
    world: World,
}

impl RealPlatform {
    /// With a world of its own.
    pub fn new() -> Self {
        Self { world: daruma_host::world::real() }
    }

    /// In a world that is there already.
    pub fn in_world(world: &World) -> Self {
        Self { world: world.clone() }
    }
}

/// [`HttpsServer`] as the platform's server.
struct Https(HttpsServer);

impl Server for Https {
    fn serve(self: Box<Self>, handler: Handler) -> BoxFuture<'static, ()> {
        self.0.serve(handler).boxed()
    }
}

/// The error says all by itself.
fn refused(error: impl std::fmt::Display) -> PlatformError {
    PlatformError::new(error.to_string())
}

impl Platform for RealPlatform {
    fn world(&self) -> World {
        self.world.clone()
    }

    fn hostname(&self) -> Result<String, PlatformError> {
        let name = nix::unistd::gethostname().map_err(|error| PlatformError::doing("asking for the host name", error))?;
        Ok(name.to_string_lossy().into_owned())
    }

    /// SIGTERM or SIGINT.
    fn terminated(&self) -> BoxFuture<'static, ()> {
        async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
            else {
                return std::future::pending().await;
            };
            tokio::select! {
                biased;
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        .boxed()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        fs::read_to_string(path)
    }

    fn bind(&self, at: SocketAddr, serving: &Serving) -> Result<Box<dyn Server>, PlatformError> {
        let server = match serving {
            Serving::Given(identity) => HttpsServer::bind(at, identity),
            Serving::SelfSigned { name, addresses, client_ca } => {
                let pair = pki::self_signed(&self.world, name, addresses).map_err(refused)?;
                let identity = ServerIdentity { certificate: pair.certificate, key: pair.key, client_ca: client_ca.clone() };
                HttpsServer::bind(at, &identity)
            }
        };
        Ok(Box::new(Https(server.map_err(refused)?)))
    }

    fn serve_plain(&self, at: SocketAddr, handler: Handler) -> BoxFuture<'static, Result<(), PlatformError>> {
        serve_http(at, handler).map(|ended| ended.map_err(refused)).boxed()
    }

    fn transport(&self, target: &Target) -> Result<Arc<dyn Transport>, PlatformError> {
        let Target { host, port, tls, upgrades } = target;
        let transport = match tls {
            None => HttpsTransport::plain(host, *port),
            Some(tls) => {
                let name = tls.server_name.as_deref().unwrap_or(host);
                HttpsTransport::named(host, *port, name, &tls.trust, &tls.identity, *upgrades)
            }
        };
        Ok(Arc::new(transport.map_err(refused)?))
    }

    fn links(&self) -> Arc<dyn Links> {
        Arc::new(LinuxLinks::new())
    }

    fn packet_rules(&self) -> Arc<dyn PacketRules> {
        Arc::new(NfTables::new())
    }

    fn store_backend(&self, directory: &Path) -> Result<Arc<dyn Backend>, PlatformError> {
        fs::create_dir_all(directory).map_err(|error| PlatformError::doing(format!("making {}", directory.display()), error))?;
        let backend =
            RedbBackend::open(directory.join("store.redb")).map_err(|error| PlatformError::doing("opening the store", error))?;
        Ok(Arc::new(backend))
    }

    fn engine(&self, options: EngineOptions) -> BoxFuture<'static, Result<Arc<dyn ContainerRuntime>, PlatformError>> {
        let world = self.world.clone();
        async move {
            let config = EngineConfig {
                root: "/var/lib/daruma/engine".into(),
                run_dir: "/run/daruma/engine".into(),
                shim_exe: "/proc/self/exe".into(),
                network: options.network,
                builtin_images: options.builtin_images,
                cgroup_mount: "/sys/fs/cgroup".into(),
                cgroup_root: String::new(),
                min_oom_score_adj: None,
                registries: RegistrySettings { certs_dir: hosts::CERTS_DIR.into(), ca_file: None },
            };
            let engine = EmbeddedEngine::open(&world, config)
                .await
                .map_err(|error| PlatformError::doing("opening the container engine", error))?;
            let engine = Arc::new(engine);
            let images = engine.clone();
            world.spawn("images", async move {
                if let Err(error) = image_socket::serve(images).await {
                    tracing::error!("images cannot be loaded: {error:#}");
                }
            });
            Ok(engine as Arc<dyn ContainerRuntime>)
        }
        .boxed()
    }

    fn hardware(&self) -> Result<Arc<dyn Hardware>, PlatformError> {
        let hardware = MachineHardware::read().map_err(|error| PlatformError::doing("reading the machine's facts", error))?;
        Ok(Arc::new(hardware))
    }
}
