//! The `Endpoints` object of a service.
//!
//! Source: kubernetes pkg/controller/endpoint/endpoints_controller.go; pkg/api/v1/endpoints/util.go.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service};
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::ObjectMeta;
use jiff::Timestamp;

use crate::endpoint_slice::plan::{HEADLESS, TRIGGER_TIME};
use crate::pods;
use crate::services::{self, addresses, counts, hostname, target_port, trigger_text};

/// Addresses that one object may have.
pub const CAPACITY: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";

/// The object to write; `None` when the present one is right.
pub fn plan(service: &Service, pods: &[Arc<Pod>], present: Option<&Endpoints>, trigger: Option<Timestamp>) -> Option<Endpoints> {
    let subsets = subsets(service, pods);
    if let Some(present) = present {
        let same = in_order(present.subsets.as_deref().unwrap_or_default()) == subsets;
        if same && labels_are_right(service, present) && capacity_is_right(present) {
            return None;
        }
    }
    let mut new = present.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        subsets: None,
    });
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    if services::has_address(service) {
        labels.remove(HEADLESS);
    } else {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    new.metadata.labels = Some(labels);
    let mut subsets = subsets;
    let truncated = truncate(&mut subsets);
    new.subsets = (!subsets.is_empty()).then_some(subsets);
    let annotations = new.metadata.annotations.get_or_insert_default();
    annotations.remove(TRIGGER_TIME);
    annotations.extend(trigger.map(|time| (TRIGGER_TIME.to_owned(), trigger_text(time))));
    annotations.remove(OVER_CAPACITY);
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    }
    Some(new)
}

/// Addresses grouped by the ports that they have in common.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let not_ready_too = services::publishes_not_ready(service);
    let service_ports = services::spec(service).and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    // By ports (as sorted text): the ports, ready and other addresses by ip and uid.
    type Group = (Vec<EndpointPort>, BTreeMap<(String, String), EndpointAddress>, BTreeMap<(String, String), EndpointAddress>);
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| counts(pod, not_ready_too)) {
        let Some(address) = address(service, pod) else { continue };
        let mut ports: Vec<EndpointPort> = service_ports
            .iter()
            .filter_map(|port| {
                Some(EndpointPort {
                    name: port.name.clone().filter(|name| !name.is_empty()),
                    port: target_port(pod, port)?,
                    protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                    app_protocol: port.app_protocol.clone(),
                })
            })
            .collect();
        if ports.is_empty() && !(service_ports.is_empty() && services::is_headless(service)) {
            continue;
        }
        ports.sort_by_key(port_key);
        ports.dedup();
        let key = ports_key(&ports);
        let (_, ready, other) = groups.entry(key).or_insert_with(|| (ports, BTreeMap::new(), BTreeMap::new()));
        let place = if not_ready_too || pods::is_ready(pod) { ready } else { other };
        place.insert((address.ip.clone(), pod.uid().to_owned()), address);
    }
    let some = |addresses: BTreeMap<(String, String), EndpointAddress>| {
        (!addresses.is_empty()).then(|| addresses.into_values().collect::<Vec<_>>())
    };
    groups
        .into_values()
        .map(|(ports, ready, other)| EndpointSubset {
            addresses: some(ready),
            not_ready_addresses: some(other),
            ports: (!ports.is_empty()).then_some(ports),
        })
        .collect()
}

fn port_key(port: &EndpointPort) -> String {
    format!("{:?}/{}/{:?}/{:?}", port.name, port.port, port.protocol, port.app_protocol)
}

fn ports_key(ports: &[EndpointPort]) -> String {
    ports.iter().map(port_key).collect::<Vec<_>>().join(",")
}

fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    let spec = services::spec(service)?;
    let v6 = match spec.ip_families.as_deref().and_then(<[String]>::first) {
        Some(family) => family == "IPv6",
        None => spec.cluster_ip.as_deref().is_some_and(|ip| ip.contains(':')),
    };
    let ip = addresses(pod).into_iter().find(|ip| ip.contains(':') == v6)?;
    let node = pods::node_name(pod);
    Some(EndpointAddress {
        ip: ip.to_owned(),
        hostname: hostname(pod, service),
        node_name: (!node.is_empty()).then(|| node.to_owned()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: Some(pod.namespace().to_owned()),
            name: Some(pod.name().to_owned()),
            uid: Some(pod.uid().to_owned()),
            ..ObjectReference::default()
        }),
    })
}

