//! What a name of the cluster's zone means: pure.
//!
//! Source: the Kubernetes DNS-Based Service Discovery specification 1.1.0, and CoreDNS' plugin
//! `kubernetes` (handler.go, kubernetes.go, reverse.go) with `pods insecure` and `ttl 30`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use daruma_api::core::v1::Service;
use daruma_api::discovery::v1::{Endpoint, EndpointSlice};
use daruma_api::meta::ObjectExt;
use hickory_proto::rr::rdata::{CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::directory::Directory;

/// Seconds for which clients may keep an answer.
pub const TTL: u32 = 30;
/// Version of the specification, as `dns-version` tells it.
const SPECIFICATION: &str = "1.1.0";

/// The cluster's zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// E.g. `cluster.local.`
    pub domain: Name,
    /// Namespace and name of the service of DNS itself.
    pub own_service: (String, String),
    /// Serial number of the zone.
    pub serial: u32,
}

/// What a question gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// These records, and more that the client will ask for next.
    Records(Vec<Record>, Vec<Record>),
    /// The name is another name for `1`, which has to be looked up.
    Alias(Box<Record>, Name),
    /// The name exists, but has nothing of this type.
    NoData,
    /// There is no such name.
    NoName,
    /// Not of our zone.
    Elsewhere,
}

impl Zone {
    /// Answers a question of class IN.
    pub fn answer(&self, directory: &dyn Directory, name: &Name, kind: RecordType) -> Answer {
        if self.domain.zone_of(name) {
            let labels: Vec<String> = name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
            let own: Vec<&str> =
                labels[..labels.len() - usize::from(self.domain.num_labels())].iter().map(String::as_str).collect();
            return self.inside(directory, name, &own, kind);
        }
        match reverse_address(name) {
            Some(address) => self.pointer(directory, name, address, kind),
            None => Answer::Elsewhere,
        }
    }

    /// The record that says until when a missing name may be taken as missing.
    pub fn authority(&self) -> Record {
        let server = self.child(&["ns", "dns"]);
        let person = self.child(&["hostmaster"]);
        let soa = SOA::new(server, person, self.serial, 7200, 1800, 86_400, TTL);
        Record::from_rdata(self.domain.clone(), TTL, RData::SOA(soa))
    }

    fn inside(&self, directory: &dyn Directory, name: &Name, labels: &[&str], kind: RecordType) -> Answer {
        let known = |exists: bool| if exists { Answer::NoData } else { Answer::NoName };
        match labels {
            [] => match kind {
                RecordType::SOA => Answer::Records(vec![self.authority()], Vec::new()),
                RecordType::NS => {
                    let server = self.child(&["ns", "dns"]);
                    let addresses = self.own_addresses(directory).into_iter().map(|address| at(&server, address)).collect();
                    Answer::Records(vec![Record::from_rdata(name.clone(), TTL, RData::NS(NS(server)))], addresses)
                }
                _ => Answer::NoData,
            },
            ["dns-version"] if kind == RecordType::TXT => {
                let text = TXT::new(vec![SPECIFICATION.to_owned()]);
                Answer::Records(vec![Record::from_rdata(name.clone(), TTL, RData::TXT(text))], Vec::new())
            }
            ["dns-version" | "dns" | "svc" | "pod"] => Answer::NoData,
            ["ns", "dns"] => addresses(name, &self.own_addresses(directory), kind),
            [namespace, "svc" | "pod"] => known(directory.has_namespace(namespace)),
            [address, namespace, "pod"] if directory.has_namespace(namespace) => match dashed_address(address) {
                Some(address) => addresses(name, &[address], kind),
                None => Answer::NoName,
            },
            [service, namespace, "svc"] => self.service(directory, name, (namespace, service), Part::Whole, kind),
            [endpoint, service, namespace, "svc"] => {
                self.service(directory, name, (namespace, service), Part::Endpoint(endpoint), kind)
            }
            [port, protocol, service, namespace, "svc"] => match (port.strip_prefix('_'), protocol.strip_prefix('_')) {
                (Some(port), Some(protocol)) => {
                    self.service(directory, name, (namespace, service), Part::Port(port, protocol), kind)
                }
                _ => Answer::NoName,
            },
            _ => Answer::NoName,
        }
    }

