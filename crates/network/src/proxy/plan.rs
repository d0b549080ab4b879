//! The packet rules that make services work on one node: pure.
//!
//! Source of the structure: kubernetes pkg/proxy/nftables/proxier.go. Node ports are served on every
//! address of the node but those of 127.0.0.0/8.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use daruma_api::core::v1::Service;
use daruma_api::discovery::v1::EndpointSlice;
use daruma_world::links::Prefix;
use daruma_world::packet_rules::{
    Base, Chain, ChainKind, Field, Hook, Is, Rejection, Rule, Set, SetKind, Statement, Table, Value, Verdict,
};

use super::choice::{Choice, choose};
use super::connections::{Frontends, frontends};
use super::service_health::{Checks, checks};
use super::services::{Endpoint, EndpointMap, ServicePort, endpoints, service_ports};

/// Packets with this mark leave with the node's address as source.
pub const MASQUERADE_MARK: u32 = 0x4000;
const LOOPBACK: Prefix = Prefix::new(Ipv4Addr::new(127, 0, 0, 0), 8);
/// No packet comes from here: with this as the range of pods, every connection is masqueraded.
const NOBODY: Prefix = Prefix::host(Ipv4Addr::BROADCAST);
const SERVICE_KEY: [Field; 3] = [Field::DestinationAddress, Field::Protocol, Field::DestinationPort];
const NODE_PORT_KEY: [Field; 2] = [Field::Protocol, Field::DestinationPort];
const HAIRPIN_KEY: [Field; 4] = [Field::SourceAddress, Field::DestinationAddress, Field::Protocol, Field::DestinationPort];
/// Longest chain or set name that nf_tables' users handle well.
const NAME_MAX: usize = 127;

/// What the plan is made from.
pub struct Seen<'a> {
    /// All services.
    pub services: &'a [Arc<Service>],
    /// All endpoint slices.
    pub slices: &'a [Arc<EndpointSlice>],
    /// This node.
    pub node_name: &'a str,
    /// This node's zone.
    pub zone: Option<&'a str>,
    /// Addresses of the cluster's pods; traffic to a ClusterIP from elsewhere is masqueraded.
    pub pod_range: Option<Prefix>,
    /// Addresses of services; traffic to those that no service has is dropped, so that it never leaves the node.
    pub service_range: Option<Prefix>,
}

/// What should be.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// The table.
    pub table: Table,
    /// UDP addresses of services with the endpoints that may answer for them.
    pub frontends: Frontends,
    /// What load balancers are told of services, by service.
    pub health_checks: Checks,
}

/// Makes the plan.
pub fn plan(seen: &Seen<'_>) -> Plan {
    let ports = service_ports(seen.services);
    let endpoints = endpoints(seen.slices, seen.node_name);
    plan_ports(seen, &ports, &endpoints)
}

/// The plan of a machine that has neither pods nor node ports and passes on what comes for the ports' own addresses, in
/// its own name.
pub(crate) fn relay(ports: &[ServicePort], endpoints: &EndpointMap) -> Plan {
    let seen = Seen { services: &[], slices: &[], node_name: "", zone: None, pod_range: Some(NOBODY), service_range: None };
    plan_ports(&seen, ports, endpoints)
}

fn plan_ports(seen: &Seen<'_>, ports: &[ServicePort], endpoints: &EndpointMap) -> Plan {
    let mut rules = Rules { table: frame(seen.pod_range, seen.service_range), pod_range: seen.pod_range };
    for port in ports {
        let choice = choose(endpoints_of(endpoints, port), port, seen.node_name, seen.zone);
        rules.add_port(port, &choice);
    }
    Plan { table: rules.table, frontends: frontends(ports, endpoints), health_checks: checks(ports, endpoints) }
}

/// The endpoints of a service port.
pub(super) fn endpoints_of<'a>(endpoints: &'a EndpointMap, port: &ServicePort) -> &'a [Endpoint] {
    endpoints.get(&(port.service.clone(), port.port_name.clone(), port.protocol)).map_or(&[], Vec::as_slice)
}

fn jump(chain: &str) -> Statement {
    Statement::Verdict(Verdict::Jump(chain.to_owned()))
}

fn goto(chain: &str) -> Verdict {
    Verdict::Goto(chain.to_owned())
}

