//! IPv4 addresses of links (linux/if_addr.h) and of neighbours (linux/neighbour.h).

use std::io;
use std::net::Ipv4Addr;

use daruma_world::links::{LinkAddress, MacAddress, Prefix};

use super::attributes::{Answer, number};
use super::{IPV4, Messages, Socket, flags, link};

const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_NEIGHBOUR: u16 = 28;

pub(super) const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_STALE: u16 = 0x04;
const NUD_PERMANENT: u16 = 0x80;
/// `RTN_UNICAST`.
const TYPE_UNICAST: u8 = 1;

/// Bytes of `struct ifaddrmsg`.
pub(super) const HEADER: usize = 8;

/// Gives a link an address; one that it has already is fine.
pub(crate) fn replace(socket: &mut Socket, link: &str, prefix: Prefix) -> io::Result<()> {
    let header = header(prefix.length, link::index(socket, link)?);
    socket.execute(Messages::one(NEW_ADDRESS, flags::CREATE | flags::REPLACE | flags::ACK, &header, |message| {
        message.attribute(IFA_LOCAL, &prefix.address.octets());
        message.attribute(IFA_ADDRESS, &prefix.address.octets());
    }))
}

/// Takes an address from a link; one that it has not is fine.
pub(crate) fn delete(socket: &mut Socket, link: &str, prefix: Prefix) -> io::Result<()> {
    let header = header(prefix.length, link::index(socket, link)?);
    let local = prefix.address.octets();
    let message = Messages::one(DELETE_ADDRESS, flags::ACK, &header, |message| message.attribute(IFA_LOCAL, &local));
    match socket.execute(message) {
        Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(()),
        other => other,
    }
}

/// All addresses.
pub(crate) fn list(socket: &mut Socket) -> io::Result<Vec<LinkAddress>> {
    let names = link::names(socket)?;
    let mut addresses = Vec::new();
    for answer in dump(socket)? {
        let Some(header) = answer.header::<HEADER>() else { continue };
        let attributes = answer.attributes(HEADER);
        let address = attributes.find(IFA_LOCAL).or_else(|| attributes.find(IFA_ADDRESS)).and_then(|address| address.ipv4());
        if let (Some(address), Some(link)) = (address, names.get(&number(header, 4))) {
            addresses.push(LinkAddress { link: link.clone(), prefix: Prefix::new(address, header[1]) });
        }
    }
    Ok(addresses)
}

/// What the kernel says of all addresses.
pub(super) fn dump(socket: &mut Socket) -> io::Result<Vec<Answer>> {
    socket.ask(Messages::one(GET_ADDRESS, flags::DUMP, &header(0, 0), |_| {}))
}

/// How long a neighbour's hardware address is believed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Believed {
    ForEver,
    /// As one that the neighbour has told itself: until it is used, and then does not answer.
    UntilUsed,
}

/// Says which hardware address a neighbour has. Packets that wait for it go.
pub(crate) fn replace_neighbour(
    socket: &mut Socket,
    link: &str,
    address: Ipv4Addr,
    mac: MacAddress,
    believed: Believed,
) -> io::Result<()> {
    let state = match believed {
        Believed::ForEver => NUD_PERMANENT,
        Believed::UntilUsed => NUD_STALE,
    };
    // struct ndmsg
    let mut header = [IPV4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, TYPE_UNICAST];
    header[4..8].copy_from_slice(&link::index(socket, link)?.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    socket.execute(Messages::one(NEW_NEIGHBOUR, flags::CREATE | flags::REPLACE | flags::ACK, &header, |message| {
        message.attribute(NDA_DST, &address.octets());
        message.attribute(NDA_LLADDR, &mac);
    }))
}

/// `struct ifaddrmsg` of scope universe.
fn header(length: u8, index: u32) -> [u8; HEADER] {
    let mut header = [IPV4, length, 0, 0, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header
}
