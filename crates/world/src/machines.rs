//! The machines of a cluster as somebody sees them who stands outside, hand on the power switch.
//!
//! Whatever is broken on purpose is broken through [`Machines`]; both worlds implement it. What can
//! be taken back is state that is set as a whole ([`Machines::set_link_faults`]) or an identifier
//! that takes it back ([`Machines::release`]).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::Net;

type Answer<T> = BoxFuture<'static, Result<T, MachineError>>;

/// Why a machine was left as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MachineError {
    /// There is no machine of this name.
    #[error("there is no machine {name:?}; there are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Those that exist, as a person reads it.
        known: String,
    },
    /// The machine is in the wrong state, e.g. off already.
    #[error("{0}")]
    State(String),
    /// This world or this kernel cannot do it; says what is missing and how to get it.
    #[error("{0}")]
    Unsupported(String),
    /// It was tried and failed.
    #[error("{0}")]
    Failed(String),
}

/// What the machine does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PowerState {
    /// Runs.
    On,
    /// Has no power.
    Off,
    /// Holds still: nothing in it runs, no packet enters or leaves.
    Hung,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineInfo {
    /// Its name, e.g. `worker-1`.
    pub name: String,
    /// Address of its network card.
    pub address: IpAddr,
    /// What it does now.
    pub power: PowerState,
    /// CPU time it may use, in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

/// What is done to packets from one set of machines to another. Addresses of pods count as their machine's.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkFault {
    /// Senders; everybody, those outside of the cluster too, where `None`.
    pub from: Option<BTreeSet<String>>,
    /// Receivers; everybody, those outside of the cluster too, where `None`.
    pub to: Option<BTreeSet<String>>,
    /// What happens to the packets.
    pub effect: LinkEffect,
}

/// See [`LinkFault`].
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LinkEffect {
    /// None arrives.
    Cut,
    /// This share of them, in percent, does not arrive.
    Loss(f64),
    /// They arrive this much later.
    Delay(Duration),
    /// Only so many bits a second pass.
    Bandwidth(u64),
}

/// What uses a machine up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pressure {
    /// A file fills the disk until only this many bytes are free.
    Disk {
        /// Bytes left to unprivileged users.
        leave_bytes: u64,
    },
    /// Empty files use inodes until only this many are free.
    Inodes {
        /// Inodes left.
        leave: u64,
    },
    /// A process outside of all pods holds this much memory.
    Memory {
        /// Bytes held.
        bytes: u64,
    },
    /// Processes outside of all pods spin.
    Cpu {
        /// How many.
        processes: u32,
    },
    /// Processes outside of all pods sleep, so that no more than this many can be started.
    Pids {
        /// Processes that may still be started.
        leave: u64,
    },
    /// Every write to the disk takes this much longer.
    SlowDisk {
        /// Time added to a durable write.
        delay: Duration,
    },
}

/// A program on a machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Program {
    /// A service that the machine's init keeps, e.g. `kubelet`.
    Service(String),
    /// The main process and all others of a container, by the engine's id (without `name://`).
    Container(String),
}

/// What is done to a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Signal {
    /// Ends at once (SIGKILL). A service is started again by init, a container by the kubelet.
    Kill,
    /// Is asked to end (SIGTERM).
    Terminate,
    /// Holds still (SIGSTOP, or a freezer).
    Pause,
    /// Goes on.
    Continue,
    /// A service ends and stays ended until [`Signal::Start`]. Containers refuse it.
    Stop,
    /// A stopped service starts.
    Start,
}

/// Identifies a [`Pressure`] that is in force.
pub type PressureId = u64;

/// What [`Machines::supports`] is asked about.
#[derive(Debug, Clone, PartialEq)]
pub enum Ability<'a> {
    /// [`Machines::set_link_faults`] with this effect.
    Link(LinkEffect),
    /// [`Machines::press`].
    Pressure(Pressure),
    /// [`Machines::signal`] of this program.
    Signal(&'a Program, Signal),
    /// [`Machines::hang`].
    Hang,
    /// [`Machines::set_clock_offset`].
    ClockOffset,
    /// [`Machines::power_off`] with torn writes.
    TornWrites,
}

/// The machines of one cluster. Calls complete when the effect has set in.
pub trait Machines: Send + Sync {
    /// All machines, ordered by name.
    fn list(&self) -> Answer<Vec<MachineInfo>>;

    /// Whether this world can do it, asked before anything is touched.
    ///
    /// # Errors
    /// [`MachineError::Unsupported`] with what is missing.
    fn supports(&self, ability: &Ability<'_>) -> Result<(), MachineError>;

    /// Cuts the power. `torn` may leave a write that was under way half done (as a real disk may).
    fn power_off(&self, name: &str, torn: bool) -> Answer<()>;
    /// Gives power; completes when its init runs.
    fn power_on(&self, name: &str) -> Answer<()>;
    /// Cuts the power and gives it again after the machine's boot time; completes when its init runs.
    fn reset(&self, name: &str) -> Answer<()>;
    /// Asks init to end everything in order and to turn the machine off; completes when it is off.
    fn shutdown(&self, name: &str) -> Answer<()>;
    /// As [`Machines::shutdown`], then power again; completes when its init runs.
    fn reboot(&self, name: &str) -> Answer<()>;
    /// The machine holds still and its link is down.
    fn hang(&self, name: &str) -> Answer<()>;
    /// Ends a hang.
    fn resume(&self, name: &str) -> Answer<()>;

    /// Replaces all link faults by these. An empty list mends everything.
    fn set_link_faults(&self, faults: Vec<LinkFault>) -> Answer<()>;

    /// Uses a machine up. The effect ends with [`Machines::release`] or the machine's power (files stay until released).
    fn press(&self, name: &str, pressure: Pressure) -> Answer<PressureId>;
    /// Ends a pressure. Idempotent.
    fn release(&self, name: &str, id: PressureId) -> Answer<()>;

    /// Sends a signal to a program.
    fn signal(&self, name: &str, program: &Program, signal: Signal) -> Answer<()>;

    /// Moves the machine's wall clock by this many milliseconds from the true time; 0 takes it back.
    fn set_clock_offset(&self, name: &str, offset_ms: i64) -> Answer<()>;

    /// Sockets of one machine; those of somebody outside of the cluster where `None`.
    fn net(&self, name: Option<&str>) -> Result<Arc<dyn Net>, MachineError>;

    /// Containers of one machine whose processes live, by the engine's ids: what was left behind is asked here.
    fn living_containers(&self, name: &str) -> Answer<BTreeSet<String>>;
}
