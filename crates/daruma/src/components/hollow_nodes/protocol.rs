//! What is said to the simulated nodes' process: one JSON document a line, one reply a request.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use daruma_host::supervisor::Faults;
use daruma_world::machines::{LinkFault, MachineError, MachineInfo, Pressure, PressureId, Program, Signal};
use serde::{Deserialize, Serialize};

/// Its socket in the cluster's directory.
pub fn socket(directory: &Path) -> PathBuf {
    directory.join("simulated.sock")
}

/// What a power switch does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// Cuts the power.
    Off,
    /// Cuts the power in the middle of a write.
    OffTorn,
    /// Gives power.
    On,
    /// Off, and on after the boot time.
    Reset,
    /// Ends everything in order and turns off.
    Shutdown,
    /// Shutdown, then power again.
    Reboot,
    /// Holds still.
    Hang,
    /// Ends a hang.
    Resume,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Tell how the machines are.
    Status,
    /// Make the machines of these numbers, where they are not there yet, and switch them on one after the other.
    Add(Vec<u32>),
    /// Cut a machine's power and take it away.
    Remove(String),
    /// Work a machine's switch.
    Switch(String, Switch),
    /// Replace all faults of links.
    Links(Vec<LinkFault>),
    /// Use a machine up.
    Press(String, Pressure),
    /// End a pressure.
    Release(String, PressureId),
    /// Send a signal to a program.
    Signal(String, Program, Signal),
    /// Make a machine's wall clock wrong by so many milliseconds.
    Clock(String, i64),
    /// List a machine's living containers.
    Containers(String),
    /// Take back everything that is broken, beside machines that are off.
    Undo,
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Done.
    Done,
    /// How things are.
    Status(Status),
    /// The pressure is in force.
    Pressed(PressureId),
    /// Living containers.
    Containers(BTreeSet<String>),
    /// What was taken back, in words.
    Undone(Vec<String>),
    /// Not done, and why.
    Error(MachineError),
}

/// How the simulated machines are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The process that all of them are.
    pub pid: u32,
    /// The machines, ordered by name.
    pub machines: Vec<MachineInfo>,
    /// What is broken on purpose, beside machines that are off or hang.
    pub faults: Faults,
}
