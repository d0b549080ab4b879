//! IPv4 routes (linux/rtnetlink.h).

use std::io;
use std::net::Ipv4Addr;

use daruma_world::links::{ListedRoute, Prefix, Route, Target};

use super::attributes::Answer;
use super::{IPV4, Messages, Socket, address, flags, link};

const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;

const TABLE_MAIN: u8 = 254;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_NOWHERE: u8 = 255;
const TYPE_UNICAST: u8 = 1;
const TYPE_UNREACHABLE: u8 = 7;
const RTNH_F_ONLINK: u32 = 4;

/// Bytes of `struct rtmsg`.
const HEADER: usize = 12;

/// Whose route it is (`rtm_protocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The machine itself, as an administrator would set it (`RTPROT_STATIC`).
    Machine = 4,
    /// The pod network; not among the numbers that others registered.
    PodNetwork = 218,
}

/// Sets a route in the main table.
pub(crate) fn replace(socket: &mut Socket, route: &Route, owner: Owner) -> io::Result<()> {
    let out = match &route.target {
        Target::Link { link, .. } => Some(link::index(socket, link)?),
        Target::Unreachable => None,
    };
    let message_flags = flags::CREATE | flags::REPLACE | flags::ACK;
    socket.execute(Messages::one(NEW_ROUTE, message_flags, &header(route, owner), |message| {
        identify(message, route);
        if let Some(out) = out {
            message.u32(RTA_OIF, out);
        }
        if let Target::Link { via, source, .. } = &route.target {
            if let Some(via) = via {
                message.attribute(RTA_GATEWAY, &via.octets());
            }
            if let Some(source) = source {
                message.attribute(RTA_PREFSRC, &source.octets());
            }
        }
    }))
}

/// Deletes the route of that destination, metric and owner. A missing one is fine.
pub(crate) fn delete(socket: &mut Socket, route: &Route, owner: Owner) -> io::Result<()> {
    let mut header = header(route, owner);
    header[6] = SCOPE_NOWHERE;
    header[8..].fill(0);
    match socket.execute(Messages::one(DELETE_ROUTE, flags::ACK, &header, |message| identify(message, route))) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other,
    }
}

fn identify(message: &mut Messages, route: &Route) {
    message.attribute(RTA_DST, &route.destination.network().address.octets());
    message.u32(RTA_PRIORITY, route.metric);
}

/// All unicast and unreachable routes of the main table. The pod network's are ours.
pub(crate) fn list(socket: &mut Socket) -> io::Result<Vec<ListedRoute>> {
    let names = link::names(socket)?;
    let mut routes = Vec::new();
    for answer in dump(socket)? {
        let Some(&[_, length, _, _, table, protocol, _, kind, route_flags, ..]) = answer.header::<HEADER>() else { continue };
        if table != TABLE_MAIN || ![TYPE_UNICAST, TYPE_UNREACHABLE].contains(&kind) {
            continue;
        }
        let mut route = Route { destination: Prefix::new(Ipv4Addr::UNSPECIFIED, length), metric: 0, target: Target::Unreachable };
        let (mut link, mut via, mut source) = (String::new(), None, None);
        for attribute in answer.attributes(HEADER) {
            match attribute.kind {
                RTA_DST => route.destination.address = attribute.ipv4().unwrap_or(Ipv4Addr::UNSPECIFIED),
                RTA_OIF => link = names.get(&attribute.u32()).cloned().unwrap_or_default(),
                RTA_GATEWAY => via = attribute.ipv4(),
                RTA_PRIORITY => route.metric = attribute.u32(),
                RTA_PREFSRC => source = attribute.ipv4(),
                _ => {}
            }
        }
        if kind == TYPE_UNICAST {
            let on_link = u32::from(route_flags) & RTNH_F_ONLINK != 0;
            route.target = Target::Link { link, via, on_link, source };
        }
        routes.push(ListedRoute { route, ours: protocol == Owner::PodNetwork as u8 });
    }
    Ok(routes)
}

/// Every range that an address or a route of any table names, the default route left out.
pub(crate) fn ranges(socket: &mut Socket) -> io::Result<Vec<Prefix>> {
    let addresses = address::dump(socket)?;
    let routes = dump(socket)?;
    let of_addresses = addresses.iter().filter_map(|answer| range(answer, address::HEADER, address::IFA_ADDRESS));
    let of_routes = routes.iter().filter_map(|answer| range(answer, HEADER, RTA_DST));
    Ok(of_addresses.chain(of_routes).collect())
}

/// Both headers have the length of the network part in their second byte.
fn range(answer: &Answer, header: usize, attribute: u16) -> Option<Prefix> {
    let [_, length] = *answer.header::<2>()?;
    let address = answer.attributes(header).find(attribute)?.ipv4()?;
    (length > 0).then_some(Prefix::new(address, length))
}

fn dump(socket: &mut Socket) -> io::Result<Vec<Answer>> {
    socket.ask(Messages::one(GET_ROUTE, flags::DUMP, &[IPV4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], |_| {}))
}

/// `struct rtmsg`.
fn header(route: &Route, owner: Owner) -> [u8; HEADER] {
    let (kind, scope, route_flags) = match &route.target {
        Target::Unreachable => (TYPE_UNREACHABLE, SCOPE_UNIVERSE, 0),
        Target::Link { via, on_link, .. } => {
            let scope = if via.is_some() { SCOPE_UNIVERSE } else { SCOPE_LINK };
            (TYPE_UNICAST, scope, u32::from(*on_link) * RTNH_F_ONLINK)
        }
    };
    let mut header = [IPV4, route.destination.length, 0, 0, TABLE_MAIN, owner as u8, scope, kind, 0, 0, 0, 0];
    header[8..].copy_from_slice(&route_flags.to_ne_bytes());
    header
}