/// All that does not depend on services.
fn frame(pod_range: Option<Prefix>, service_range: Option<Prefix>) -> Table {
    use Statement as S;
    let base = |kind, hook, priority| Some(Base { kind, hook, priority });
    let new = |chain: &str| vec![S::NewConnection, jump(chain)];
    let dispatch = |fields: &[Field], map: &str| S::Dispatch { fields: fields.to_vec(), map: map.to_owned() };
    let mut services = Vec::new();
    let cluster_ips = || S::Lookup { fields: vec![Field::DestinationAddress], is: Is::In, set: "cluster-ips".into() };
    if let Some(pods) = pod_range {
        services.push(vec![cluster_ips(), S::Source(Is::NotIn, pods), S::SetMark { mask: MASQUERADE_MARK }]);
    }
    services.push(vec![dispatch(&SERVICE_KEY, "service-ips")]);
    services.push(vec![
        S::DestinationIsLocal,
        S::Destination(Is::NotIn, LOOPBACK),
        dispatch(&NODE_PORT_KEY, "service-nodeports"),
    ]);
    let masquerading = vec![
        vec![S::Marked { mask: MASQUERADE_MARK }, S::InvertMark { mask: MASQUERADE_MARK }, S::Masquerade],
        vec![
            S::WasDestinationTranslated,
            S::Lookup { fields: HAIRPIN_KEY.to_vec(), is: Is::In, set: "hairpin-connections".into() },
            S::Masquerade,
        ],
    ];
    let mut cluster_ips_check = vec![vec![cluster_ips(), S::Reject(Rejection::PortUnreachable)]];
    cluster_ips_check.extend(service_range.map(|range| vec![S::Destination(Is::In, range), S::Verdict(Verdict::Drop)]));
    let chains: Vec<(&str, Option<Base>, Vec<Rule>)> = vec![
        ("filter-prerouting-pre-dnat", base(ChainKind::Filter, Hook::Prerouting, -110), vec![new("firewall-check")]),
        ("filter-output-pre-dnat", base(ChainKind::Filter, Hook::Output, -110), vec![new("firewall-check")]),
        (
            "filter-input",
            base(ChainKind::Filter, Hook::Input, 0),
            vec![new("nodeport-endpoints-check"), new("service-endpoints-check")],
        ),
        (
            "filter-forward",
            base(ChainKind::Filter, Hook::Forward, 0),
            vec![new("service-endpoints-check"), new("cluster-ips-check")],
        ),
        (
            "filter-output",
            base(ChainKind::Filter, Hook::Output, 0),
            vec![new("service-endpoints-check"), new("cluster-ips-check")],
        ),
        ("nat-prerouting", base(ChainKind::Nat, Hook::Prerouting, -100), vec![vec![jump("services")]]),
        ("nat-output", base(ChainKind::Nat, Hook::Output, -100), vec![vec![jump("services")]]),
        ("nat-postrouting", base(ChainKind::Nat, Hook::Postrouting, 100), vec![vec![jump("masquerading")]]),
        ("services", None, services),
        ("masquerading", None, masquerading),
        ("cluster-ips-check", None, cluster_ips_check),
        ("service-endpoints-check", None, vec![vec![dispatch(&SERVICE_KEY, "no-endpoint-services")]]),
        (
            "nodeport-endpoints-check",
            None,
            vec![vec![S::Destination(Is::NotIn, LOOPBACK), dispatch(&NODE_PORT_KEY, "no-endpoint-nodeports")]],
        ),
        ("firewall-check", None, vec![vec![dispatch(&SERVICE_KEY, "firewall-ips")]]),
        ("reject-chain", None, vec![vec![S::Reject(Rejection::PortUnreachable)]]),
    ];
    let sets = [
        ("cluster-ips", SetKind::Plain, &[Field::DestinationAddress][..]),
        ("hairpin-connections", SetKind::Plain, &HAIRPIN_KEY),
        ("service-ips", SetKind::Verdicts, &SERVICE_KEY),
        ("service-nodeports", SetKind::Verdicts, &NODE_PORT_KEY),
        ("no-endpoint-services", SetKind::Verdicts, &SERVICE_KEY),
        ("no-endpoint-nodeports", SetKind::Verdicts, &NODE_PORT_KEY),
        ("firewall-ips", SetKind::Verdicts, &SERVICE_KEY),
    ];
    Table {
        chains: chains.into_iter().map(|(name, base, rules)| (name.to_owned(), Chain { base, rules })).collect(),
        sets: sets.into_iter().map(|(name, kind, fields)| (name.to_owned(), Set::new(kind, fields))).collect(),
    }
}

