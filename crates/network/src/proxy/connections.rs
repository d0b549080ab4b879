//! Which remembered UDP connections have to be forgotten: those to a service that go on to an
//! endpoint it no longer has. (A TCP client notices by itself.)
//!
//! Source: kubernetes pkg/proxy/conntrack/cleanup.go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use daruma_world::packet_rules::{Connection, Protocol};

use super::plan::endpoints_of;
use super::services::{EndpointMap, ServicePort};

type Target = (Ipv4Addr, u16);

/// UDP addresses of services with the endpoints that may answer for them. Services without
/// endpoints are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontends {
    addresses: BTreeMap<Target, BTreeSet<Target>>,
    node_ports: BTreeMap<u16, BTreeSet<Target>>,
}

/// The frontends of all UDP ports.
pub(super) fn frontends(ports: &[ServicePort], endpoints: &EndpointMap) -> Frontends {
    let mut found = Frontends::default();
    for port in ports.iter().filter(|port| port.protocol == Protocol::Udp) {
        let serving = endpoints_of(endpoints, port).iter().filter(|endpoint| endpoint.serving);
        let targets: BTreeSet<Target> = serving.map(|endpoint| (endpoint.address, endpoint.port)).collect();
        if targets.is_empty() {
            continue;
        }
        let addresses = [port.cluster_ip].into_iter().chain(port.external_ips.iter().chain(&port.load_balancer_ips).copied());
        found.addresses.extend(addresses.map(|address| ((address, port.port), targets.clone())));
        found.node_ports.extend(port.node_port.map(|node_port| (node_port, targets)));
    }
    found
}

/// The connections of `known` that lead nowhere.
pub fn stale(known: &[Connection], frontends: &Frontends) -> Vec<Connection> {
    let is_stale = |connection: &&Connection| {
        let targets =
            frontends.addresses.get(&connection.destination).or_else(|| frontends.node_ports.get(&connection.destination.1));
        connection.protocol == Protocol::Udp && targets.is_some_and(|targets| !targets.contains(&connection.answers_from))
    };
    known.iter().filter(is_stale).copied().collect()
}
