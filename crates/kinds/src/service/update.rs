//! What happens when a service changes: allocated values stay unless the change speaks of them, and
//! values that the new type has no use for go.
//!
//! Source: kubernetes pkg/registry/core/service/storage/storage.go (`patchAllocatedValues`),
//! strategy.go (`dropTypeDependentFields`), `validateUpgradeDowngradeClusterIPs`.

use serde_json::{Value, json};

use crate::access::{ensure, get, has, keep, list, list_mut, number, remove, same, set, text};
use crate::field::{Errors, Path};

use super::{is_external, is_headless};

fn needs_cluster_ip(spec: &Value) -> bool {
    text(spec, "type") != "ExternalName"
}

fn needs_node_ports(spec: &Value) -> bool {
    match text(spec, "type") {
        "NodePort" => true,
        "LoadBalancer" => get(spec, "allocateLoadBalancerNodePorts") != &Value::Bool(false),
        _ => false,
    }
}

/// Allocated values that an update leaves out are taken from the old service, so that a client that
/// does not know them does not lose them.
pub(super) fn carry_over(new: &mut Value, old: &Value) {
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        let moved = !text(new, "clusterIP").is_empty() && text(new, "clusterIP") != text(old, "clusterIP");
        if moved && same(get(new, "clusterIPs"), get(old, "clusterIPs")) {
            // A client that knows only the single address changes the list with it.
            let single = text(new, "clusterIP").to_owned();
            set(new, "clusterIPs", vec![single]);
        }
        if text(new, "clusterIP").is_empty() {
            keep(new, old, "clusterIP");
        }
        if list(new, "clusterIPs").is_empty() {
            keep(new, old, "clusterIPs");
        }
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            if !has(new, key) {
                keep(new, old, key);
            }
        }
    }
    if needs_node_ports(old) && needs_node_ports(new) {
        let ports = |spec: &Value| -> Vec<i64> { list(spec, "ports").iter().map(|port| number(port, "nodePort")).collect() };
        let (before, now) = (ports(old), ports(new));
        for port in list_mut(new, "ports").iter_mut().filter(|port| number(port, "nodePort") == 0) {
            let twin = list(old, "ports").iter().rev().find(|other| text(other, "name") == text(port, "name"));
            let node = twin.map(|other| number(other, "nodePort")).unwrap_or_default();
            if node != 0 && !(before.contains(&node) && now.contains(&node)) {
                set(port, "nodePort", node);
            }
        }
    }
    let needs_health = |spec: &Value| text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local";
    if needs_health(old) && needs_health(new) && number(new, "healthCheckNodePort") == 0 {
        keep(new, old, "healthCheckNodePort");
    }
}

/// Values that the new type has no use for go, where the update did not set them itself.
pub(super) fn drop_what_the_type_lacks(new: &mut Value, old: &Value) {
    let before = get(old, "spec");
    let spec = ensure(new, "spec");
    let unchanged = |spec: &Value, key: &str| same(get(spec, key), get(before, key));
    if needs_cluster_ip(before) && !needs_cluster_ip(spec) {
        if unchanged(spec, "clusterIP") && unchanged(spec, "clusterIPs") {
            remove(spec, "clusterIP");
            remove(spec, "clusterIPs");
        }
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            if unchanged(spec, key) {
                remove(spec, key);
            }
        }
    }
    let node_ports = |spec: &Value| -> Vec<i64> {
        list(spec, "ports").iter().map(|port| number(port, "nodePort")).filter(|node| *node != 0).collect()
    };
    if needs_node_ports(before)
        && !needs_node_ports(spec)
        && node_ports(spec).iter().all(|node| node_ports(before).contains(node))
    {
        for port in list_mut(spec, "ports") {
            remove(port, "nodePort");
        }
    }
    let was_balancer = text(before, "type") == "LoadBalancer";
    let is_balancer = text(spec, "type") == "LoadBalancer";
    if was_balancer && !is_balancer {
        for key in ["healthCheckNodePort", "allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if unchanged(spec, key) {
                remove(spec, key);
            }
        }
    }
    if is_external(before) && !is_external(spec) && unchanged(spec, "externalTrafficPolicy") {
        remove(spec, "externalTrafficPolicy");
    }
    if !is_balancer {
        set(ensure(new, "status"), "loadBalancer", json!({}));
    }
}

/// The first cluster address may not change once it is set.
pub(super) fn validate(errors: &mut Errors, new: &Value, old: &Value) {
    let root = Path::Root("spec");
    if text(new, "type") == "LoadBalancer"
        && text(old, "type") == "LoadBalancer"
        && text(new, "loadBalancerClass") != text(old, "loadBalancerClass")
    {
        errors.invalid(&root.child("loadBalancerClass"), get(new, "loadBalancerClass"), "may not change once set");
    }
    if !needs_cluster_ip(new) || !needs_cluster_ip(old) || (is_headless(new) && is_headless(old)) {
        return;
    }
    let (now, before) = (list(new, "clusterIPs"), list(old, "clusterIPs"));
    let path = root.child("clusterIPs");
    if now.is_empty() && !before.is_empty() {
        errors.invalid(&path.index(0), &Value::Array(Vec::new()), "primary clusterIP can not be unset");
    }
    for (index, (now, before)) in now.iter().zip(before).enumerate() {
        if now != before {
            errors.invalid(&path.index(index), get(new, "clusterIPs"), "may not change once set");
        }
    }
    if now.len() == 1 && before.len() > 1 && text(new, "ipFamilyPolicy") != "SingleStack" {
        errors.invalid(
            &root.child("ipFamilyPolicy"),
            get(new, "ipFamilyPolicy"),
            "must be set to 'SingleStack' when releasing the secondary clusterIP",
        );
    }
}
