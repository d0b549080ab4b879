//! Services and their endpoints as the proxy sees them.
//!
//! Source: kubernetes pkg/proxy/serviceport.go, endpoint.go, endpointslicecache.go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::Service;
use daruma_api::discovery::v1::EndpointSlice;
use daruma_api::meta::ObjectExt;
use daruma_world::links::Prefix;
use daruma_world::packet_rules::Protocol;

/// Default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const DEFAULT_AFFINITY_SECONDS: u64 = 10_800;
/// Services and slices with this label belong to another proxy.
const OTHER_PROXY_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// Slices of headless services carry this label; nothing is proxied to them.
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// One port of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// `namespace/name/protocol/port name`.
    pub id: String,
    /// `namespace/name`.
    pub service: String,
    /// Name of the port; may be empty.
    pub port_name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// The service's own address.
    pub cluster_ip: Ipv4Addr,
    /// Port on the service's addresses.
    pub port: u16,
    /// Port on every node.
    pub node_port: Option<u16>,
    /// `externalIPs`.
    pub external_ips: Vec<Ipv4Addr>,
    /// Load balancer addresses that packets still carry when they reach a node.
    pub load_balancer_ips: Vec<Ipv4Addr>,
    /// Who may use the load balancer's addresses; empty is everybody.
    pub source_ranges: Vec<Prefix>,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// How long a client stays with an endpoint after its last connection.
    pub affinity: Option<Duration>,
    /// Port on every node that tells load balancers whether the service has endpoints there.
    pub health_check_node_port: Option<u16>,
}

impl ServicePort {
    /// Whether any address beside the cluster's own leads to it.
    pub fn externally_accessible(&self) -> bool {
        self.node_port.is_some() || !self.external_ips.is_empty() || !self.load_balancer_ips.is_empty()
    }

    /// Whether some traffic goes to endpoints of the whole cluster.
    pub fn uses_cluster_endpoints(&self) -> bool {
        // Pods reach external addresses of a Local service on endpoints anywhere, too.
        !self.internal_local || self.externally_accessible()
    }

    /// Whether some traffic goes to this node's endpoints only.
    pub fn uses_local_endpoints(&self) -> bool {
        self.internal_local || (self.external_local && self.externally_accessible())
    }
}

/// One endpoint of a service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Pod address.
    pub address: Ipv4Addr,
    /// Port.
    pub port: u16,
    /// It is on this node.
    pub local: bool,
    /// It takes new connections.
    pub ready: bool,
    /// It answers, though it may be about to end.
    pub serving: bool,
    /// It is about to end.
    pub terminating: bool,
    /// Zones that should prefer it.
    pub zone_hints: BTreeSet<String>,
    /// Nodes that should prefer it.
    pub node_hints: BTreeSet<String>,
}

/// Ports of all services that are proxied, in order of their ids.
pub fn service_ports(services: &[Arc<Service>]) -> Vec<ServicePort> {
    let mut ports: Vec<ServicePort> = services.iter().flat_map(|service| ports_of(service)).collect();
    ports.sort_by(|a, b| a.id.cmp(&b.id));
    ports.dedup_by(|a, b| a.id == b.id);
    ports
}

