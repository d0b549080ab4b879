//! Connections that the kernel remembers (linux/netfilter/nfnetlink_conntrack.h).

use std::io;
use std::net::Ipv4Addr;

use daruma_world::packet_rules::{Connection, Protocol};

use crate::netlink::{Attribute, Messages, NETFILTER_IPV4, Socket, flags, netfilter};

const SUBSYSTEM: u8 = 1;
const GET: u8 = 1;
const DELETE: u8 = 2;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;

/// All connections of `protocol`.
pub(super) fn list(socket: &mut Socket, protocol: Protocol) -> io::Result<Vec<Connection>> {
    let all = Messages::one(netfilter(SUBSYSTEM, GET), flags::DUMP, &NETFILTER_IPV4, |_| {});
    let mut connections = Vec::new();
    for answer in socket.ask(all)? {
        let attributes = answer.attributes(NETFILTER_IPV4.len());
        let tuple = |kind| attributes.find(kind).and_then(|tuple| read_tuple(&tuple));
        let (Some(original), Some(reply)) = (tuple(ORIGINAL), tuple(REPLY)) else { continue };
        if original.protocol == protocol.number() {
            let (source, destination, answers_from) = (original.source, original.destination, reply.source);
            connections.push(Connection { protocol, source, destination, answers_from });
        }
    }
    Ok(connections)
}

/// Forgets one connection; a missing one is fine.
pub(super) fn forget(socket: &mut Socket, connection: &Connection) -> io::Result<()> {
    let message = Messages::one(netfilter(SUBSYSTEM, DELETE), flags::ACK, &NETFILTER_IPV4, |message| {
        message.nested(ORIGINAL, |tuple| {
            tuple.nested(1, |addresses| {
                addresses.attribute(1, &connection.source.0.octets());
                addresses.attribute(2, &connection.destination.0.octets());
            });
            tuple.nested(2, |ports| {
                ports.attribute(1, &[connection.protocol.number()]);
                ports.attribute(2, &connection.source.1.to_be_bytes());
                ports.attribute(3, &connection.destination.1.to_be_bytes());
            });
        });
    });
    match socket.execute(message) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

struct Tuple {
    protocol: u8,
    source: (Ipv4Addr, u16),
    destination: (Ipv4Addr, u16),
}

fn read_tuple(tuple: &Attribute<'_>) -> Option<Tuple> {
    let (addresses, ports) = (tuple.inner().find(1)?.inner(), tuple.inner().find(2)?.inner());
    let address = |kind| addresses.find(kind)?.ipv4();
    let port = |kind| ports.find(kind).map_or(0, |port| port.be16());
    Some(Tuple { protocol: *ports.find(1)?.value.first()?, source: (address(1)?, port(2)), destination: (address(2)?, port(3)) })
}
