//! Which service has which address and which nodes stand behind it: pure.
//!
//! Source of the rules: kubernetes staging/src/k8s.io/cloud-provider/controllers/service/controller.go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::Arc;

use daruma_api::core::v1::{Node, Service};
use daruma_api::meta::ObjectExt;

use super::health::Target;
use crate::agent::plan::internal_address;
use crate::proxy::plan::{Plan as Rules, relay};
use crate::proxy::services::{Endpoint, EndpointMap, ServicePort, service_ports};

/// The `loadBalancerClass` that is ours beside none at all.
pub const CLASS: &str = "daruma.dev/load-balancer";
/// Keeps a service until its load balancer is gone (cloud-provider/service/helpers LoadBalancerCleanupFinalizer).
pub const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";
/// Nodes with this label get nothing from load balancers, whatever its value.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// Nodes with this taint are about to go.
const LEAVING: &str = "ToBeDeletedByClusterAutoscaler";
/// Health port of kube-proxy.
const PROXY_HEALTH_PORT: u16 = 10256;

/// The addresses to give out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pool(BTreeSet<Ipv4Addr>);

/// The text says no addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no list of IPv4 addresses and ranges (FIRST-LAST of at most 65536), separated by commas")]
pub struct PoolError(String);

impl Pool {
    /// Whether an address is one of them.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.0.contains(&address)
    }
}

impl FromIterator<Ipv4Addr> for Pool {
    fn from_iter<I: IntoIterator<Item = Ipv4Addr>>(addresses: I) -> Self {
        Self(addresses.into_iter().collect())
    }
}

impl FromStr for Pool {
    type Err = PoolError;

    fn from_str(text: &str) -> Result<Self, PoolError> {
        let refused = || PoolError(text.to_owned());
        let mut addresses = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let parse = |text: &str| text.trim().parse::<Ipv4Addr>().map(u32::from).map_err(|_| refused());
            let (first, last) = (parse(first)?, parse(last)?);
            if first > last || last - first > 0xffff {
                return Err(refused());
            }
            addresses.extend((first..=last).map(Ipv4Addr::from));
        }
        Ok(Self(addresses))
    }
}

/// What the plan is made from.
pub struct Seen<'a> {
    /// All services.
    pub services: &'a [Arc<Service>],
    /// Nodes that stand behind load balancers, as [`hosts`] gives them.
    pub hosts: &'a BTreeMap<String, Ipv4Addr>,
    /// The addresses to give out.
    pub pool: &'a Pool,
    /// Whether a target takes connections.
    pub is_up: &'a dyn Fn(&Target) -> bool,
}

/// What should be.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Packet rules, and connections to be forgotten.
    pub rules: Rules,
    /// Addresses that are to be answered for.
    pub addresses: BTreeSet<Ipv4Addr>,
}

/// Makes the plan.
pub fn plan(seen: &Seen<'_>) -> Plan {
    let assigned = assign(seen.services, seen.pool);
    let mut endpoints = EndpointMap::new();
    let mut ports = Vec::new();
    for service in seen.services {
        let Some(address) = assigned.get(&service.key()) else { continue };
        let health_port = health_port(service);
        for port in service_ports(std::slice::from_ref(service)) {
            let behind = |host: &Ipv4Addr, node_port| {
                let up = (seen.is_up)(&Target { address: *host, port: health_port });
                let none = BTreeSet::new;
                Endpoint {
                    address: *host,
                    port: node_port,
                    local: false,
                    ready: up,
                    serving: up,
                    terminating: false,
                    zone_hints: none(),
                    node_hints: none(),
                }
            };
            let list = port.node_port.map(|node_port| seen.hosts.values().map(|host| behind(host, node_port)).collect());
            endpoints.insert((port.service.clone(), port.port_name.clone(), port.protocol), list.unwrap_or_default());
            ports.push(frontend(port, *address));
        }
    }
    Plan { rules: relay(&ports, &endpoints), addresses: assigned.into_values().collect() }
}

/// The port as it stands on the load balancer's address alone.
fn frontend(port: ServicePort, address: Ipv4Addr) -> ServicePort {
    // Whom the source ranges let in is looked at where the port names an address for it.
    let guarded = if port.source_ranges.is_empty() { Vec::new() } else { vec![address] };
    ServicePort {
        cluster_ip: address,
        node_port: None,
        external_ips: Vec::new(),
        load_balancer_ips: guarded,
        internal_local: false,
        external_local: false,
        health_check_node_port: None,
        ..port
    }
}

