//! What clients and the supervisor say to each other: one JSON document a line, one reply a request.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use daruma_world::machines::{LinkFault, MachineError as Refusal, Pressure, PressureId, Program, Signal};
use serde::{Deserialize, Serialize};

use crate::machine::MachineSpec;
use crate::machine::subnet::Subnet;

/// A request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Replace all faults of the links.
    SetLinkFaults {
        /// The new ones.
        faults: Vec<LinkFault>,
    },
    /// Use a machine up. The reply comes before the effect: its [state file](crate::machine::ballast::state_file)
    /// inside the machine tells when it has set in.
    Press {
        /// The machine.
        machine: String,
        /// With what.
        pressure: Pressure,
    },
    /// End a pressure; one that is unknown is fine.
    Release {
        /// The machine.
        machine: String,
        /// Which.
        id: PressureId,
    },
    /// Send a signal to a program.
    Signal {
        /// The machine.
        machine: String,
        /// The program.
        program: Program,
        /// The signal.
        signal: Signal,
    },
    /// Make a further machine and switch it on.
    Add {
        /// The machine.
        spec: Box<MachineSpec>,
    },
    /// Keep a program running beside the machines from now on; one that is kept already is fine.
    Keep {
        /// Mode of the binary, with its arguments.
        program: Vec<String>,
    },
    /// Cut a machine's power and remove it with its disk.
    Remove {
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Done; this is how things are now.
    Done(ClusterStatus),
    /// The pressure has begun; this identifies it.
    Pressed(PressureId),
    /// Not done, and why.
    Error(Refusal),
}

/// How a cluster's machines are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// What is broken on purpose, beside machines that are off or hang.
    pub faults: Faults,
}

/// What is broken on purpose and can be taken back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Faults {
    /// Of links.
    pub links: Vec<LinkFault>,
    /// What uses machines up.
    pub pressures: Vec<PressureStatus>,
    /// Programs that hold still.
    pub programs: Vec<ProgramStatus>,
}

impl Faults {
    /// Whether nothing is broken.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty() && self.pressures.is_empty() && self.programs.is_empty()
    }
}

/// A pressure in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PressureStatus {
    /// Releases it.
    pub id: PressureId,
    /// The machine.
    pub machine: String,
    /// What it is.
    pub pressure: Pressure,
}

/// A program that holds still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramStatus {
    /// The machine.
    pub machine: String,
    /// The program.
    pub program: Program,
    /// The signal that takes it back: [`Signal::Continue`] or [`Signal::Start`].
    pub undo: Signal,
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
    /// The service that its init keeps.
    pub service: String,
    /// Its boot id, when it is on.
    pub boot_id: Option<String>,
    /// Its PID 1 as the host numbers it, when it is on.
    pub pid: Option<i32>,
    /// CPU time that it may use, in thousandths of a core.
    pub cpu_millis: u64,
    /// Its memory in bytes.
    pub memory_bytes: u64,
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
            r#"{"verb":"press","machine":"worker-0","pressure":{"memory":{"bytes":5}}}"#,
            Request::Press { machine: "worker-0".to_owned(), pressure: Pressure::Memory { bytes: 5 } },
        );
        assert!(serde_json::from_str::<Request>(r#"{"verb":"explode"}"#).is_err());
    }
}
