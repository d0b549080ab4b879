//! What a test puts between components and what they rely on: a disk that forgets, a server that says things twice.
//! That the invariants find such things out is shown with it; and what a controller makes of them.

use std::fmt::Debug;
use std::sync::Arc;

use daruma_client::connection::Handler;
use daruma_cluster::platform::Server;
use daruma_store::embedded::Backend;
use futures::future::BoxFuture;

/// Wraps parts of a virtual cluster as they are made. What is not wrapped stays as it is.
pub trait Interposer: Debug + Send + Sync {
    /// What keeps the store's writes, below the event log: it decides what survives.
    fn disk(&self, disk: Arc<dyn Backend>) -> Arc<dyn Backend> {
        disk
    }

    /// What the store's engine writes to, above the event log and the invariants: it decides what is written.
    fn store(&self, store: Arc<dyn Backend>) -> Arc<dyn Backend> {
        store
    }

    /// What answers requests to the API server.
    fn api_server(&self, handler: Handler) -> Handler {
        handler
    }
}

/// A server whose handler is wrapped once it is there.
pub struct Wrapped {
    /// The server.
    pub server: Box<dyn Server>,
    /// Who wraps.
    pub interposer: Arc<dyn Interposer>,
}

impl Server for Wrapped {
    fn serve(self: Box<Self>, handler: Handler) -> BoxFuture<'static, ()> {
        self.server.serve(self.interposer.api_server(handler))
    }
}