/// What has to be asked so that the plan can be made.
pub fn targets(services: &[Arc<Service>], hosts: &BTreeMap<String, Ipv4Addr>) -> BTreeSet<Target> {
    let ports: BTreeSet<u16> = services.iter().filter(|service| wants(service)).map(|service| health_port(service)).collect();
    let of_host = |address: &Ipv4Addr| {
        let address = *address;
        ports.iter().map(move |port| Target { address, port: *port }).collect::<Vec<_>>()
    };
    hosts.values().flat_map(of_host).collect()
}

/// Where a node is asked. With the policy `Cluster` its kube-proxy, so that a node is judged by itself and not by the pod
/// that happens to answer (kubernetes KEP-3458); with `Local` the port that tells of the service's own endpoints there.
fn health_port(service: &Service) -> u16 {
    let spec = service.spec.as_ref();
    let local = spec.filter(|spec| spec.external_traffic_policy.as_deref() == Some("Local"));
    let port = local.and_then(|spec| u16::try_from(spec.health_check_node_port?).ok()).filter(|port| *port != 0);
    port.unwrap_or(PROXY_HEALTH_PORT)
}

/// Nodes that connections may be given to, by name, with their addresses (controller.go stableNodeSetPredicates: whether
/// a node is Ready does not matter, its health checks do). Clouds leave out nodes without a `providerID`, too; here nobody
/// sets one.
pub fn hosts(nodes: &[Arc<Node>]) -> BTreeMap<String, Ipv4Addr> {
    let is_leaving = |node: &Node| {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
        taints.into_iter().flatten().any(|taint| taint.key == LEAVING)
    };
    let included = nodes.iter().filter(|node| !node.is_being_deleted() && !is_excluded(node) && !is_leaving(node));
    included.filter_map(|node| Some((node.name().to_owned(), internal_address(node)?))).collect()
}

/// Whether a change of a node makes all load balancers look at the nodes again. The taint of a node about to go does not:
/// its health checks take it out, so that connections it has can end (controller.go shouldSyncUpdatedNode).
pub fn concerns_hosts(old: &Node, new: &Node) -> bool {
    is_excluded(old) != is_excluded(new) || internal_address(old) != internal_address(new)
}

fn is_excluded(node: &Node) -> bool {
    node.label(EXCLUDED).is_some()
}

/// A service that is to have a load balancer of ours.
pub fn wants(service: &Service) -> bool {
    has_our_type(service) && !service.is_being_deleted()
}

/// A service of type LoadBalancer that no other class of load balancers sees to.
pub fn has_our_type(service: &Service) -> bool {
    let class = service.spec.as_ref().and_then(|spec| spec.load_balancer_class.as_deref());
    is_balancer(service) && matches!(class, None | Some(CLASS))
}

fn is_balancer(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"))
}

/// A service that had one and shall not have it any more.
pub fn needs_cleanup(service: &Service) -> bool {
    let class = service.spec.as_ref().and_then(|spec| spec.load_balancer_class.as_deref());
    has_finalizer(service) && matches!(class, None | Some(CLASS)) && (service.is_being_deleted() || !is_balancer(service))
}

/// Whether it waits for us before it goes.
pub fn has_finalizer(service: &Service) -> bool {
    service.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// Addresses that its status tells.
pub fn told(service: &Service) -> Vec<Ipv4Addr> {
    let ingress = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    ingress.into_iter().flatten().filter_map(|ingress| ingress.ip.as_ref()?.parse().ok()).collect()
}

/// Addresses by service (`namespace/name`). What a service has it keeps; then those that ask for one (`loadBalancerIP`)
/// get it, then the lowest free ones go to the oldest. Services beyond the last address get none.
pub fn assign(services: &[Arc<Service>], pool: &Pool) -> BTreeMap<String, Ipv4Addr> {
    let mut waiting: Vec<&Arc<Service>> = services.iter().filter(|service| wants(service)).collect();
    waiting.sort_by_cached_key(|service| (service.metadata.creation_timestamp.as_ref().map(|created| created.0), service.key()));
    let asked = |service: &Service| -> Option<Ipv4Addr> {
        service.spec.as_ref()?.load_balancer_ip.as_ref()?.parse().ok().filter(|address| pool.contains(*address))
    };
    let has = |service: &Service| {
        let kept = told(service).into_iter().find(|address| pool.contains(*address))?;
        // One that asks for another is moved.
        asked(service).is_none_or(|asked| asked == kept).then_some(kept)
    };
    let mut assigned = BTreeMap::new();
    let mut free = pool.0.clone();
    for choice in [&has as &dyn Fn(&Service) -> Option<Ipv4Addr>, &asked] {
        waiting.retain(|service| match choice(service).filter(|address| free.remove(address)) {
            Some(address) => assigned.insert(service.key(), address).is_some(),
            None => true,
        });
    }
    assigned.extend(waiting.into_iter().map(|service| service.key()).zip(free));
    assigned
}
