//! Links (linux/if_link.h). They are named, not numbered: names are resolved where the socket was opened.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use daruma_world::links::{Link, MacAddress};

use super::attributes::{Attribute, number};
use super::{Messages, Socket, flags};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_PID: u16 = 19;
const IFLA_STATS64: u16 = 23;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const VETH_INFO_PEER: u16 = 1;
const IFF_UP: u32 = 1;

/// Bytes of `struct ifinfomsg`.
const HEADER: usize = 16;

/// One end of a cable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End<'a> {
    /// Name of the link.
    pub(crate) name: &'a str,
    /// Hardware address; `None` lets the kernel choose.
    pub(crate) mac: Option<MacAddress>,
    /// Largest packet in bytes; `None` lets the kernel choose.
    pub(crate) mtu: Option<u32>,
}

/// Where the far end of a cable goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    /// Where the near end is.
    Here,
    /// The network namespace behind this open file.
    Namespace(BorrowedFd<'a>),
    /// The network namespace of this process (as the caller sees its id).
    Process(i32),
}

/// Makes a bridge, which must not exist.
pub(crate) fn add_bridge(socket: &mut Socket, name: &str) -> io::Result<()> {
    add(socket, &End { name, mac: None, mtu: None }, "bridge", |data| data.attribute(IFLA_BR_MCAST_SNOOPING, &[0]))
}

/// Makes a cable: two links joined back to back, both down. Neither may exist.
pub(crate) fn add_veth(socket: &mut Socket, near: &End<'_>, far: &End<'_>, place: Place<'_>) -> io::Result<()> {
    add(socket, near, "veth", |data| {
        data.nested(VETH_INFO_PEER, |peer| {
            peer.raw(&header(0, 0));
            describe(peer, far);
            match place {
                Place::Here => {}
                Place::Namespace(file) => peer.u32(IFLA_NET_NS_FD, file.as_raw_fd() as u32),
                Place::Process(id) => peer.u32(IFLA_NET_NS_PID, id as u32),
            }
        });
    })
}

fn add(socket: &mut Socket, end: &End<'_>, kind: &str, data: impl FnOnce(&mut Messages)) -> io::Result<()> {
    let message_flags = flags::CREATE | flags::EXCL | flags::ACK;
    socket.execute(Messages::one(NEW_LINK, message_flags, &header(0, 0), |message| {
        describe(message, end);
        message.nested(IFLA_LINKINFO, |info| {
            info.string(IFLA_INFO_KIND, kind);
            info.nested(IFLA_INFO_DATA, data);
        });
    }))
}

fn describe(message: &mut Messages, end: &End<'_>) {
    message.string(IFLA_IFNAME, end.name);
    if let Some(mac) = end.mac {
        message.attribute(IFLA_ADDRESS, &mac);
    }
    if let Some(mtu) = end.mtu {
        message.u32(IFLA_MTU, mtu);
    }
}

/// Deletes a link, and the other end of a cable. A missing one is fine.
pub(crate) fn delete(socket: &mut Socket, name: &str) -> io::Result<()> {
    let message = Messages::one(DELETE_LINK, flags::ACK, &header(0, 0), |message| message.string(IFLA_IFNAME, name));
    match socket.execute(message) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other,
    }
}

/// Turns a link on or off.
pub(crate) fn set_up(socket: &mut Socket, name: &str, up: bool) -> io::Result<()> {
    set(socket, name, &header(u32::from(up) * IFF_UP, IFF_UP), |_| {})
}

/// Sets a link's largest packet in bytes.
pub(crate) fn set_mtu(socket: &mut Socket, name: &str, mtu: u32) -> io::Result<()> {
    set(socket, name, &header(0, 0), |message| message.u32(IFLA_MTU, mtu))
}

/// Sets a link's hardware address.
pub(crate) fn set_mac(socket: &mut Socket, name: &str, mac: MacAddress) -> io::Result<()> {
    set(socket, name, &header(0, 0), |message| message.attribute(IFLA_ADDRESS, &mac))
}

/// Plugs a link into a bridge.
pub(crate) fn plug(socket: &mut Socket, name: &str, bridge: &str) -> io::Result<()> {
    let bridge = index(socket, bridge)?;
    set(socket, name, &header(0, 0), |message| message.u32(IFLA_MASTER, bridge))
}

fn set(socket: &mut Socket, name: &str, header: &[u8; HEADER], content: impl FnOnce(&mut Messages)) -> io::Result<()> {
    socket.execute(Messages::one(NEW_LINK, flags::ACK, header, |message| {
        message.string(IFLA_IFNAME, name);
        content(message);
    }))
}

/// The number of a link.
pub(super) fn index(socket: &mut Socket, name: &str) -> io::Result<u32> {
    let message = Messages::one(GET_LINK, flags::ACK, &header(0, 0), |message| message.string(IFLA_IFNAME, name));
    let found = socket.ask(message).map_err(|error| match error.raw_os_error() {
        Some(libc::ENODEV) => io::Error::new(io::ErrorKind::NotFound, format!("there is no link {name}")),
        _ => error,
    })?;
    let header = found.first().and_then(|answer| answer.header::<HEADER>());
    header.map(|header| number(header, 4)).ok_or_else(|| io::Error::other(format!("the kernel does not describe link {name}")))
}

/// All links, ordered by number.
pub(crate) fn list(socket: &mut Socket) -> io::Result<Vec<Link>> {
    let all = Messages::one(GET_LINK, flags::DUMP, &header(0, 0), |_| {});
    let mut links: Vec<Link> = Vec::new();
    for answer in socket.ask(all)? {
        let Some(header) = answer.header::<HEADER>() else { continue };
        let mut link = Link {
            index: number(header, 4),
            name: String::new(),
            kind: String::new(),
            up: number(header, 8) & IFF_UP != 0,
            mtu: 0,
            mac: None,
            rx_bytes: 0,
            tx_bytes: 0,
        };
        answer.attributes(HEADER).for_each(|attribute| read(&attribute, &mut link));
        links.push(link);
    }
    links.sort_by_key(|link| link.index);
    Ok(links)
}

fn read(attribute: &Attribute<'_>, link: &mut Link) {
    match attribute.kind {
        IFLA_ADDRESS => link.mac = attribute.value.try_into().ok().filter(|mac| *mac != [0; 6]),
        IFLA_IFNAME => link.name = attribute.text(),
        IFLA_MTU => link.mtu = attribute.u32(),
        IFLA_LINKINFO => link.kind = attribute.inner().find(IFLA_INFO_KIND).map(|kind| kind.text()).unwrap_or_default(),
        // struct rtnl_link_stats64: rx_packets, tx_packets, rx_bytes, tx_bytes, …
        IFLA_STATS64 => {
            let counter = |at: usize| {
                attribute.value.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_ne_bytes(*bytes))
            };
            (link.rx_bytes, link.tx_bytes) = (counter(16), counter(24));
        }
        _ => {}
    }
}

/// The names of all links by number.
pub(super) fn names(socket: &mut Socket) -> io::Result<BTreeMap<u32, String>> {
    Ok(list(socket)?.into_iter().map(|link| (link.index, link.name)).collect())
}

/// `struct ifinfomsg` of a link that is named by an attribute.
fn header(link_flags: u32, change: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[8..12].copy_from_slice(&link_flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}
