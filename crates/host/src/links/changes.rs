//! One [`Change`] carried out. Idempotence as it promises.

use std::io;
use std::os::fd::AsFd;

use daruma_world::links::Change;

use crate::netlink::address::Believed;
use crate::netlink::link::{End, Place};
use crate::netlink::route::Owner;
use crate::netlink::{Socket, address, link, namespace, route};

/// Carries out one change in the namespace of this thread, in which `socket` was opened.
pub(super) fn carry_out(socket: &mut Socket, change: &Change) -> io::Result<()> {
    match change {
        Change::AddVeth { name, mac, peer, peer_mac, peer_namespace, mtu } => {
            let elsewhere = peer_namespace.as_deref().map(namespace::open).transpose()?;
            let place = elsewhere.as_ref().map_or(Place::Here, |file| Place::Namespace(file.as_fd()));
            let near = End { name, mac: *mac, mtu: Some(*mtu) };
            let far = End { name: peer, mac: *peer_mac, mtu: Some(*mtu) };
            link::add_veth(socket, &near, &far, place)
        }
        Change::DeleteLink { name } => link::delete(socket, name),
        Change::SetUp { name, up } => link::set_up(socket, name, *up),
        Change::SetMtu { name, mtu } => link::set_mtu(socket, name, *mtu),
        Change::SetMac { name, mac } => link::set_mac(socket, name, *mac),
        Change::ReplaceAddress { link, prefix } => address::replace(socket, link, *prefix),
        Change::DeleteAddress { link, prefix } => address::delete(socket, link, *prefix),
        Change::ReplaceRoute(of) => route::replace(socket, of, Owner::PodNetwork),
        Change::DeleteRoute(of) => route::delete(socket, of, Owner::PodNetwork),
        Change::ReplaceNeighbour { link, address, mac } => {
            address::replace_neighbour(socket, link, *address, *mac, Believed::ForEver)
        }
        Change::SetKernelParameter { name, value, optional } => namespace::set_kernel_parameter(name, value, *optional),
    }
}

/// What a change is about, for error messages.
pub(super) fn describe(change: &Change) -> String {
    match change {
        Change::AddVeth { name, peer, .. } => format!("add veth {name} with peer {peer}"),
        Change::DeleteLink { name } => format!("delete link {name}"),
        Change::SetUp { name, up } => format!("set link {name} {}", if *up { "up" } else { "down" }),
        Change::SetMtu { name, mtu } => format!("set MTU of link {name} to {mtu}"),
        Change::SetMac { name, .. } => format!("set address of link {name}"),
        Change::ReplaceAddress { link, prefix } => format!("set address {prefix} on link {link}"),
        Change::DeleteAddress { link, prefix } => format!("delete address {prefix} from link {link}"),
        Change::ReplaceRoute(route) => format!("set route to {}", route.destination),
        Change::DeleteRoute(route) => format!("delete route to {}", route.destination),
        Change::ReplaceNeighbour { link, address, .. } => format!("set neighbour {address} on link {link}"),
        Change::SetKernelParameter { name, value, .. } => format!("set kernel parameter net/{name} to {value}"),
    }
}
