//! Which EndpointSlices a service needs.
//!
//! Source: kubernetes staging/src/k8s.io/endpointslice (reconciler.go, utils.go).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daruma_api::core::v1::{Node, ObjectReference, Pod, Service};
use daruma_api::discovery::v1::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone};
use daruma_api::meta::{ObjectExt, controller_reference};
use daruma_api::metav1::ObjectMeta;
use jiff::Timestamp;

use crate::pods;
use crate::services::{self, addresses, counts, hostname, target_port, trigger_text};

/// Label: the service that a slice belongs to.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label: who keeps the slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`] for this controller.
pub const CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// Label of a service without an address, and of its slices.
pub const HEADLESS: &str = "service.kubernetes.io/headless";
/// Annotation: since when the slice was out of date.
pub const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Writes, in this order.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Slices to create.
    pub create: Vec<EndpointSlice>,
    /// Slices to replace.
    pub update: Vec<EndpointSlice>,
    /// Names of slices to delete.
    pub delete: Vec<EndpointSlice>,
    /// A pod's node is not known: these endpoints are left out, and it must be looked again.
    pub incomplete: bool,
}

/// What is known.
pub struct Seen<'a> {
    /// The service.
    pub service: &'a Service,
    /// The pods that it selects.
    pub pods: &'a [Arc<Pod>],
    /// The slices that this controller keeps for it.
    pub slices: &'a [Arc<EndpointSlice>],
    /// Nodes by name.
    pub node: &'a dyn Fn(&str) -> Option<Arc<Node>>,
    /// Endpoints a slice may have.
    pub limit: usize,
    /// Since when the slices are out of date.
    pub trigger: Option<Timestamp>,
}

/// Decides.
pub fn plan(seen: &Seen) -> Plan {
    let mut plan = Plan::default();
    let types = address_types(seen.service);
    for kind in &types {
        plan_type(seen, kind, &mut plan);
    }
    let stale = seen.slices.iter().filter(|slice| !types.contains(&slice.address_type.as_str()));
    plan.delete.extend(stale.map(|slice| slice.as_ref().clone()));
    plan
}

/// Families of addresses that the service serves.
fn address_types(service: &Service) -> Vec<&'static str> {
    let family = |text: &str| if text == "IPv6" || text.contains(':') { "IPv6" } else { "IPv4" };
    let spec = services::spec(service);
    let families: Vec<&'static str> =
        spec.iter().flat_map(|spec| spec.ip_families.iter().flatten()).map(|text| family(text)).collect();
    if !families.is_empty() {
        return families;
    }
    if services::has_address(service) {
        return vec![family(spec.and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default())];
    }
    vec!["IPv4", "IPv6"]
}

/// Ports as comparable text.
type PortKey = String;

fn port_key(ports: &[EndpointPort]) -> PortKey {
    let mut parts: Vec<String> = ports
        .iter()
        .map(|port| {
            let EndpointPort { name, port, protocol, app_protocol } = port;
            format!("{name:?}/{port:?}/{protocol:?}/{app_protocol:?}")
        })
        .collect();
    parts.sort();
    parts.join(",")
}

fn plan_type(seen: &Seen, kind: &str, plan: &mut Plan) {
    let mut existing: BTreeMap<PortKey, Vec<&Arc<EndpointSlice>>> = BTreeMap::new();
    let own: Vec<&Arc<EndpointSlice>> = seen.slices.iter().filter(|slice| slice.address_type == kind).collect();
    for slice in &own {
        existing.entry(port_key(slice.ports.as_deref().unwrap_or_default())).or_default().push(slice);
    }
    let mut desired: BTreeMap<PortKey, (Vec<EndpointPort>, BTreeMap<String, Endpoint>)> = BTreeMap::new();
    for pod in seen.pods.iter().filter(|pod| counts(pod, true)) {
        let node = (seen.node)(pods::node_name(pod));
        if node.is_none() && !pods::node_name(pod).is_empty() && !services::publishes_not_ready(seen.service) {
            plan.incomplete = true;
            continue;
        }
        let Some(endpoint) = endpoint(seen.service, pod, node.as_deref(), kind) else { continue };
        let ports = ports(seen.service, pod);
        let set = &mut desired.entry(port_key(&ports)).or_insert_with(|| (ports, BTreeMap::new())).1;
        set.insert(identity(&endpoint), endpoint);
    }
    let mut part = Plan::default();
    for (key, (ports, mut endpoints)) in desired {
        let slices = existing.remove(&key).unwrap_or_default();
        fill(seen, kind, &ports, &slices, &mut endpoints, &mut part);
    }
    // Ports that nobody has any more.
    part.delete.extend(existing.into_values().flatten().map(|slice| slice.as_ref().clone()));
    if part.delete.len() == own.len() && part.create.is_empty() {
        placeholder(seen, kind, &mut part);
    }
    finish(seen, part, plan);
}

