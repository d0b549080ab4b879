//! Netlink, spoken directly: sockets, messages and the requests of this crate, each encoded in one place.
//!
//! A socket stays in the network namespace in which it was opened, so one may be kept for each namespace.
//!
//! Invariant: nothing here starts a thread except [`namespace::run_inside`]; the supervisor and PID 1
//! of a machine stay single-threaded and use [`namespace::visit`].

pub(crate) mod address;
mod attributes;
pub(crate) mod link;
mod message;
pub mod namespace;
pub(crate) mod nf_tables;
pub(crate) mod queue;
pub(crate) mod route;
mod socket;

pub(crate) use attributes::Attribute;
pub(crate) use message::{Messages, flags};
pub(crate) use socket::Socket;

/// `AF_INET`, `NFPROTO_IPV4`.
const IPV4: u8 = 2;

/// `struct nfgenmsg` of IPv4: what every request to the netfilter subsystems about IPv4 begins with.
pub(crate) const NETFILTER_IPV4: [u8; 4] = [IPV4, 0, 0, 0];

/// The type of message `message` of a netfilter subsystem (linux/netfilter/nfnetlink.h).
pub(crate) const fn netfilter(subsystem: u8, message: u8) -> u16 {
    u16::from_be_bytes([subsystem, message])
}
