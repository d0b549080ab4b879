//! The real world on Linux: machines and their supervisor, clock, disk, sockets, links, packet rules.
//!
//! Invariant: this crate knows no kinds of objects.

pub mod doctor;
pub mod hardware;
pub mod https;
pub mod links;
pub mod machine;
pub mod machines;
pub mod memory;
pub mod modes;
pub mod netlink;
pub mod packet_rules;
pub mod supervisor;
pub mod world;
