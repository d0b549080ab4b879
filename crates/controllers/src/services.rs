//! What both kinds of endpoints know of services and their pods.
//!
//! Source: kubernetes staging/src/k8s.io/endpointslice/util and trigger_time_tracker.go.

use std::collections::BTreeMap;

use daruma_api::IntOrString;
use daruma_api::core::v1::{Pod, Service, ServicePort, ServiceSpec};
use daruma_api::meta::ObjectExt;
use daruma_api::selector::Selector;
use daruma_client::informer::{Delta, Informer};
use jiff::Timestamp;

use crate::pods;

/// The specification; services without one have none of what is asked of it.
pub(crate) fn spec(service: &Service) -> Option<&ServiceSpec> {
    service.spec.as_ref()
}

/// Whether endpoints are made for the service: it selects pods and is not a mere name.
pub(crate) fn has_endpoints(service: &Service) -> bool {
    spec(service).is_some_and(|spec| spec.selector.is_some() && spec.type_.as_deref() != Some("ExternalName"))
}

/// Whether the service has no address of its own.
pub(crate) fn is_headless(service: &Service) -> bool {
    spec(service).and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// Whether the service has an address of its own.
pub(crate) fn has_address(service: &Service) -> bool {
    spec(service).and_then(|spec| spec.cluster_ip.as_deref()).is_some_and(|ip| !ip.is_empty() && ip != "None")
}

/// Whether pods count before they are ready.
pub(crate) fn publishes_not_ready(service: &Service) -> bool {
    spec(service).is_some_and(|spec| spec.publish_not_ready_addresses == Some(true))
}

/// The pods that the service selects, in key order.
pub(crate) fn selected_pods(pods: &Informer<Pod>, service: &Service) -> Vec<std::sync::Arc<Pod>> {
    let Some(selector) = spec(service).and_then(|spec| spec.selector.as_ref()).map(Selector::from_map) else { return Vec::new() };
    let mut selected = pods.list_namespace(service.namespace());
    selected.retain(|pod| selector.matches(pod.metadata.labels.as_ref()));
    selected
}

/// Whether a pod has an address and has not ended. Pods being deleted count where asked.
pub(crate) fn counts(pod: &Pod, with_terminating: bool) -> bool {
    !pods::is_terminal(pod) && !addresses(pod).is_empty() && (with_terminating || !pod.is_being_deleted())
}

/// All addresses of a pod.
pub(crate) fn addresses(pod: &Pod) -> Vec<&str> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all: Vec<&str> = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).filter(|ip| !ip.is_empty()).collect();
    if all.is_empty() { status.pod_ip.as_deref().filter(|ip| !ip.is_empty()).into_iter().collect() } else { all }
}

/// The pod's own name within the service, where it has one.
pub(crate) fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let own = spec.subdomain.as_deref() == Some(service.name()) && pod.namespace() == service.namespace();
    spec.hostname.clone().filter(|hostname| own && !hostname.is_empty())
}

/// The pod's port that a service port leads to.
pub(crate) fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            pods::container_port(pod.spec.as_ref()?, name, port.protocol.as_deref().unwrap_or("TCP"))
        }
    }
}

/// Keys of the services whose endpoints a change of a pod may touch.
pub(crate) fn touched(services: &Informer<Service>, delta: &Delta<Pod>) -> Vec<String> {
    let (pod, old) = match delta {
        Delta::Added(pod) | Delta::Deleted(pod) => (pod, None),
        Delta::Updated(old, pod) => (pod, Some(old)),
    };
    let relabelled = old.is_some_and(|old| old.metadata.labels != pod.metadata.labels || outer(old) != outer(pod));
    if old.is_some_and(|old| !relabelled && !endpoint_changed(old, pod)) {
        return Vec::new();
    }
    let matches = |service: &Service| {
        let Some(selector) = spec(service).and_then(|spec| spec.selector.as_ref()).map(Selector::from_map) else { return false };
        selector.matches(pod.metadata.labels.as_ref()) || old.is_some_and(|old| selector.matches(old.metadata.labels.as_ref()))
    };
    let all = services.list_namespace(pod.namespace());
    all.iter().filter(|service| matches(service)).map(|service| service.key()).collect()
}

fn outer(pod: &Pod) -> Option<(&Option<String>, &Option<String>)> {
    pod.spec.as_ref().map(|spec| (&spec.hostname, &spec.subdomain))
}

/// Whether the pod's endpoint is another now.
fn endpoint_changed(old: &Pod, new: &Pod) -> bool {
    old.is_being_deleted() != new.is_being_deleted()
        || pods::is_ready(old) != pods::is_ready(new)
        || pods::is_terminal(old) != pods::is_terminal(new)
        || pods::node_name(old) != pods::node_name(new)
        || addresses(old) != addresses(new)
        || old.uid() != new.uid()
}

/// Since when endpoints are out of date: the earliest change not yet told, per service.
#[derive(Debug, Default)]
pub(crate) struct TriggerTimes {
    by_service: BTreeMap<String, (Option<Timestamp>, BTreeMap<String, Timestamp>)>,
}

impl TriggerTimes {
    /// Takes in what is seen now and gives the earliest time that is news.
    pub(crate) fn update(&mut self, service: &Service, selected: &[std::sync::Arc<Pod>]) -> Option<Timestamp> {
        let pods: BTreeMap<String, Timestamp> = selected
            .iter()
            .filter_map(|pod| {
                let ready = pods::condition(pod.status.as_ref(), "Ready")?.last_transition_time.as_ref()?;
                Some((pod.name().to_owned(), ready.0))
            })
            .collect();
        let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let (last_created, last_pods) = self.by_service.get(&service.key()).cloned().unwrap_or_default();
        let news = pods.iter().filter(|(name, time)| last_pods.get(*name).is_none_or(|last| *time > last)).map(|(_, time)| *time);
        let earliest = news.chain(created.filter(|created| last_created.is_none_or(|last| *created > last))).min();
        self.by_service.insert(service.key(), (created, pods));
        earliest
    }

    /// The service is gone.
    pub(crate) fn forget(&mut self, service: &str) {
        self.by_service.remove(service);
    }
}

/// The form of trigger times in annotations (Go's RFC3339Nano).
pub(crate) fn trigger_text(time: Timestamp) -> String {
    time.to_string()
}
