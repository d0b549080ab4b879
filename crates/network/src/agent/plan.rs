//! What a node's routes, kernel parameters and masquerading should be: pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use daruma_api::core::v1::Node;
use daruma_api::meta::ObjectExt;
use daruma_world::links::{Change, Link, LinkAddress, ListedRoute, Prefix, Route, Target};
use daruma_world::packet_rules::{Base, Chain, ChainKind, Hook, Is, Statement, Table};

use crate::sandbox::NetworkFile;

/// Metric of routes that apply only where nothing else does.
const LAST_METRIC: u32 = 4096;
const MULTICAST: Prefix = Prefix::new(Ipv4Addr::new(224, 0, 0, 0), 4);

/// What the plan is made from.
pub struct Seen<'a> {
    /// All nodes.
    pub nodes: &'a [Arc<Node>],
    /// This node.
    pub node_name: &'a str,
    /// Addresses of all pods.
    pub pod_range: Prefix,
    /// Addresses of all services.
    pub service_range: Prefix,
    /// The machine's links.
    pub links: &'a [Link],
    /// Their addresses.
    pub addresses: &'a [LinkAddress],
    /// The machine's routes.
    pub routes: &'a [ListedRoute],
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Steps, in order; none where all is as it should be.
    pub changes: Vec<Change>,
    /// What sandboxes are attached by, once the steps are done.
    pub file: NetworkFile,
}

/// Why there is no plan yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotYet {
    /// The node has not been registered.
    #[error("node {0:?} is not there yet")]
    NoNode(String),
    /// The node has no range.
    #[error("node {0:?} has no podCIDR yet")]
    NoRange(String),
    /// The node's own address is on none of the machine's links.
    #[error("no link has the address of node {0:?}")]
    NoLink(String),
}

/// Makes the plan.
pub fn plan(seen: &Seen<'_>) -> Result<Plan, NotYet> {
    let name = || seen.node_name.to_owned();
    let own = seen.nodes.iter().find(|node| node.name() == seen.node_name).ok_or_else(|| NotYet::NoNode(name()))?;
    let range = pod_range_of(own).ok_or_else(|| NotYet::NoRange(name()))?;
    let address = internal_address(own);
    let link = seen.addresses.iter().find(|found| Some(found.prefix.address) == address).ok_or_else(|| NotYet::NoLink(name()))?;
    let mtu = seen.links.iter().find(|found| found.name == link.link).map_or(1500, |found| found.mtu);

    let mut changes = kernel_parameters(&link.link);
    let wanted = routes(seen, link);
    let present: BTreeMap<(Prefix, u32), &ListedRoute> = seen
        .routes
        .iter()
        .filter(|listed| is_agents(listed))
        .map(|listed| ((listed.route.destination, listed.route.metric), listed))
        .collect();
    let gone = present.iter().filter(|(key, _)| !wanted.contains_key(*key));
    changes.extend(gone.map(|(_, listed)| Change::DeleteRoute(listed.route.clone())));
    let new = wanted.iter().filter(|(key, route)| present.get(*key).map(|listed| &listed.route) != Some(*route));
    changes.extend(new.map(|(_, route)| Change::ReplaceRoute(route.clone())));
    Ok(Plan { changes, file: NetworkFile { pod_range: range.to_string(), mtu } })
}

/// Pods' packets to the world outside carry the node's address.
pub fn masquerading(pod_range: Prefix) -> Table {
    let rule = vec![
        Statement::Source(Is::In, pod_range),
        Statement::Destination(Is::NotIn, pod_range),
        Statement::Destination(Is::NotIn, MULTICAST),
        Statement::Masquerade,
    ];
    let base = Some(Base { kind: ChainKind::Nat, hook: Hook::Postrouting, priority: 100 });
    let chains = BTreeMap::from([("postrouting".to_owned(), Chain { base, rules: vec![rule] })]);
    Table { chains, sets: BTreeMap::new() }
}

/// The node's range of pod addresses.
pub fn pod_range_of(node: &Node) -> Option<Prefix> {
    let spec = node.spec.as_ref()?;
    let mut ranges = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    ranges.find_map(|range| range.parse::<Prefix>().ok()).map(Prefix::network)
}

/// The node's first IPv4 `InternalIP`.
pub fn internal_address(node: &Node) -> Option<Ipv4Addr> {
    let addresses = node.status.as_ref()?.addresses.iter().flatten();
    addresses.filter(|address| address.type_ == "InternalIP").find_map(|address| address.address.parse().ok())
}

fn routes(seen: &Seen<'_>, link: &LinkAddress) -> BTreeMap<(Prefix, u32), Route> {
    let mut wanted = BTreeMap::new();
    let mut want = |route: Route| wanted.insert((route.destination, route.metric), route);
    for node in seen.nodes.iter().filter(|node| node.name() != seen.node_name) {
        // A node that is not a neighbour cannot be a router; its pods stay unreachable.
        let neighbour = internal_address(node).filter(|address| link.prefix.contains(*address));
        if let (Some(range), Some(address)) = (pod_range_of(node), neighbour) {
            want(Route::via(&link.link, address, range));
        }
    }
    want(Route { destination: seen.pod_range.network(), metric: LAST_METRIC, target: Target::Unreachable });
    let is_default = |listed: &ListedRoute| listed.route.destination.length == 0 && listed.route.target != Target::Unreachable;
    if !seen.routes.iter().any(is_default) {
        // The machine's own connections to services are routed before they are translated: without a
        // default route they need one that only has to exist.
        let target = Target::Link { link: link.link.clone(), via: None, on_link: false, source: Some(link.prefix.address) };
        want(Route { destination: seen.service_range.network(), metric: LAST_METRIC, target });
    }
    wanted
}

