//! Which endpoints of a service port get traffic on this node.
//!
//! Source: kubernetes pkg/proxy/topology.go.

use super::services::{Endpoint, ServicePort};

/// The usable endpoints of one service port.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Choice<'a> {
    /// For traffic that may go anywhere.
    pub cluster: Vec<&'a Endpoint>,
    /// For traffic that must stay on this node.
    pub local: Vec<&'a Endpoint>,
    /// Some endpoint is usable, here or elsewhere.
    pub any: bool,
}

impl<'a> Choice<'a> {
    /// Both lists together, each endpoint once, ordered by address and port.
    pub fn reachable(&self) -> Vec<&'a Endpoint> {
        let mut all: Vec<&Endpoint> = self.cluster.iter().chain(&self.local).copied().collect();
        all.sort_by_key(|endpoint| (endpoint.address, endpoint.port));
        all.dedup();
        all
    }
}

/// Ready endpoints; where there is none, those that end but still serve (separately for `cluster`
/// and `local`).
pub fn choose<'a>(endpoints: &'a [Endpoint], port: &ServicePort, node_name: &str, zone: Option<&str>) -> Choice<'a> {
    let last_resort = |endpoint: &&Endpoint| endpoint.serving && endpoint.terminating;
    let mut choice = Choice::default();
    if port.uses_cluster_endpoints() {
        let preferred = preference(endpoints, node_name, zone);
        choice.cluster =
            endpoints.iter().filter(|endpoint| endpoint.ready && preferred.allows(endpoint, node_name, zone)).collect();
        if choice.cluster.is_empty() {
            choice.cluster = endpoints.iter().filter(last_resort).collect();
        }
        choice.any = !choice.cluster.is_empty();
    }
    if port.uses_local_endpoints() {
        choice.any |= endpoints.iter().any(|endpoint| endpoint.ready || last_resort(&endpoint));
        choice.local = endpoints.iter().filter(|endpoint| endpoint.local && endpoint.ready).collect();
        if choice.local.is_empty() {
            choice.local = endpoints.iter().filter(|endpoint| endpoint.local && last_resort(endpoint)).collect();
        }
    }
    choice
}

#[derive(Clone, Copy)]
enum Preference {
    None,
    SameZone,
    SameNode,
}

impl Preference {
    fn allows(self, endpoint: &Endpoint, node_name: &str, zone: Option<&str>) -> bool {
        match self {
            Self::None => true,
            Self::SameNode => endpoint.node_hints.contains(node_name),
            Self::SameZone => zone.is_some_and(|zone| endpoint.zone_hints.contains(zone)),
        }
    }
}

/// Hints count only where every ready endpoint has one and some are for this node or zone.
fn preference(endpoints: &[Endpoint], node_name: &str, zone: Option<&str>) -> Preference {
    let ready = || endpoints.iter().filter(|endpoint| endpoint.ready);
    if ready().next().is_none() {
        return Preference::None;
    }
    if ready().all(|endpoint| !endpoint.node_hints.is_empty()) && ready().any(|endpoint| endpoint.node_hints.contains(node_name))
    {
        return Preference::SameNode;
    }
    let for_zone = |endpoint: &Endpoint| zone.is_some_and(|zone| endpoint.zone_hints.contains(zone));
    if ready().all(|endpoint| !endpoint.zone_hints.is_empty()) && ready().any(for_zone) {
        return Preference::SameZone;
    }
    Preference::None
}
