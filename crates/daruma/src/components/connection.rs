//! From a kubeconfig file on this host to a client.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use daruma_client::{Client, RateLimit};
use daruma_cluster::boot::connection;
use daruma_cluster::platform::Platform;
use daruma_world::World;

use crate::platform::RealPlatform;

/// A client of the server that the kubeconfig at `path` names.
pub fn client(world: &World, path: &Path, user_agent: &str, limit: RateLimit) -> Result<Client> {
    let platform: Arc<dyn Platform> = Arc::new(RealPlatform::in_world(world));
    Ok(connection::client(&platform, path, user_agent, limit)?)
}
