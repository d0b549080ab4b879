//! The embedded store's backend on a machine's disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use daruma_store::embedded::{Backend, BackendError, Batch, Loaded};

use crate::scope::{Scope, ScopeInner};

/// Keeps a store's changes on the disk of a scope's machine. The content belongs to the disk: it
/// outlives the process and the power, but for what was not yet acknowledged.
///
/// Commits are made by `World::blocking` of the same scope, which takes the time that the disk needs (and
/// what a slow disk adds); in a dead scope nothing is committed.
pub struct StoreBackend {
    scope: Arc<ScopeInner>,
    path: PathBuf,
}

impl StoreBackend {
    /// The store at `path`; an empty one where there is none.
    pub fn open(scope: &Scope, path: &Path) -> Self {
        Self { scope: scope.inner.clone(), path: path.to_owned() }
    }

    fn lives(&self, what: &'static str) -> Result<(), BackendError> {
        if self.scope.is_dead() { Err(BackendError { what, why: "the process has ended".into() }) } else { Ok(()) }
    }
}

impl Backend for StoreBackend {
    fn load(&self) -> Result<Loaded, BackendError> {
        self.lives("load")?;
        Ok(self.scope.place.disk.load_store(&self.path))
    }

    fn commit(&self, batch: &Batch) -> Result<(), BackendError> {
        self.lives("commit")?;
        self.scope.place.disk.commit_store(&self.path, batch, self.scope.core.now_ns())
    }

    fn revision(&self) -> Result<u64, BackendError> {
        self.lives("read the revision")?;
        Ok(self.scope.place.disk.store_revision(&self.path))
    }
}
