//! Which changes of a service concern its load balancer, and what is told of them: pure.
//!
//! Source: kubernetes staging/src/k8s.io/cloud-provider/controllers/service/controller.go needsUpdate.

use daruma_api::core::v1::{Service, ServiceSpec};
use daruma_api::meta::ObjectExt;

use super::plan::has_our_type;

/// A change that concerns the load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Concern {
    /// Nobody is told what it was.
    Silent,
    /// An event tells it.
    Told {
        /// Its reason.
        reason: &'static str,
        /// Its message.
        message: String,
    },
}

/// Whether the load balancer has to be made sure of after a change, and what is told first.
pub fn concern(old: &Service, new: &Service) -> Option<Concern> {
    let told = |reason, message| Some(Concern::Told { reason, message });
    let empty = ServiceSpec::default();
    let (before, after) = (old.spec.as_ref().unwrap_or(&empty), new.spec.as_ref().unwrap_or(&empty));
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let arrow = |before: &str, after: &str| format!("{before} -> {after}");
    let (had, has) = (has_our_type(old), has_our_type(new));
    if had != has {
        return told("Type", arrow(&text(&before.type_), &text(&after.type_)));
    }
    if !has {
        return None;
    }
    let list = |list: &Option<Vec<String>>| format!("[{}]", list.iter().flatten().cloned().collect::<Vec<_>>().join(" "));
    if before.load_balancer_source_ranges != after.load_balancer_source_ranges {
        let message = arrow(&list(&before.load_balancer_source_ranges), &list(&after.load_balancer_source_ranges));
        return told("LoadBalancerSourceRanges", message);
    }
    let affinity = |spec: &ServiceSpec| (spec.session_affinity.clone(), spec.session_affinity_config.clone());
    if before.ports != after.ports || affinity(before) != affinity(after) {
        return Some(Concern::Silent);
    }
    if text(&before.load_balancer_ip) != text(&after.load_balancer_ip) {
        return told("LoadbalancerIP", arrow(&text(&before.load_balancer_ip), &text(&after.load_balancer_ip)));
    }
    let addresses = |spec: &ServiceSpec| spec.external_ips.clone().unwrap_or_default();
    let (ips, new_ips) = (addresses(before), addresses(after));
    if ips.len() != new_ips.len() {
        return told("ExternalIP", format!("Count: {} -> {}", ips.len(), new_ips.len()));
    }
    if let Some((_, added)) = ips.iter().zip(&new_ips).find(|(old, new)| old != new) {
        return told("ExternalIP", format!("Added: {added}"));
    }
    if old.metadata.annotations != new.metadata.annotations {
        return Some(Concern::Silent);
    }
    if old.uid() != new.uid() {
        return told("UID", arrow(old.uid(), new.uid()));
    }
    if before.external_traffic_policy != after.external_traffic_policy {
        let message = arrow(&text(&before.external_traffic_policy), &text(&after.external_traffic_policy));
        return told("ExternalTrafficPolicy", message);
    }
    let (check, new_check) = (before.health_check_node_port.unwrap_or(0), after.health_check_node_port.unwrap_or(0));
    if check != new_check {
        return told("HealthCheckNodePort", format!("{check} -> {new_check}"));
    }
    let families = |spec: &ServiceSpec| spec.ip_families.as_ref().map_or(0, Vec::len);
    if families(before) != families(after) {
        return told("IPFamilies", format!("Count: {} -> {}", families(before), families(after)));
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::test_objects::service;

    #[test]
    fn what_is_told_of_a_change() {
        let told = |reason, message: &str| Some(Concern::Told { reason, message: message.to_owned() });
        let check = |before: Value, after: Value, expected: Option<Concern>| {
            let balancer = |change: Value| {
                let mut spec = json!({"type": "LoadBalancer"});
                spec.as_object_mut().expect("an object").extend(change.as_object().cloned().unwrap_or_default());
                service::<Service>(spec)
            };
            assert_eq!(concern(&balancer(before.clone()), &balancer(after.clone())), expected, "{before} {after}");
        };
        check(json!({}), json!({}), None);
        check(json!({"type": "ClusterIP"}), json!({"type": "NodePort"}), None);
        check(json!({"type": "ClusterIP"}), json!({}), told("Type", "ClusterIP -> LoadBalancer"));
        check(json!({}), json!({"type": "NodePort"}), told("Type", "LoadBalancer -> NodePort"));
        let ranges = json!({"loadBalancerSourceRanges": ["10.0.0.0/8", "192.0.2.0/24"]});
        check(json!({}), ranges, told("LoadBalancerSourceRanges", "[] -> [10.0.0.0/8 192.0.2.0/24]"));
        check(json!({}), json!({"ports": [{"port": 81}]}), Some(Concern::Silent));
        check(json!({}), json!({"sessionAffinity": "ClientIP"}), Some(Concern::Silent));
        check(json!({}), json!({"loadBalancerIP": "10.88.0.230"}), told("LoadbalancerIP", " -> 10.88.0.230"));
        check(json!({}), json!({"externalIPs": ["192.0.2.1"]}), told("ExternalIP", "Count: 0 -> 1"));
        check(
            json!({"externalIPs": ["192.0.2.1"]}),
            json!({"externalIPs": ["192.0.2.2"]}),
            told("ExternalIP", "Added: 192.0.2.2"),
        );
        let policy = |policy| json!({"externalTrafficPolicy": policy});
        check(policy("Cluster"), policy("Local"), told("ExternalTrafficPolicy", "Cluster -> Local"));
        check(json!({}), json!({"healthCheckNodePort": 31000}), told("HealthCheckNodePort", "0 -> 31000"));
        // What others see to is no concern.
        check(json!({}), json!({"selector": {"app": "web"}}), None);
    }
}
