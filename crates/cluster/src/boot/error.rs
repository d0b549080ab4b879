//! Why a component could not start, or ended.

use std::io;
use std::path::{Path, PathBuf};

use daruma_store::StoreError;

use crate::kubeconfig::KubeconfigError;
use crate::platform::PlatformError;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A file could not be read.
    #[error("reading {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A kubeconfig cannot be used.
    #[error("in {}", path.display())]
    Kubeconfig {
        /// Which.
        path: PathBuf,
        /// Why.
        source: KubeconfigError,
    },
    /// A flag's value cannot be used.
    #[error("{0}")]
    Flag(String),
    /// The platform refused.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The store could not be opened.
    #[error("opening the store")]
    Store(#[source] StoreError),
    /// The name server's sockets are gone.
    #[error("serving names")]
    Names(#[source] io::Error),
    /// The lease was lost: the process ends and is started anew, as the real components do.
    #[error("leader election lost")]
    LeaderLost,
}

impl BootError {
    /// A file that could not be read.
    pub fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Read { path: path.to_owned(), source }
    }
}