struct Rules {
    table: Table,
    pod_range: Option<Prefix>,
}

impl Rules {
    fn add_port(&mut self, port: &ServicePort, choice: &Choice<'_>) {
        for endpoint in choice.reachable().into_iter().filter(|endpoint| endpoint.local) {
            let address = Value::Address(endpoint.address);
            self.element(
                "hairpin-connections",
                vec![address, address, Value::Protocol(port.protocol), Value::Port(endpoint.port)],
                None,
            );
        }
        let cluster_chain = name("service", port, "");
        let external_chain = || name("external", port, "");
        let local_chain = || name("local", port, "");
        if port.uses_cluster_endpoints() && !choice.cluster.is_empty() {
            self.endpoints_chain(&cluster_chain, port, &choice.cluster);
        }
        if port.uses_local_endpoints() && !choice.local.is_empty() {
            self.endpoints_chain(&local_chain(), port, &choice.local);
        }
        if port.affinity.is_some() {
            choice.reachable().into_iter().for_each(|endpoint| self.sticky_endpoint(port, endpoint));
        }
        let has_internal = choice.any && (!port.internal_local || !choice.local.is_empty());
        let has_external = choice.any && (!port.external_local || !choice.local.is_empty());
        // Nowhere to go at all is told to the client; nothing on this node is lost silently.
        let refusal = if choice.any { Verdict::Drop } else { goto("reject-chain") };

        self.element("cluster-ips", vec![Value::Address(port.cluster_ip)], None);
        let cluster_key = service_key(port, port.cluster_ip);
        if has_internal {
            let chain = if port.internal_local { local_chain() } else { cluster_chain.clone() };
            self.element("service-ips", cluster_key, Some(goto(&chain)));
        } else {
            self.element("no-endpoint-services", cluster_key, Some(refusal.clone()));
        }
        if choice.any && port.externally_accessible() {
            let then = has_external.then(|| if port.external_local { local_chain() } else { cluster_chain.clone() });
            self.external_chain(&external_chain(), port, &cluster_chain, then.as_ref());
        }
        for address in port.external_ips.iter().chain(&port.load_balancer_ips) {
            if choice.any {
                self.element("service-ips", service_key(port, *address), Some(goto(&external_chain())));
            }
            if !has_external {
                self.element("no-endpoint-services", service_key(port, *address), Some(refusal.clone()));
            }
        }
        if let Some(node_port) = port.node_port {
            let key = || vec![Value::Protocol(port.protocol), Value::Port(node_port)];
            if choice.any {
                self.element("service-nodeports", key(), Some(goto(&external_chain())));
            }
            if !has_external {
                self.element("no-endpoint-nodeports", key(), Some(refusal));
            }
        }
        if !port.source_ranges.is_empty() && !port.load_balancer_ips.is_empty() {
            self.firewall(port);
        }
    }

    /// Sends connections to one of `targets`, to the client's last one where it shall stick to it.
    fn endpoints_chain(&mut self, chain: &str, port: &ServicePort, targets: &[&Endpoint]) {
        let rules = if port.affinity.is_some() {
            let stick = |endpoint: &&Endpoint| {
                let set = affinity_set(port, endpoint);
                let known = Statement::Lookup { fields: vec![Field::SourceAddress], is: Is::In, set };
                vec![known, Statement::Verdict(goto(&endpoint_chain(port, endpoint)))]
            };
            let mut rules: Vec<Rule> = targets.iter().map(stick).collect();
            let any = targets.iter().map(|endpoint| goto(&endpoint_chain(port, endpoint))).collect();
            rules.push(vec![Statement::DispatchRandom(any)]);
            rules
        } else {
            let targets = targets.iter().map(|endpoint| (endpoint.address, endpoint.port)).collect();
            vec![vec![Statement::Protocol(port.protocol), Statement::TranslateDestination(targets)]]
        };
        self.chain(chain, rules);
    }