    fn service(
        &self,
        directory: &dyn Directory,
        name: &Name,
        (namespace, service): (&str, &str),
        part: Part<'_>,
        kind: RecordType,
    ) -> Answer {
        let Some(object) = directory.service(namespace, service) else { return Answer::NoName };
        let Some(spec) = &object.spec else { return Answer::NoName };
        if spec.type_.as_deref() == Some("ExternalName") {
            let target = spec.external_name.as_deref().and_then(|target| Name::from_ascii(target).ok());
            return match (target, part) {
                (Some(mut target), Part::Whole) => {
                    target.set_fqdn(true);
                    let record = Record::from_rdata(name.clone(), TTL, RData::CNAME(CNAME(target.clone())));
                    Answer::Alias(Box::new(record), target)
                }
                _ => Answer::NoName,
            };
        }
        let own_name = self.child(&[service, namespace, "svc"]);
        let targets = if is_headless(&object) || matches!(part, Part::Endpoint(_)) {
            endpoint_targets(&directory.slices(namespace, service), part, &own_name)
        } else {
            service_targets(&object, part, &own_name)
        };
        if targets.is_empty() {
            return Answer::NoName;
        }
        if kind == RecordType::SRV {
            return servers(name, &targets);
        }
        let found: BTreeSet<IpAddr> = targets.iter().map(|target| target.address).collect();
        addresses(name, &found.into_iter().collect::<Vec<_>>(), kind)
    }

    fn pointer(&self, directory: &dyn Directory, name: &Name, address: IpAddr, kind: RecordType) -> Answer {
        let of_service = |service: &Arc<Service>| self.child(&[service.name(), service.namespace(), "svc"]);
        let mut names: Vec<Name> = directory.services_at(address).iter().map(of_service).collect();
        if names.is_empty() {
            for slice in directory.slices_at(address) {
                let Some(service) = slice.label("kubernetes.io/service-name") else { continue };
                let here =
                    slice.endpoints.iter().flatten().filter(|endpoint| addresses_of(endpoint).any(|found| found == address));
                // Only endpoints with a host name of their own have one name to be found by.
                let hostnames = here.filter_map(|endpoint| endpoint.hostname.as_deref());
                names.extend(hostnames.map(|hostname| self.child(&[hostname, service, slice.namespace(), "svc"])));
            }
        }
        names.sort();
        names.dedup();
        if names.is_empty() {
            return Answer::Elsewhere;
        }
        if kind != RecordType::PTR {
            return Answer::NoData;
        }
        let record = |target: Name| Record::from_rdata(name.clone(), TTL, RData::PTR(PTR(target)));
        Answer::Records(names.into_iter().map(record).collect(), Vec::new())
    }

    fn own_addresses(&self, directory: &dyn Directory) -> Vec<IpAddr> {
        let service = directory.service(&self.own_service.0, &self.own_service.1);
        service.map(|service| cluster_addresses(&service)).unwrap_or_default()
    }

    /// A name below the zone. Names of objects always fit; one that does not becomes the zone itself.
    fn child(&self, labels: &[&str]) -> Name {
        let text = format!("{}.{}", labels.join("."), self.domain);
        Name::from_ascii(text).unwrap_or_else(|_| self.domain.clone())
    }
}

/// Which part of a service is meant.
#[derive(Clone, Copy)]
enum Part<'a> {
    Whole,
    Endpoint(&'a str),
    Port(&'a str, &'a str),
}

impl Part<'_> {
    fn has_port(self, name: Option<&str>, protocol: Option<&str>) -> bool {
        match self {
            Self::Port(port, wanted) => {
                name.unwrap_or_default().eq_ignore_ascii_case(port) && protocol.unwrap_or("TCP").eq_ignore_ascii_case(wanted)
            }
            _ => true,
        }
    }
}

/// Where a service can be reached.
struct Target {
    name: Name,
    address: IpAddr,
    /// `None` for an endpoint without ports.
    port: Option<u16>,
}

fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"))
}