/// Subsets as [`subsets`] makes them: in order, and without pods' revisions.
fn in_order(subsets: &[EndpointSubset]) -> Vec<EndpointSubset> {
    let addresses = |list: &mut Option<Vec<EndpointAddress>>| {
        for target in list.iter_mut().flatten().filter_map(|address| address.target_ref.as_mut()) {
            target.resource_version = None;
        }
        if let Some(list) = list {
            list.sort_by(|one, other| place(one).cmp(&place(other)));
        }
    };
    let mut subsets = subsets.to_vec();
    for subset in &mut subsets {
        subset.ports.iter_mut().for_each(|ports| ports.sort_by_key(port_key));
        addresses(&mut subset.addresses);
        addresses(&mut subset.not_ready_addresses);
    }
    subsets.sort_by_cached_key(|subset| ports_key(subset.ports.as_deref().unwrap_or_default()));
    subsets
}

/// What addresses are ordered by.
fn place(address: &EndpointAddress) -> (&str, Option<&str>) {
    (&address.ip, address.target_ref.as_ref().and_then(|target| target.uid.as_deref()))
}

fn labels_are_right(service: &Service, present: &Endpoints) -> bool {
    let own = [HEADLESS, MANAGED_BY];
    let strip = |labels: Option<&BTreeMap<String, String>>| {
        let mut labels = labels.cloned().unwrap_or_default();
        labels.retain(|key, _| !own.contains(&key.as_str()));
        labels
    };
    present.label(MANAGED_BY) == Some(CONTROLLER)
        && strip(present.metadata.labels.as_ref()) == strip(service.metadata.labels.as_ref())
}

fn length(addresses: Option<&Vec<EndpointAddress>>) -> usize {
    addresses.map_or(0, Vec::len)
}

fn capacity_is_right(present: &Endpoints) -> bool {
    let subsets = present.subsets.iter().flatten();
    let count: usize =
        subsets.map(|subset| length(subset.addresses.as_ref()) + length(subset.not_ready_addresses.as_ref())).sum();
    count <= CAPACITY && present.annotation(OVER_CAPACITY).is_none()
}

/// Cuts down to the capacity: ready addresses are kept first, in proportion over the subsets.
fn truncate(subsets: &mut [EndpointSubset]) -> bool {
    let ready: usize = subsets.iter().map(|subset| length(subset.addresses.as_ref())).sum();
    let other: usize = subsets.iter().map(|subset| length(subset.not_ready_addresses.as_ref())).sum();
    if ready + other <= CAPACITY {
        return false;
    }
    let cut_ready = ready > CAPACITY;
    let (most, total) = if cut_ready { (CAPACITY, ready) } else { (CAPACITY - ready, other) };
    let mut left = most;
    for subset in subsets {
        let list = if cut_ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        let share = (length(list.as_ref()) * most).div_ceil(total.max(1)).min(left);
        if let Some(list) = list {
            list.truncate(share);
            left -= list.len();
        }
        if cut_ready {
            subset.not_ready_addresses = None;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::{at, pod};
    use daruma_api::core::v1::{ServicePort, ServiceSpec};

    fn service() -> Service {
        Service {
            metadata: ObjectMeta { name: Some("web".into()), namespace: Some("default".into()), ..ObjectMeta::default() },
            spec: Some(ServiceSpec {
                cluster_ip: Some("10.96.0.9".to_owned()),
                ports: Some(vec![ServicePort { port: 80, ..ServicePort::default() }]),
                ..ServiceSpec::default()
            }),
            status: None,
        }
    }

    fn pods(count: usize, ready: usize) -> Vec<Arc<Pod>> {
        (0..count)
            .map(|number| {
                let mut pod = pod(&format!("p{number}"), "n", (number < ready).then_some(1));
                pod.status.as_mut().expect("built").pod_ip = Some(format!("10.0.{}.{}", number / 250, number % 250));
                Arc::new(pod)
            })
            .collect()
    }

    #[test]
    fn ready_and_other_addresses() {
        let endpoints = plan(&service(), &pods(3, 2), None, Some(at(3))).expect("new");
        let subset = &endpoints.subsets.as_ref().expect("some")[0];
        assert_eq!((length(subset.addresses.as_ref()), length(subset.not_ready_addresses.as_ref())), (2, 1));
        assert_eq!(endpoints.label(MANAGED_BY), Some(CONTROLLER));
        assert_eq!(plan(&service(), &pods(3, 2), Some(&endpoints), None), None);
        assert!(plan(&service(), &pods(3, 3), Some(&endpoints), None).is_some());
    }

    #[test]
    fn too_many_are_truncated_and_said_so() {
        let endpoints = plan(&service(), &pods(1200, 900), None, None).expect("new");
        let subset = &endpoints.subsets.as_ref().expect("some")[0];
        assert_eq!((length(subset.addresses.as_ref()), length(subset.not_ready_addresses.as_ref())), (900, 100));
        assert_eq!(endpoints.annotation(OVER_CAPACITY), Some("truncated"));
    }
}