fn ports_of(service: &Service) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else { return Vec::new() };
    if spec.type_.as_deref() == Some("ExternalName") || service.label(OTHER_PROXY_LABEL).is_some() {
        return Vec::new();
    }
    // Of a dual-stack service the IPv4 address; headless ones ("None") do not parse.
    let mut addresses = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let Some(cluster_ip) = addresses.find_map(|address| address.parse::<Ipv4Addr>().ok()) else { return Vec::new() };
    let parse_all = |list: &Option<Vec<String>>| -> Vec<Ipv4Addr> {
        list.iter().flatten().filter_map(|address| address.parse().ok()).collect()
    };
    let ingress = service.status.iter().filter_map(|status| status.load_balancer.as_ref()?.ingress.as_ref()).flatten();
    let load_balancer_ips = ingress
        .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|ingress| ingress.ip.as_ref()?.parse().ok())
        .collect::<Vec<Ipv4Addr>>();
    let source_ranges: Vec<Prefix> =
        spec.load_balancer_source_ranges.iter().flatten().filter_map(|range| range.trim().parse().ok()).collect();
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let configured = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
        Duration::from_secs(configured.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(DEFAULT_AFFINITY_SECONDS))
    });
    let number = |port: Option<i32>| port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    let external_local = spec.external_traffic_policy.as_deref() == Some("Local");
    // pkg/api/v1/service/util.go NeedsHealthCheck.
    let needs_health_check = spec.type_.as_deref() == Some("LoadBalancer") && external_local;
    let health_check_node_port = number(spec.health_check_node_port).filter(|_| needs_health_check);
    let port = |port: &daruma_api::core::v1::ServicePort| {
        let protocol = protocol(port.protocol.as_deref())?;
        let port_name = port.name.clone().unwrap_or_default();
        Some(ServicePort {
            id: format!("{}/{}/{}", service.key(), protocol.name(), port_name),
            service: service.key(),
            port_name,
            protocol,
            cluster_ip,
            port: u16::try_from(port.port).ok()?,
            node_port: number(port.node_port),
            external_ips: parse_all(&spec.external_ips),
            load_balancer_ips: load_balancer_ips.clone(),
            source_ranges: source_ranges.clone(),
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local,
            affinity,
            health_check_node_port,
        })
    };
    spec.ports.iter().flatten().filter_map(port).collect()
}

/// Endpoints by service (`namespace/name`), port name and protocol; each list ordered by address and port.
pub type EndpointMap = BTreeMap<(String, String, Protocol), Vec<Endpoint>>;

/// The endpoints of all slices.
pub fn endpoints(slices: &[Arc<EndpointSlice>], node_name: &str) -> EndpointMap {
    type ByAddress = BTreeMap<(Ipv4Addr, u16), Endpoint>;
    let mut found: BTreeMap<(String, String, Protocol), ByAddress> = BTreeMap::new();
    for slice in slices {
        let Some(service) = slice.label("kubernetes.io/service-name") else { continue };
        let ignored = slice.label(OTHER_PROXY_LABEL).is_some() || slice.label(HEADLESS_LABEL).is_some();
        if ignored || slice.address_type != "IPv4" || slice.is_being_deleted() {
            continue;
        }
        let service = format!("{}/{service}", slice.namespace());
        for port in slice.ports.iter().flatten() {
            let (Some(protocol), Some(number)) =
                (protocol(port.protocol.as_deref()), port.port.and_then(|port| u16::try_from(port).ok()))
            else {
                continue;
            };
            let list = found.entry((service.clone(), port.name.clone().unwrap_or_default(), protocol)).or_default();
            for endpoint in slice.endpoints.iter().flatten() {
                let Some(endpoint) = endpoint_of(endpoint, number, node_name) else { continue };
                // During a change of slices an endpoint may be in two; the better news wins.
                let entry = list.entry((endpoint.address, endpoint.port)).or_insert_with(|| endpoint.clone());
                if (endpoint.ready, endpoint.serving) > (entry.ready, entry.serving) {
                    *entry = endpoint;
                }
            }
        }
    }
    found.into_iter().map(|(key, list)| (key, list.into_values().collect())).collect()
}

fn endpoint_of(endpoint: &daruma_api::discovery::v1::Endpoint, port: u16, node_name: &str) -> Option<Endpoint> {
    let address = endpoint.addresses.first()?.parse().ok()?;
    let conditions = endpoint.conditions.as_ref();
    let hints = endpoint.hints.as_ref();
    Some(Endpoint {
        address,
        port,
        local: endpoint.node_name.as_deref() == Some(node_name),
        // A missing condition is to be read as true, missing "terminating" as false.
        ready: conditions.and_then(|conditions| conditions.ready).unwrap_or(true),
        serving: conditions.and_then(|conditions| conditions.serving).unwrap_or(true),
        terminating: conditions.and_then(|conditions| conditions.terminating).unwrap_or(false),
        zone_hints: hints
            .and_then(|hints| hints.for_zones.as_ref())
            .into_iter()
            .flatten()
            .map(|zone| zone.name.clone())
            .collect(),
        node_hints: hints
            .and_then(|hints| hints.for_nodes.as_ref())
            .into_iter()
            .flatten()
            .map(|node| node.name.clone())
            .collect(),
    })
}

/// Missing is TCP; unknown protocols are not proxied.
fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name {
        None | Some("" | "TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(_) => None,
    }
}
