//! From a kubeconfig file to a client.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use daruma_client::{Client, RateLimit, Transport};
use daruma_cluster::kubeconfig::{self, Kubeconfig, Source, User};
use daruma_host::https::{ClientIdentity, HttpsTransport, TlsTrust};
use daruma_world::World;

/// Reads the kubeconfig at `path`.
pub fn load(path: &Path) -> Result<Kubeconfig> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    kubeconfig::parse(&text).with_context(|| format!("in {}", path.display()))
}

/// A transport to the server of a kubeconfig; with `upgrades` for exec and its like.
pub fn transport(config: &Kubeconfig, upgrades: bool) -> Result<Arc<dyn Transport>> {
    let trust = TlsTrust::Ca(resolve(&config.authority)?);
    let transport = HttpsTransport::new(&config.host, config.port, &trust, &identity(&config.user)?, upgrades)?;
    Ok(Arc::new(transport))
}

/// A client of the server that the kubeconfig at `path` names.
pub fn client(world: &World, path: &Path, user_agent: &str, limit: RateLimit) -> Result<Client> {
    Ok(Client::new(world, transport(&load(path)?, false)?, user_agent, limit))
}

/// How the user of a kubeconfig proves who it is.
pub fn identity(user: &User) -> Result<ClientIdentity> {
    Ok(match user {
        User::Anonymous => ClientIdentity::Anonymous,
        User::Certificate { certificate, key } => {
            ClientIdentity::Certificate { certificate: resolve(certificate)?, key: resolve(key)? }
        }
        User::Token(Source::Inline(token)) => {
            let token = token.clone();
            ClientIdentity::Token(Arc::new(move || Some(token.clone())))
        }
        // Tokens are renewed in their file.
        User::Token(Source::File(path)) => {
            let path = path.clone();
            ClientIdentity::Token(Arc::new(move || fs::read_to_string(&path).ok()))
        }
    })
}

fn resolve(source: &Source) -> Result<String> {
    match source {
        Source::Inline(text) => Ok(text.clone()),
        Source::File(path) => fs::read_to_string(path).with_context(|| format!("reading {path}")),
    }
}
