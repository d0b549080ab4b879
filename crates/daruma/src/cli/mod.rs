//! The command line: one file a verb.

pub mod cluster_directory;
mod cluster_machines;
mod doctor;
mod down;
mod drill;
mod image;
mod kubeconfig;
mod kubectl;
mod logs;
mod node;
mod sim;
mod sizes;
mod status;
mod up;
mod up_machines;
mod up_simulated;
mod up_wait;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::components;

/// A Kubernetes cluster on one Linux machine, made for knocking over.
#[derive(Debug, Parser)]
#[command(name = "daruma", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Which cluster a command is about.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// Name of the cluster; several can run side by side.
    #[arg(long, env = "DARUMA_NAME", default_value = "daruma", global = true)]
    name: String,
    /// Directory that holds all clusters.
    #[arg(long, env = "DARUMA_ROOT", default_value = "/var/lib/daruma", global = true)]
    root: PathBuf,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "made once")]
enum Command {
    /// Start a cluster, or bring one back from its disks.
    Up(up::Flags),
    /// End a cluster and remove all that it left on this machine.
    Down(down::Flags),
    /// Show machines and nodes.
    Status(status::Flags),
    /// Print the kubeconfig.
    Kubeconfig(Which),
    /// Run kubectl against the cluster.
    Kubectl(kubectl::Flags),
    /// The machines' power switches and cables.
    Node(node::Flags),
    /// Images of the cluster's machines.
    Image(image::Flags),
    /// Print the log of a component (kube-apiserver, coredns …) or of a node's kubelet.
    Logs(logs::Flags),
    /// The virtual world: simulated clusters under a clock that can be turned.
    Sim(sim::Flags),
    /// Bad days as files: played, timed, checked, reported.
    Drill(drill::Flags),
    /// Tell what this host lacks and how to get it.
    Doctor(doctor::Flags),

    /// The simulated nodes of a cluster. Their process runs beside the machines; people do not start it by hand.
    #[command(name = "hollow-nodes", hide = true)]
    HollowNodes(components::hollow_nodes::Flags),

    #[command(flatten)]
    Component(components::Component),
}

/// Parses the command line and runs the command. Exit codes: 0 done, 1 failed, 2 wrong usage.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    if let Command::Status(status::Flags { which, .. })
    | Command::Node(node::Flags { which, .. })
    | Command::Kubectl(kubectl::Flags { which, .. }) = &command
    {
        drill::mend(which)?;
    }
    match command {
        Command::Up(flags) => up::run(&flags)?,
        Command::Down(flags) => down::run(&flags)?,
        Command::Status(flags) => status::run(&flags)?,
        Command::Kubeconfig(which) => kubeconfig::run(&which)?,
        Command::Kubectl(flags) => return kubectl::run(&flags),
        Command::Node(flags) => node::run(&flags)?,
        Command::Image(flags) => image::run(&flags)?,
        Command::Logs(flags) => logs::run(&flags)?,
        Command::Sim(flags) => return sim::run(&flags),
        Command::Drill(flags) => return drill::run(&flags),
        Command::Doctor(flags) => return doctor::run(&flags),
        Command::HollowNodes(flags) => components::hollow_nodes::run(&flags)?,
        Command::Component(component) => components::run(component)?,
    }
    Ok(ExitCode::SUCCESS)
}
