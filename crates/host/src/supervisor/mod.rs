//! The supervisor of a cluster's machines: one small process that holds their power switches.
//!
//! `daruma up` starts it with [`launch`]; it outlives that command and answers on a unix socket until it
//! is told to take everything down. Machines die with their supervisor; the next launch brings the same
//! ones back from their disks.
//!
//! Invariant: one thread. Namespaces are visited and processes cloned by it.

mod beside;
mod client;
mod cluster;
mod faults;
mod journal;
mod launch;
mod protocol;
mod server;

use std::path::{Path, PathBuf};

use daruma_world::machines::MachineError as Refusal;
use serde::{Deserialize, Serialize};

use crate::machine::subnet::Subnet;
use crate::machine::{MachineError, MachineSpec};

pub use client::Client;
pub use launch::{Program, clean, launch};
pub use protocol::{ClusterStatus, Faults, MachineStatus, PressureStatus, ProgramStatus, Reply, Request, State};
pub use server::main;

/// The mode of the binary that becomes a supervisor; its one argument is the path of the configuration.
pub const SUPERVISOR_MODE: &str = "supervisor";

/// What a supervisor is to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SupervisorConfig {
    /// Name of the cluster.
    pub cluster: String,
    /// Directory of all clusters; this one's is below.
    pub root: PathBuf,
    /// The machines, in the order in which they are switched on.
    pub machines: Vec<MachineSpec>,
    /// The machines' addresses, as [`Subnet::choose`] gave them.
    pub subnet: Subnet,
    /// Modes of the binary, with their arguments, that are kept running beside the machines, with a card of
    /// their own at the switch.
    #[serde(default)]
    pub beside: Vec<Vec<String>>,
}

impl SupervisorConfig {
    /// The cluster's files.
    pub fn files(&self) -> Files {
        Files::of(&self.root, &self.cluster)
    }
}

/// Where a cluster keeps its files on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The cluster's directory.
    pub directory: PathBuf,
    /// The supervisor's socket.
    pub socket: PathBuf,
    /// Holds the supervisor's process id, and its lock while it runs.
    pub pid: PathBuf,
    /// What the supervisor and machines' early boot print.
    pub log: PathBuf,
    /// The configuration of the last launch.
    pub config: PathBuf,
    /// What is broken on purpose.
    pub faults: PathBuf,
    /// The machines' directories.
    pub machines: PathBuf,
}

impl Files {
    /// The files of `cluster` below `root`.
    pub fn of(root: &Path, cluster: &str) -> Self {
        let directory = root.join(cluster);
        Self {
            socket: directory.join("supervisor.sock"),
            pid: directory.join("supervisor.pid"),
            log: directory.join("supervisor.log"),
            config: directory.join("supervisor.json"),
            faults: directory.join("faults.json"),
            machines: directory.join("machines"),
            directory,
        }
    }
}

/// The refusal of a machine that does not exist.
fn unknown<'a>(machine: &str, names: impl Iterator<Item = &'a str>) -> SupervisorError {
    let known = names.collect::<Vec<_>>().join(", ");
    SupervisorError::Refused(Refusal::Unknown { name: machine.to_owned(), known })
}

/// A supervisor could not be started or reached, or refused a request.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// Another supervisor of this cluster runs.
    #[error("cluster {cluster} is up already (supervisor process {pid})")]
    UpAlready {
        /// The cluster.
        cluster: String,
        /// The supervisor's process id.
        pid: String,
    },
    /// No supervisor of this cluster runs.
    #[error("cluster {cluster} is not up")]
    NotUp {
        /// The cluster.
        cluster: String,
    },
    /// The supervisor ended before it was ready.
    #[error("the supervisor of cluster {cluster} could not start: {problem}")]
    NotStarted {
        /// The cluster.
        cluster: String,
        /// What it said.
        problem: String,
    },
    /// The supervisor refused a request.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A machine, or what it stands on, failed.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// Talking to the supervisor failed.
    #[error("{doing}: {source}")]
    Talk {
        /// The step.
        doing: String,
        /// The system's answer.
        source: std::io::Error,
    },
}