fn cluster_addresses(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let several = spec.cluster_ips.iter().flatten();
    let mut found: Vec<IpAddr> = several.chain(&spec.cluster_ip).filter_map(|address| address.parse().ok()).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn service_targets(service: &Service, part: Part<'_>, name: &Name) -> Vec<Target> {
    let addresses = cluster_addresses(service);
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let ports = ports.filter(|port| part.has_port(port.name.as_deref(), port.protocol.as_deref()));
    let at = |port: u16| addresses.iter().map(move |address| Target { name: name.clone(), address: *address, port: Some(port) });
    ports.flat_map(|port| at(u16::try_from(port.port).unwrap_or_default())).collect()
}

fn endpoint_targets(slices: &[Arc<EndpointSlice>], part: Part<'_>, service: &Name) -> Vec<Target> {
    let mut targets = Vec::new();
    for slice in slices {
        let ports: Vec<Option<u16>> = match &slice.ports {
            Some(ports) if !ports.is_empty() => ports
                .iter()
                .filter(|port| part.has_port(port.name.as_deref(), port.protocol.as_deref()))
                .map(|port| port.port.and_then(|port| u16::try_from(port).ok()))
                .collect(),
            _ if matches!(part, Part::Port(..)) => Vec::new(),
            _ => vec![None],
        };
        let ready = |endpoint: &&Endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
        for endpoint in slice.endpoints.iter().flatten().filter(ready) {
            for address in addresses_of(endpoint) {
                let label = endpoint_label(endpoint, address);
                let meant = match part {
                    Part::Endpoint(wanted) => label.eq_ignore_ascii_case(wanted),
                    _ => true,
                };
                let name = service.prepend_label(label.as_str());
                if let (true, Ok(name)) = (meant, name) {
                    targets.extend(ports.iter().map(|port| Target { name: name.clone(), address, port: *port }));
                }
            }
        }
    }
    targets
}

fn addresses_of(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> + '_ {
    endpoint.addresses.iter().filter_map(|address| address.parse().ok())
}

fn endpoint_label(endpoint: &Endpoint, address: IpAddr) -> String {
    match endpoint.hostname.as_deref() {
        Some(hostname) if !hostname.is_empty() => hostname.to_owned(),
        _ => address.to_string().replace(['.', ':'], "-"),
    }
}

/// Address records of the family that was asked for.
fn addresses(name: &Name, all: &[IpAddr], kind: RecordType) -> Answer {
    let fits = |address: &&IpAddr| match kind {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        _ => false,
    };
    let records: Vec<Record> = all.iter().filter(fits).map(|address| at(name, *address)).collect();
    if records.is_empty() { Answer::NoData } else { Answer::Records(records, Vec::new()) }
}

fn at(name: &Name, address: IpAddr) -> Record {
    Record::from_rdata(name.clone(), TTL, RData::from(address))
}

/// One server record a name and port, with the addresses behind them.
fn servers(name: &Name, targets: &[Target]) -> Answer {
    let servers: BTreeSet<(&Name, u16)> = targets.iter().filter_map(|target| Some((&target.name, target.port?))).collect();
    if servers.is_empty() {
        return Answer::NoData;
    }
    // All weigh the same, a hundred together.
    let weight = (100 / servers.len()).max(1) as u16;
    let record = |(target, port): &(&Name, u16)| {
        Record::from_rdata(name.clone(), TTL, RData::SRV(SRV::new(0, weight, *port, (*target).clone())))
    };
    let addresses: BTreeSet<(&Name, IpAddr)> = targets.iter().map(|target| (&target.name, target.address)).collect();
    let additional = addresses.into_iter().map(|(name, address)| at(name, address)).collect();
    Answer::Records(servers.iter().map(record).collect(), additional)
}

/// `10-244-1-2` of a pod's name. An IPv6 address has `-` for `:`.
fn dashed_address(label: &str) -> Option<IpAddr> {
    let dotted = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::from);
    dotted.ok().or_else(|| label.replace('-', ":").parse::<std::net::Ipv6Addr>().ok().map(IpAddr::from))
}

/// The single address that a name below `in-addr.arpa` or `ip6.arpa` stands for.
fn reverse_address(name: &Name) -> Option<IpAddr> {
    let network = name.parse_arpa_name().ok()?;
    (network.prefix_len() == network.max_prefix_len()).then(|| network.addr())
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
