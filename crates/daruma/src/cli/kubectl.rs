//! `daruma kubectl`.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};
use clap::Args;

use super::Which;
use super::cluster_directory::ClusterDirectory;

/// Flags of `daruma kubectl`.
#[derive(Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    pub which: Which,
    /// What kubectl is given.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Becomes the kubectl on the PATH, with the cluster's kubeconfig.
pub fn run(flags: &Flags) -> Result<ExitCode> {
    let directory = ClusterDirectory::of(&flags.which);
    directory.existing_shape()?;
    let error = Command::new("kubectl").args(&flags.arguments).env("KUBECONFIG", directory.kubeconfig()).exec();
    if error.kind() == std::io::ErrorKind::NotFound {
        bail!("kubectl is not on the PATH; `daruma doctor` tells how to get it");
    }
    Err(error.into())
}
