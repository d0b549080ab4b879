//! What is wrong with a service.
//!
//! Source: kubernetes `validateService`, `validateServicePort`, `ValidateServiceClusterIPsRelatedFields`.

use serde_json::Value;

use crate::access::{get, has, list, number, text};
use crate::field::{Errors, Path, Shown};
use crate::pod::validate_port_or_name;
use crate::{addresses, names, selectors};

use super::{is_external, is_headless};

const ROOT: Path<'static> = Path::Root("spec");
const FAMILIES: &[&str] = &["IPv4", "IPv6"];
const FAMILY_POLICIES: &[&str] = &["PreferDualStack", "RequireDualStack", "SingleStack"];

/// A service's specification.
pub(super) fn validate(errors: &mut Errors, spec: &Value) {
    let (kind, ports) = (text(spec, "type"), list(spec, "ports"));
    if ports.is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errors.required(&ROOT.child("ports"), "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let text = format!("may not be set to 'None' for {kind} services");
            errors.invalid(&ROOT.child("clusterIPs").index(0), "None", text);
        }
        "ExternalName" => external_name(errors, spec),
        _ => {}
    }
    self::ports(errors, spec);
    selectors::validate_labels(errors, &ROOT.child("selector"), get(spec, "selector"));
    affinity(errors, spec);
    if kind != "ExternalName" {
        cluster_ips(errors, spec);
    }
    let path = ROOT.child("externalIPs");
    for (index, address) in list(spec, "externalIPs").iter().filter_map(Value::as_str).enumerate() {
        if addresses::validate(errors, &path.index(index), address).is_some() {
            addresses::validate_endpoint(errors, &path.index(index), address);
        }
    }
    errors.one_of(&ROOT.child("type"), kind, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    load_balancer(errors, spec);
    traffic_policies(errors, spec);
}

fn external_name(errors: &mut Errors, spec: &Value) {
    for key in ["clusterIPs", "ipFamilies"] {
        if !list(spec, key).is_empty() {
            errors.forbidden(&ROOT.child(key), "may not be set for ExternalName services");
        }
    }
    if has(spec, "ipFamilyPolicy") {
        errors.forbidden(&ROOT.child("ipFamilyPolicy"), "may not be set for ExternalName services");
    }
    let name = text(spec, "externalName");
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        errors.required(&ROOT.child("externalName"), "");
    } else {
        errors.all_invalid(&ROOT.child("externalName"), name, names::dns_subdomain(name));
    }
}

