//! From a kubeconfig file to a client.

use std::path::Path;
use std::sync::Arc;

use daruma_client::connection::{ClientIdentity, TlsTrust};
use daruma_client::{Client, RateLimit, Transport};

use super::BootError;
use crate::kubeconfig::{self, Kubeconfig, Source, User};
use crate::platform::{ClientTls, Platform, Target};

/// Reads a small file.
pub fn read(platform: &dyn Platform, path: &Path) -> Result<String, BootError> {
    platform.read(path).map_err(BootError::reading(path))
}

/// Reads the kubeconfig at `path`.
pub fn load(platform: &dyn Platform, path: &Path) -> Result<Kubeconfig, BootError> {
    let text = read(platform, path)?;
    kubeconfig::parse(&text).map_err(|source| BootError::Kubeconfig { path: path.to_owned(), source })
}

/// A transport to the server of a kubeconfig; with `upgrades` for exec and its like.
pub fn transport(platform: &Arc<dyn Platform>, config: &Kubeconfig, upgrades: bool) -> Result<Arc<dyn Transport>, BootError> {
    let trust = TlsTrust::Ca(resolve(&**platform, &config.authority)?);
    let tls = Some(ClientTls { server_name: None, trust, identity: identity(platform, &config.user)? });
    Ok(platform.transport(&Target { host: config.host.clone(), port: config.port, tls, upgrades })?)
}

/// A client of the server that the kubeconfig at `path` names.
pub fn client(platform: &Arc<dyn Platform>, path: &Path, user_agent: &str, limit: RateLimit) -> Result<Client, BootError> {
    let transport = transport(platform, &load(&**platform, path)?, false)?;
    Ok(Client::new(&platform.world(), transport, user_agent, limit))
}

/// How the user of a kubeconfig proves who it is.
pub fn identity(platform: &Arc<dyn Platform>, user: &User) -> Result<ClientIdentity, BootError> {
    Ok(match user {
        User::Anonymous => ClientIdentity::Anonymous,
        User::Certificate { certificate, key } => {
            ClientIdentity::Certificate { certificate: resolve(&**platform, certificate)?, key: resolve(&**platform, key)? }
        }
        User::Token(Source::Inline(token)) => {
            let token = token.clone();
            ClientIdentity::Token(Arc::new(move || Some(token.clone())))
        }
        // Tokens are renewed in their file.
        User::Token(Source::File(path)) => {
            let (platform, path) = (platform.clone(), path.clone());
            ClientIdentity::Token(Arc::new(move || platform.read(Path::new(&path)).ok()))
        }
    })
}

fn resolve(platform: &dyn Platform, source: &Source) -> Result<String, BootError> {
    match source {
        Source::Inline(text) => Ok(text.clone()),
        Source::File(path) => read(platform, Path::new(path)),
    }
}
