//! `daruma down`.

use std::fs;

use anyhow::{Context, Result};
use clap::Args;
use daruma_host::supervisor::{self, Client, Request, SupervisorError};

use super::Which;
use super::cluster_directory::ClusterDirectory;

/// Flags of `daruma down`.
#[derive(Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    which: Which,
    /// Keep the machines' disks, so that `daruma up` brings the same cluster back.
    #[arg(long)]
    keep_disks: bool,
}

/// Ends the cluster; one that is not there is fine.
pub fn run(flags: &Flags) -> Result<()> {
    let Which { name, root } = &flags.which;
    let directory = ClusterDirectory::of(&flags.which);
    let existed = directory.path().exists();
    match Client::connect(root, name) {
        Ok(mut client) => {
            client.ask(&Request::Down { keep_disks: flags.keep_disks })?;
        }
        Err(SupervisorError::NotUp { .. }) => supervisor::clean(root, name, !flags.keep_disks)?,
        Err(error) => return Err(error.into()),
    }
    if !flags.keep_disks && directory.path().exists() {
        fs::remove_dir_all(directory.path()).with_context(|| format!("removing {}", directory.path().display()))?;
    }
    println!("{}", if existed { format!("cluster {name:?} is down") } else { format!("there is no cluster {name:?}") });
    Ok(())
}