fn ports(errors: &mut Errors, spec: &Value) {
    let (ports, root) = (list(spec, "ports"), ROOT.child("ports"));
    for (index, port) in ports.iter().enumerate() {
        let (path, before) = (root.index(index), &ports[..index]);
        let name = text(port, "name");
        if name.is_empty() && ports.len() > 1 {
            errors.required(&path.child("name"), "");
        } else if !name.is_empty() {
            errors.all_invalid(&path.child("name"), name, names::dns_label(name));
            if before.iter().any(|other| text(other, "name") == name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        let number_of_port = number(port, "port");
        if let Some(wrong) = names::port_number(number_of_port) {
            errors.invalid(&path.child("port"), number_of_port, wrong);
        }
        errors.one_of(&path.child("protocol"), text(port, "protocol"), &["SCTP", "TCP", "UDP"]);
        validate_port_or_name(errors, &path.child("targetPort"), get(port, "targetPort"));
        let protocol = text(port, "appProtocol");
        if !protocol.is_empty() {
            errors.all_invalid(&path.child("appProtocol"), protocol, names::qualified_name(protocol));
        }
    }
    for (index, port) in ports.iter().enumerate() {
        let (path, before) = (root.index(index), &ports[..index]);
        let node = number(port, "nodePort");
        let twin = |key: &str| {
            before
                .iter()
                .any(|other| number(other, key) == number(port, key) && text(other, "protocol") == text(port, "protocol"))
        };
        if node != 0 {
            if text(spec, "type") == "ClusterIP" {
                errors.forbidden(&path.child("nodePort"), "may not be used when `type` is 'ClusterIP'");
            }
            if twin("nodePort") {
                errors.duplicate(&path.child("nodePort"), node);
            }
        }
        if twin("port") {
            // The real server shows the key by the names of its own Go struct.
            let shown = format!(
                "{{\"Name\":\"\",\"Protocol\":{:?},\"AppProtocol\":null,\"Port\":{},\"TargetPort\":0,\"NodePort\":0}}",
                text(port, "protocol"),
                number(port, "port")
            );
            errors.duplicate(&path, Shown::raw(shown));
        }
    }
}

fn affinity(errors: &mut Errors, spec: &Value) {
    let affinity = text(spec, "sessionAffinity");
    errors.one_of(&ROOT.child("sessionAffinity"), affinity, &["ClientIP", "None"]);
    let (config, path) = (get(spec, "sessionAffinityConfig"), ROOT.child("sessionAffinityConfig"));
    if affinity == "ClientIP" {
        let seconds = config.pointer("/clientIP/timeoutSeconds").and_then(Value::as_i64);
        let path = path.child("clientIP");
        match seconds {
            None => errors.required(&path, "when session affinity type is ClientIP"),
            Some(seconds) if !(1..=86_400).contains(&seconds) => {
                errors.invalid(&path.child("timeoutSeconds"), seconds, "must be greater than 0 and less than 86400");
            }
            Some(_) => {}
        }
    } else if affinity == "None" && !config.is_null() {
        errors.forbidden(&path, "must not be set when session affinity is None");
    }
}

fn cluster_ips(errors: &mut Errors, spec: &Value) {
    let (single, many, path) = (text(spec, "clusterIP"), list(spec, "clusterIPs"), ROOT.child("clusterIPs"));
    let shown = get(spec, "clusterIPs");
    if single.is_empty() {
        if !many.is_empty() {
            errors.invalid(&path, shown, "must be empty when `clusterIP` is not specified");
        }
    } else if many.is_empty() {
        errors.required(&path, "");
    } else if many[0] != single {
        errors.invalid(&path, shown, "first value must match `clusterIP`");
    }
    let families = ROOT.child("ipFamilies");
    let found = list(spec, "ipFamilies");
    for (index, family) in found.iter().filter_map(Value::as_str).enumerate() {
        if !FAMILIES.contains(&family) {
            errors.not_supported(&families.index(index), family, FAMILIES);
        }
        if found[..index].iter().any(|other| other == family) {
            errors.duplicate(&families.index(index), family);
        }
    }
    let policy = text(spec, "ipFamilyPolicy");
    if !policy.is_empty() && !FAMILY_POLICIES.contains(&policy) {
        errors.not_supported(&ROOT.child("ipFamilyPolicy"), policy, FAMILY_POLICIES);
    }
    let before = errors.count();
    for (index, address) in many.iter().filter_map(Value::as_str).enumerate() {
        if index == 0 && address == "None" {
            if many.len() > 1 {
                errors.invalid(&path, shown, "'None' must be the first and only value");
            }
        } else {
            addresses::validate(errors, &path.index(index), address);
        }
    }
    if many.len() > 2 {
        errors.invalid(&path, shown, "may only hold up to 2 values");
    }
    if errors.count() > before {
        return;
    }
    let is_v6 = |address: &Value| address.as_str().is_some_and(|address| address.contains(':'));
    if many.len() == 2 && is_v6(&many[0]) == is_v6(&many[1]) {
        errors.invalid(&path, shown, "may specify no more than one IP for each IP family");
    }
    for (index, (address, family)) in many.iter().zip(found).enumerate().filter(|(_, (address, _))| *address != "None") {
        let family = family.as_str().unwrap_or_default();
        if FAMILIES.contains(&family) && is_v6(address) != (family == "IPv6") {
            let text = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.invalid(&path.index(index), address, text);
        }
    }
}

fn load_balancer(errors: &mut Errors, spec: &Value) {
    let is_balancer = text(spec, "type") == "LoadBalancer";
    let ranges = list(spec, "loadBalancerSourceRanges");
    let path = ROOT.child("LoadBalancerSourceRanges");
    if !ranges.is_empty() && !is_balancer {
        errors.forbidden(&path, "may only be used when `type` is 'LoadBalancer'");
    }
    for (index, range) in ranges.iter().filter_map(Value::as_str).enumerate() {
        addresses::validate_cidr(errors, &path.index(index), range.trim());
    }
    let class = text(spec, "loadBalancerClass");
    if is_balancer && !class.is_empty() {
        errors.all_invalid(&ROOT.child("loadBalancerClass"), class, names::qualified_name(class));
    }
    for key in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if has(spec, key) && !is_balancer {
            errors.forbidden(&ROOT.child(key), "may only be used when `type` is 'LoadBalancer'");
        }
    }
}

fn traffic_policies(errors: &mut Errors, spec: &Value) {
    const POLICIES: &[&str] = &["Cluster", "Local"];
    let (external, path) = (text(spec, "externalTrafficPolicy"), ROOT.child("externalTrafficPolicy"));
    if is_external(spec) {
        errors.one_of(&path, external, POLICIES);
    } else if !external.is_empty() {
        errors.invalid(&path, external, "may only be set for externally-accessible services");
    }
    let (health, path) = (number(spec, "healthCheckNodePort"), ROOT.child("healthCheckNodePort"));
    if text(spec, "type") == "LoadBalancer" && external == "Local" {
        // Zero waits for the allocation.
        if let Some(wrong) = names::port_number(health).filter(|_| health != 0) {
            errors.invalid(&path, health, wrong);
        }
    } else if health != 0 {
        errors.invalid(&path, health, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'");
    }
    let internal = text(spec, "internalTrafficPolicy");
    if !internal.is_empty() && !POLICIES.contains(&internal) {
        errors.not_supported(&ROOT.child("internalTrafficPolicy"), internal, POLICIES);
    }
    let distribution = text(spec, "trafficDistribution");
    if !matches!(distribution, "" | "PreferClose" | "PreferSameNode" | "PreferSameZone") {
        let supported = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        errors.not_supported(&ROOT.child("trafficDistribution"), distribution, &supported);
    }
}
