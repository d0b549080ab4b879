//! Machines: process tree, network card, memory, disk and power switch of their own, on one Linux host.
//!
//! The supervisor makes a machine's cgroup, disk and switch port and clones its PID 1 ([`power`]);
//! that process continues in [`init`]. Everything here is for single-threaded processes.
//!
//! Invariant: a machine knows nothing of the command that it runs.

pub mod ballast;
pub mod cgroup;
pub mod containers;
pub mod disk;
mod error;
mod init;
pub mod link_faults;
mod oom;
pub(crate) mod orders;
pub mod power;
pub(crate) mod slow_disk;
mod spec;
pub mod subnet;
pub mod switch;
pub mod usage;

/// A machine's network card.
pub const CARD: &str = "eth0";

pub use error::{Doing, MachineError};
pub use init::init_main;
pub(crate) use init::{FACTS_FILE, MachineFacts};
pub use spec::{Bind, MachineSpec, SeedFile};