/// Ours, and not the route to a single pod, which belongs to the pod's attachment.
fn is_agents(listed: &ListedRoute) -> bool {
    let to_pod = listed.route.destination.length == 32 && matches!(listed.route.target, Target::Link { via: None, .. });
    listed.ours && !to_pod
}

fn kernel_parameters(link: &str) -> Vec<Change> {
    let set = |name: String, value: &str| Change::SetKernelParameter { name, value: value.to_owned(), optional: false };
    let mut changes = vec![set("ipv4/ip_forward".into(), "1")];
    for of in ["all", "default", link] {
        // Packets of one connection may come and go by different links; every node is a router to be
        // kept, even where a shorter way exists.
        changes.push(set(format!("ipv4/conf/{of}/rp_filter"), "0"));
        changes.push(set(format!("ipv4/conf/{of}/send_redirects"), "0"));
    }
    changes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_objects::object;

    fn node(name: &str, range: Option<&str>, address: &str) -> Arc<Node> {
        object(json!({
            "metadata": {"name": name}, "spec": {"podCIDR": range},
            "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]}
        }))
    }

    fn prefix(text: &str) -> Prefix {
        text.parse().expect("a prefix")
    }

    fn check(nodes: &[Arc<Node>], routes: &[ListedRoute], expected: Result<&[&str], NotYet>) {
        let addresses = [LinkAddress { link: "eth0".into(), prefix: prefix("10.88.0.20/24") }];
        let link =
            Link { index: 2, name: "eth0".into(), kind: "veth".into(), up: true, mtu: 1400, mac: None, rx_bytes: 0, tx_bytes: 0 };
        let plan = plan(&Seen {
            nodes,
            node_name: "worker-0",
            pod_range: prefix("10.244.0.0/16"),
            service_range: prefix("10.96.0.0/12"),
            links: &[link],
            addresses: &addresses,
            routes,
        });
        let shown = plan.map(|plan| {
            assert_eq!(plan.file, NetworkFile { pod_range: "10.244.1.0/24".into(), mtu: 1400 });
            let show = |change: &Change| match change {
                Change::ReplaceRoute(route) => Some(format!("+{} {:?}", route.destination, via(route))),
                Change::DeleteRoute(route) => Some(format!("-{}", route.destination)),
                _ => None,
            };
            plan.changes.iter().filter_map(show).collect::<Vec<_>>()
        });
        assert_eq!(shown, expected.map(|lines| lines.iter().map(|line| (*line).to_owned()).collect()));
    }

    fn via(route: &Route) -> Option<Ipv4Addr> {
        match &route.target {
            Target::Link { via, .. } => *via,
            Target::Unreachable => None,
        }
    }

    fn ours(route: Route) -> ListedRoute {
        ListedRoute { route, ours: true }
    }

    #[test]
    fn routes_follow_nodes() {
        let own = node("worker-0", Some("10.244.1.0/24"), "10.88.0.20");
        let other = node("worker-1", Some("10.244.2.0/24"), "10.88.0.21");
        check(&[], &[], Err(NotYet::NoNode("worker-0".into())));
        check(&[node("worker-0", None, "10.88.0.20")], &[], Err(NotYet::NoRange("worker-0".into())));
        check(&[node("worker-0", Some("10.244.1.0/24"), "10.88.0.99")], &[], Err(NotYet::NoLink("worker-0".into())));
        let fresh: &[&str] = &["+10.96.0.0/12 None", "+10.244.0.0/16 None", "+10.244.2.0/24 Some(10.88.0.21)"];
        check(&[own.clone(), other.clone()], &[], Ok(fresh));

        let default = ListedRoute { route: Route::via("eth0", Ipv4Addr::new(10, 88, 0, 1), Prefix::ALL), ours: false };
        let rest = ours(Route { destination: prefix("10.244.0.0/16"), metric: LAST_METRIC, target: Target::Unreachable });
        let to_other = ours(Route::via("eth0", Ipv4Addr::new(10, 88, 0, 21), prefix("10.244.2.0/24")));
        let to_pod = ours(Route::on("veth0", prefix("10.244.1.5/32")));
        let settled = [default, rest, to_other, to_pod];
        check(&[own.clone(), other], &settled, Ok(&[]));
        check(std::slice::from_ref(&own), &settled, Ok(&["-10.244.2.0/24"]));
        let moved = node("worker-1", Some("10.244.2.0/24"), "10.88.0.22");
        check(&[own, moved], &settled, Ok(&["+10.244.2.0/24 Some(10.88.0.22)"]));
    }
}