/// A service without endpoints keeps one empty slice.
fn placeholder(seen: &Seen, kind: &str, part: &mut Plan) {
    let empty = new_slice(seen.service, kind, &[]);
    let same = |slice: &EndpointSlice| {
        slice.endpoints.as_deref().unwrap_or_default().is_empty()
            && slice.ports.as_deref().unwrap_or_default().is_empty()
            && slice.metadata.labels == empty.metadata.labels
    };
    if let [only] = part.delete.as_slice()
        && same(only)
    {
        part.delete.clear();
    } else {
        part.create.push(empty);
    }
}

/// What an endpoint is, whatever its state: what stays in its slice while this stays.
fn identity(endpoint: &Endpoint) -> String {
    let target = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref()).unwrap_or_default();
    format!("{}/{target}/{}", endpoint.addresses.join(","), endpoint.hostname.as_deref().unwrap_or_default())
}

/// Distributes endpoints over slices with as few writes as possible.
fn fill(
    seen: &Seen,
    kind: &str,
    ports: &[EndpointPort],
    slices: &[&Arc<EndpointSlice>],
    left: &mut BTreeMap<String, Endpoint>,
    part: &mut Plan,
) {
    let mut unchanged: BTreeMap<String, EndpointSlice> = BTreeMap::new();
    let mut updated: BTreeMap<String, EndpointSlice> = BTreeMap::new();
    for slice in slices {
        let present = slice.endpoints.as_deref().unwrap_or_default();
        let kept: Vec<Endpoint> = present.iter().filter_map(|endpoint| left.remove(&identity(endpoint))).collect();
        let labels = labels(seen.service);
        if kept.is_empty() {
            part.delete.push(slice.as_ref().clone());
        } else if !same_endpoints(&kept, present) || slice.metadata.labels.as_ref() != Some(&labels) {
            let mut new = slice.as_ref().clone();
            new.endpoints = Some(kept);
            new.metadata.labels = Some(labels);
            updated.insert(new.name().to_owned(), new);
        } else {
            unchanged.insert(slice.name().to_owned(), slice.as_ref().clone());
        }
    }
    let mut left: Vec<Endpoint> = std::mem::take(left).into_values().collect();
    let room = |slice: &EndpointSlice| seen.limit.saturating_sub(slice.endpoints.as_ref().map_or(0, Vec::len));
    // Slices that are written anyway take what they can, the fullest first.
    let mut order: Vec<String> = updated.keys().cloned().collect();
    order.sort_by_key(|name| room(&updated[name]));
    for name in order {
        if let Some(slice) = updated.get_mut(&name) {
            let count = room(slice).min(left.len());
            slice.endpoints.get_or_insert_default().extend(left.drain(..count));
        }
    }
    while !left.is_empty() {
        let rest = left.len() % seen.limit;
        if left.len() < seen.limit {
            // The unchanged slice that it fits into best spares a new one.
            let fitting = unchanged.values().filter(|slice| room(slice) >= rest).min_by_key(|slice| room(slice));
            if let Some(name) = fitting.map(|slice| slice.name().to_owned())
                && let Some(mut slice) = unchanged.remove(&name)
            {
                slice.endpoints.get_or_insert_default().append(&mut left);
                updated.insert(name, slice);
                break;
            }
        }
        let count = left.len().min(seen.limit);
        let mut slice = new_slice(seen.service, kind, ports);
        slice.endpoints = Some(left.drain(..count).collect());
        part.create.push(slice);
    }
    part.update.extend(updated.into_values());
}

