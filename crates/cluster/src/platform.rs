//! What a component needs beyond its [`World`] to run as a process of a machine: servers, transports,
//! the kernel's network, a store, a container engine.
//!
//! The binary implements it on Linux, the rehearsal in the virtual world; [`crate::boot`] composes
//! every component on it. Invariant: nothing here or in `boot` knows which of the two it is.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daruma_client::Transport;
use daruma_client::connection::{ClientIdentity, Handler, ServerIdentity, TlsTrust};
use daruma_store::embedded::Backend;
use daruma_world::World;
use daruma_world::containers::{ContainerRuntime, SandboxNetwork};
use daruma_world::hardware::Hardware;
use daruma_world::links::Links;
use daruma_world::packet_rules::PacketRules;
use futures::future::BoxFuture;

/// Why the platform could not give what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct PlatformError {
    doing: String,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl PlatformError {
    /// An error that says all by itself.
    pub fn new(what: impl Into<String>) -> Self {
        Self { doing: what.into(), source: None }
    }

    /// What was being done, and why it failed.
    pub fn doing(what: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { doing: what.into(), source: Some(source.into()) }
    }
}

/// What an HTTPS server shows.
#[derive(Debug, Clone)]
pub enum Serving {
    /// What it was given.
    Given(ServerIdentity),
    /// A certificate made on the spot, as components do for their own ports.
    SelfSigned {
        /// Host name in it.
        name: String,
        /// Addresses in it.
        addresses: Vec<IpAddr>,
        /// Authorities (PEM) of client certificates; `None` asks for none.
        client_ca: Option<String>,
    },
}

/// Where a transport leads.
#[derive(Clone)]
pub struct Target {
    /// Address or name.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How TLS is spoken; plain HTTP where `None`.
    pub tls: Option<ClientTls>,
    /// Whether requests may become other protocols (HTTP/1.1 upgrades).
    pub upgrades: bool,
}

/// The client's part of TLS.
#[derive(Clone)]
pub struct ClientTls {
    /// Name that the server's certificate must show; the target's host where `None`.
    pub server_name: Option<String>,
    /// Whose certificates are believed.
    pub trust: TlsTrust,
    /// Who is calling.
    pub identity: ClientIdentity,
}

/// A bound HTTPS server.
pub trait Server: Send {
    /// Serves for as long as the future is polled.
    fn serve(self: Box<Self>, handler: Handler) -> BoxFuture<'static, ()>;
}

/// What the node agent asks of its container engine at the start.
pub struct EngineOptions {
    /// Gives sandboxes their network.
    pub network: Arc<dyn SandboxNetwork>,
    /// Where images that come with the program are.
    pub builtin_images: Option<PathBuf>,
}

/// The surroundings of one process on one machine.
pub trait Platform: Send + Sync {
    /// Clock, chance, tasks, disk and sockets.
    fn world(&self) -> World;
    /// Name of the machine.
    fn hostname(&self) -> Result<String, PlatformError>;
    /// Completes when the process is asked to end (SIGTERM).
    fn terminated(&self) -> BoxFuture<'static, ()>;
    /// Reads a small text file as this process sees it: settings at the start, tokens that are renewed in their file.
    fn read(&self, path: &Path) -> io::Result<String>;
    /// Binds an HTTPS server. Clients may show a certificate, but need not.
    fn bind(&self, at: SocketAddr, serving: &Serving) -> Result<Box<dyn Server>, PlatformError>;
    /// Serves plain HTTP for as long as the future is polled; completes when the address cannot be had.
    fn serve_plain(&self, at: SocketAddr, handler: Handler) -> BoxFuture<'static, Result<(), PlatformError>>;
    /// Whether HTTPS servers of this world must be spoken to in TLS by those who hold a bare socket (probes).
    fn speaks_tls(&self) -> bool {
        true
    }
    /// A transport to one server. Connects at the first request, and again whenever the connection is lost.
    fn transport(&self, target: &Target) -> Result<Arc<dyn Transport>, PlatformError>;
    /// Network cards, addresses and routes.
    fn links(&self) -> Arc<dyn Links>;
    /// Packet rules.
    fn packet_rules(&self) -> Arc<dyn PacketRules>;
    /// The embedded store in `directory`, which is made where missing.
    fn store_backend(&self, directory: &Path) -> Result<Arc<dyn Backend>, PlatformError>;
    /// The machine's container engine.
    fn engine(&self, options: EngineOptions) -> BoxFuture<'static, Result<Arc<dyn ContainerRuntime>, PlatformError>>;
    /// The machine.
    fn hardware(&self) -> Result<Arc<dyn Hardware>, PlatformError>;
}