    /// Remembers the client and sends it to `endpoint`.
    fn sticky_endpoint(&mut self, port: &ServicePort, endpoint: &Endpoint) {
        let Some(timeout) = port.affinity else { return };
        let set = affinity_set(port, endpoint);
        self.table.sets.insert(set.clone(), Set::new(SetKind::Recent(timeout), &[Field::SourceAddress]));
        let remember = vec![Statement::Remember { field: Field::SourceAddress, set }];
        let target = vec![(endpoint.address, endpoint.port)];
        let translate = vec![Statement::Protocol(port.protocol), Statement::TranslateDestination(target)];
        self.chain(&endpoint_chain(port, endpoint), vec![remember, translate]);
    }

    /// Traffic to node ports, external and load balancer addresses; on to the chain `then` at last.
    fn external_chain(&mut self, chain: &str, port: &ServicePort, cluster_chain: &str, then: Option<&String>) {
        let mark = || Statement::SetMark { mask: MASQUERADE_MARK };
        let mut rules = Vec::new();
        if port.external_local {
            // Pods and the node itself are treated as if their packets had gone out and come back.
            if let Some(pods) = self.pod_range {
                rules.push(vec![Statement::Source(Is::In, pods), Statement::Verdict(goto(cluster_chain))]);
            }
            rules.push(vec![Statement::SourceIsLocal, mark()]);
            rules.push(vec![Statement::SourceIsLocal, Statement::Verdict(goto(cluster_chain))]);
        } else {
            rules.push(vec![mark()]);
        }
        rules.extend(then.map(|then| vec![Statement::Verdict(goto(then))]));
        self.chain(chain, rules);
    }

    /// Lets only the service's source ranges use the load balancer's addresses.
    fn firewall(&mut self, port: &ServicePort) {
        let chain = name("firewall", port, "");
        let allow = |range: &Prefix| vec![Statement::Source(Is::In, *range), Statement::Verdict(Verdict::Return)];
        let mut rules: Vec<Rule> = port.source_ranges.iter().map(allow).collect();
        rules.push(vec![Statement::Verdict(Verdict::Drop)]);
        self.chain(&chain, rules);
        for address in &port.load_balancer_ips {
            self.element("firewall-ips", service_key(port, *address), Some(goto(&chain)));
        }
    }

    fn chain(&mut self, name: &str, rules: Vec<Rule>) {
        self.table.chains.insert(name.to_owned(), Chain { base: None, rules });
    }

    /// The first of several claims on one key wins (two services may name one external address).
    fn element(&mut self, set: &str, key: Vec<Value>, verdict: Option<Verdict>) {
        if let Some(set) = self.table.sets.get_mut(set) {
            set.elements.entry(key).or_insert(verdict);
        }
    }
}

fn service_key(port: &ServicePort, address: Ipv4Addr) -> Vec<Value> {
    vec![Value::Address(address), Value::Protocol(port.protocol), Value::Port(port.port)]
}

fn endpoint_chain(port: &ServicePort, endpoint: &Endpoint) -> String {
    name("endpoint", port, &format!("__{}/{}", endpoint.address, endpoint.port))
}

/// The time limit is part of the name: a set cannot change it.
fn affinity_set(port: &ServicePort, endpoint: &Endpoint) -> String {
    let seconds = port.affinity.unwrap_or_default().as_secs();
    name("affinity", port, &format!("__{}/{}/{seconds}", endpoint.address, endpoint.port))
}

/// `prefix-HASH-namespace/name/protocol/port` and `suffix`, cut where too long; the hash keeps cut names apart.
fn name(prefix: &str, port: &ServicePort, suffix: &str) -> String {
    // FNV-1a.
    let bytes = port.id.bytes().chain(suffix.bytes());
    let hash = bytes.fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let mut name = format!("{prefix}-{hash:08x}-{}{suffix}", port.id);
    name.truncate(NAME_MAX);
    name
}

/// Elements of a set, for reports and tests.
pub fn elements<'a>(table: &'a Table, set: &str) -> &'a BTreeMap<Vec<Value>, Option<Verdict>> {
    static EMPTY: BTreeMap<Vec<Value>, Option<Verdict>> = BTreeMap::new();
    table.sets.get(set).map_or(&EMPTY, |set| &set.elements)
}