fn same_endpoints(a: &[Endpoint], b: &[Endpoint]) -> bool {
    // A pod's revision changes with every status and says nothing about its endpoint.
    let plain = |endpoint: &Endpoint| {
        let mut endpoint = endpoint.clone();
        if let Some(target) = &mut endpoint.target_ref {
            target.resource_version = None;
        }
        endpoint
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| plain(a) == plain(b))
}

/// Turns creations into updates of slices that would be deleted, and adds the trigger time.
fn finish(seen: &Seen, mut part: Plan, plan: &mut Plan) {
    let owned = |slice: &EndpointSlice| slice.controller().is_some_and(|owner| owner.uid == seen.service.uid());
    let mut deletions = Vec::new();
    for slice in part.delete {
        match part.create.pop() {
            Some(mut new) if owned(&slice) => {
                new.metadata.name.clone_from(&slice.metadata.name);
                new.metadata.generate_name = None;
                new.metadata.uid.clone_from(&slice.metadata.uid);
                new.metadata.resource_version.clone_from(&slice.metadata.resource_version);
                part.update.push(new);
            }
            spared => {
                part.create.extend(spared);
                deletions.push(slice);
            }
        }
    }
    for slice in part.create.iter_mut().chain(&mut part.update) {
        let annotations = slice.metadata.annotations.get_or_insert_default();
        match seen.trigger {
            Some(time) => {
                annotations.insert(TRIGGER_TIME.to_owned(), trigger_text(time));
            }
            None => {
                annotations.remove(TRIGGER_TIME);
            }
        }
        hint(seen.service, slice);
    }
    if !seen.service.is_being_deleted() {
        plan.create.extend(part.create);
    }
    plan.update.extend(part.update);
    plan.delete.extend(deletions);
}

fn hint(service: &Service, slice: &mut EndpointSlice) {
    let Some(wish) = services::spec(service).and_then(|spec| spec.traffic_distribution.as_deref()) else { return };
    let by_node = wish == "PreferSameNode";
    if !by_node && wish != "PreferClose" && wish != "PreferSameZone" {
        return;
    }
    for endpoint in slice.endpoints.iter_mut().flatten() {
        if endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(false) {
            continue;
        }
        let zones = endpoint.zone.clone().map(|name| vec![ForZone { name }]);
        let nodes = endpoint.node_name.clone().filter(|_| by_node).map(|name| vec![ForNode { name }]);
        endpoint.hints = (zones.is_some() || nodes.is_some()).then_some(EndpointHints { for_nodes: nodes, for_zones: zones });
    }
}

fn new_slice(service: &Service, kind: &str, ports: &[EndpointPort]) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.name())),
            namespace: service.metadata.namespace.clone(),
            owner_references: Some(vec![controller_reference(service)]),
            labels: Some(labels(service)),
            ..ObjectMeta::default()
        },
        address_type: kind.to_owned(),
        endpoints: Some(Vec::new()),
        ports: Some(ports.to_vec()),
    }
}

/// The slice's labels: the service's, and the controller's own.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let own = [SERVICE_NAME, MANAGED_BY, HEADLESS];
    let mut labels: BTreeMap<String, String> = service.metadata.labels.clone().unwrap_or_default();
    labels.retain(|key, _| !own.contains(&key.as_str()));
    if !services::has_address(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), service.name().to_owned());
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    labels
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let all = services::spec(service).and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let found = all.iter().filter_map(|port| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(target_port(pod, port)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
    });
    found.collect()
}

fn endpoint(service: &Service, pod: &Pod, node: Option<&Node>, kind: &str) -> Option<Endpoint> {
    let of_kind = |address: &&str| address.contains(':') == (kind == "IPv6");
    let own: BTreeSet<String> = addresses(pod).into_iter().filter(of_kind).map(str::to_owned).collect();
    let address = addresses(pod).into_iter().find(|address| own.contains(*address))?.to_owned();
    let serving = pods::is_ready(pod);
    let terminating = pod.is_being_deleted();
    let node_name = pods::node_name(pod);
    Some(Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(services::publishes_not_ready(service) || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(pod, service),
        node_name: (!node_name.is_empty()).then(|| node_name.to_owned()),
        zone: node.and_then(|node| node.label(ZONE)).filter(|zone| !zone.is_empty()).map(str::to_owned),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: Some(pod.namespace().to_owned()),
            name: Some(pod.name().to_owned()),
            uid: Some(pod.uid().to_owned()),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    })
}
