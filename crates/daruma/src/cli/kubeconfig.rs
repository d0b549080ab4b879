//! `daruma kubeconfig`.

use std::fs;

use anyhow::{Context, Result};

use super::Which;
use super::cluster_directory::ClusterDirectory;

/// Prints the administrator's kubeconfig.
pub fn run(which: &Which) -> Result<()> {
    let directory = ClusterDirectory::of(which);
    directory.existing_shape()?;
    let path = directory.kubeconfig();
    print!("{}", fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?);
    Ok(())
}
