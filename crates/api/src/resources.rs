//! Sums of what a pod asks for.
//!
//! Source: kubernetes staging/src/k8s.io/component-helpers/resource/helpers.go.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Raw;

use crate::quantity::Quantity;

/// Quantities by resource name.
pub type ResourceList = BTreeMap<String, Quantity>;

/// Parses a wire resource list.
pub fn parse_list(raw: Option<&BTreeMap<String, Raw>>) -> ResourceList {
    raw.into_iter().flatten().map(|(name, quantity)| (name.clone(), Quantity::from_raw(quantity))).collect()
}

/// Adds every quantity of `more` to `sum`.
pub fn add(sum: &mut ResourceList, more: &ResourceList) {
    for (name, quantity) in more {
        *sum.entry(name.clone()).or_default() += *quantity;
    }
}

/// Raises every quantity of `sum` to that of `other` where that is more.
pub fn raise(sum: &mut ResourceList, other: &ResourceList) {
    for (name, quantity) in other {
        let entry = sum.entry(name.clone()).or_default();
        if *quantity > *entry {
            *entry = *quantity;
        }
    }
}

/// What the pod asks for: containers and restartable init containers summed, raised to the largest
/// step of the init sequence, plus overhead.
pub fn pod_requests(spec: &PodSpec) -> ResourceList {
    total(spec, |container| container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
}

/// The pod's limits, summed in the same way. A container without a limit adds nothing.
pub fn pod_limits(spec: &PodSpec) -> ResourceList {
    total(spec, |container| container.resources.as_ref().and_then(|resources| resources.limits.as_ref()))
}

fn total<'a>(spec: &'a PodSpec, of: impl Fn(&'a Container) -> Option<&'a BTreeMap<String, Raw>>) -> ResourceList {
    let mut sum = ResourceList::new();
    for container in &spec.containers {
        add(&mut sum, &parse_list(of(container)));
    }
    let mut sidecars = ResourceList::new();
    let mut init_peak = ResourceList::new();
    for container in spec.init_containers.iter().flatten() {
        let own = parse_list(of(container));
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            raise(&mut init_peak, &sidecars);
        } else {
            let mut step = sidecars.clone();
            add(&mut step, &own);
            raise(&mut init_peak, &step);
        }
    }
    raise(&mut sum, &init_peak);
    if let Some(overhead) = &spec.overhead {
        add(&mut sum, &parse_list(Some(overhead)));
    }
    sum
}

/// Quality of service class of a pod: `Guaranteed`, `Burstable` or `BestEffort`.
///
/// Source: kubernetes pkg/apis/core/v1/helper/qos/qos.go.
pub fn qos_class(spec: &PodSpec) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    let (mut requests, mut limits) = (ResourceList::new(), ResourceList::new());
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        let resources = container.resources.as_ref();
        let supported = |list: ResourceList| -> ResourceList {
            list.into_iter()
                .filter(|(name, quantity)| (name == "cpu" || name == "memory") && *quantity > Quantity::ZERO)
                .collect()
        };
        let own_requests = supported(parse_list(resources.and_then(|one| one.requests.as_ref())));
        let own_limits = supported(parse_list(resources.and_then(|one| one.limits.as_ref())));
        any |= !own_requests.is_empty() || !own_limits.is_empty();
        guaranteed &= own_limits.len() == 2;
        add(&mut requests, &own_requests);
        add(&mut limits, &own_limits);
    }
    if !any {
        return "BestEffort";
    }
    let equal = requests.iter().all(|(name, quantity)| limits.get(name) == Some(quantity)) && requests.len() == limits.len();
    if guaranteed && equal { "Guaranteed" } else { "Burstable" }
}
