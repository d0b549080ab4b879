//! What clients and the supervisor say to each other: one JSON document a line, one reply a request.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::machine::subnet::Subnet;
use crate::machine::switch::Direction;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Request {
    /// Tell how the machines are.
    List,
    /// Switch a machine on.
    On {
        /// The machine.
        machine: String,
    },
    /// Cut a machine's power.
    Off {
        /// The machine.
        machine: String,
    },
    /// Cut a machine's power and switch it on after its boot time.
    Reset {
        /// The machine.
        machine: String,
    },
    /// Ask a machine to power itself off.
    Shutdown {
        /// The machine.
        machine: String,
    },
    /// Ask a machine to end gracefully and start again.
    Reboot {
        /// The machine.
        machine: String,
    },
    /// Stop a machine where it is, with its link down.
    Hang {
        /// The machine.
        machine: String,
    },
    /// Let a hung machine go on.
    Resume {
        /// The machine.
        machine: String,
    },
    /// Cut a machine's link.
    Cut {
        /// The machine.
        machine: String,
        /// Which way.
        direction: Direction,
    },
    /// Mend a machine's link.
    Mend {
        /// The machine.
        machine: String,
    },
    /// Take everything down and end.
    Down {
        /// Keep the disks, and let what was written reach them.
        keep_disks: bool,
    },
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Done; this is how things are now.
    Done(ClusterStatus),
    /// Not done, and why.
    Error(String),
}

/// How a cluster's machines are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster.
    pub cluster: String,
    /// The supervisor's process id.
    pub supervisor_pid: u32,
    /// The machines' addresses.
    pub subnet: Subnet,
    /// The host's end of the link to the switch.
    pub uplink: String,
    /// The switch's network namespace, as a path that can be opened while the supervisor runs.
    pub switch_namespace: String,
    /// The machines, in the order of the configuration.
    pub machines: Vec<MachineStatus>,
}

impl ClusterStatus {
    /// The machine `name`.
    pub fn machine(&self, name: &str) -> Option<&MachineStatus> {
        self.machines.iter().find(|machine| machine.name == name)
    }
}

/// Whether a machine is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// No power.
    Off,
    /// No power, but it comes back by itself when its boot time has passed.
    Restarting,
    /// Its PID 1 makes it ready.
    Booting,
    /// Its command runs.
    Running,
    /// It was asked to end.
    Stopping,
    /// Frozen.
    Hung,
}

impl std::fmt::Display for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Off => "off",
            Self::Restarting => "restarting",
            Self::Booting => "booting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Hung => "hung",
        })
    }
}

/// How a machine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// Its name.
    pub name: String,
    /// Whether it is on.
    pub state: State,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its boot id, when it is on.
    pub boot_id: Option<String>,
    /// Its PID 1 as the host numbers it, when it is on.
    pub pid: Option<i32>,
    /// Which way its link is cut.
    pub cut: Option<Direction>,
    /// Why it went off the last time, or could not start.
    pub last_end: Option<String>,
}

impl MachineStatus {
    /// A file of the machine, as the host can open it while the machine is on.
    pub fn file(&self, path: &Path) -> Option<PathBuf> {
        let root = PathBuf::from(format!("/proc/{}/root", self.pid?));
        Some(root.join(path.strip_prefix("/").unwrap_or(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_as_written_by_hand() {
        let check = |line: &str, request: Request| assert_eq!(serde_json::from_str::<Request>(line).unwrap(), request);
        check(r#"{"verb":"list"}"#, Request::List);
        check(r#"{"verb":"off","machine":"worker-0"}"#, Request::Off { machine: "worker-0".to_owned() });
        check(
            r#"{"verb":"cut","machine":"worker-0","direction":"in"}"#,
            Request::Cut { machine: "worker-0".to_owned(), direction: Direction::In },
        );
        assert!(serde_json::from_str::<Request>(r#"{"verb":"explode"}"#).is_err());
    }
}
