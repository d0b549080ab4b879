//! One drill at a time on one cluster.

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Held for as long as a drill is played; the kernel lets go of it when the process dies.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "its drop lets go")] File);

impl Lock {
    /// Takes the lock of the cluster in `directory`.
    ///
    /// # Errors
    /// Another drill holds it.
    pub fn take(directory: &Path) -> Result<Self> {
        let path = directory.join("drill.lock");
        let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => bail!("another drill is being played on this cluster"),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {}", path.display())),
        }
    }
}
