//! A pod specification as a whole.
//!
//! Source: kubernetes `ValidatePodSpec`, `validatePodMetadataAndSpec`, `ValidatePodCreate`.

use serde_json::Value;

use crate::access::{at, flag, get, has, integer, list, number, text};
use crate::field::{Errors, Path};
use crate::{addresses, names, selectors};

use super::container_validation::{self, Surroundings};
use super::{placement_validation, resource_validation, volume_validation};

/// Marks mirrors of static pods.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";

/// A new pod, or the new state of an old one.
pub(super) fn pod(errors: &mut Errors, pod: &Value) {
    let (root, spec) = (Path::Root("spec"), get(pod, "spec"));
    let annotations = at(pod, &["metadata", "annotations"]);
    if has(annotations, MIRROR) && text(spec, "nodeName").is_empty() {
        let path = Path::Root("metadata.annotations");
        let text = text(annotations, MIRROR);
        errors.invalid(&path.key(MIRROR), text, "must set spec.nodeName if mirror pod annotation is set");
    }
    let cost = text(annotations, "controller.kubernetes.io/pod-deletion-cost");
    if !cost.is_empty() && cost.parse::<i32>().is_err() {
        let path = Path::Root("metadata.annotations");
        errors.invalid(&path.key("controller.kubernetes.io/pod-deletion-cost"), cost, "must be a 32bit integer");
    }
    self::spec(errors, &root, spec, true);
    if !list(spec, "schedulingGates").is_empty() && !text(spec, "nodeName").is_empty() {
        errors.forbidden(&root.child("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
}

/// A pod specification. Pods have rules that templates are spared.
pub(crate) fn spec(errors: &mut Errors, path: &Path<'_>, spec: &Value, is_pod: bool) {
    let grace = integer(spec, "terminationGracePeriodSeconds");
    if grace.is_none() {
        errors.required(&path.child("terminationGracePeriodSeconds"), "");
    }
    let around = Surroundings {
        volumes: volume_validation::volumes(errors, &path.child("volumes"), spec),
        claims: list(spec, "resourceClaims").iter().map(|claim| text(claim, "name")).collect(),
        grace,
        is_pod,
    };
    container_validation::containers(errors, path, spec, &around);
    if has(spec, "resources") {
        resource_validation::requirements(errors, &path.child("resources"), get(spec, "resources"), &around.claims);
    }
    host_network(errors, path, spec, is_pod);
    errors.one_of(&path.child("restartPolicy"), text(spec, "restartPolicy"), &["Always", "OnFailure", "Never"]);
    errors.one_of(
        &path.child("dnsPolicy"),
        text(spec, "dnsPolicy"),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    );
    selectors::validate_labels(errors, &path.child("nodeSelector"), get(spec, "nodeSelector"));
    security_context(errors, &path.child("securityContext"), spec);
    dns_config(errors, &path.child("dnsConfig"), spec);
    let gates = path.child("readinessGates");
    for (index, gate) in list(spec, "readinessGates").iter().enumerate() {
        let kind = text(gate, "conditionType");
        errors.all_invalid(&gates.index(index).child("conditionType"), kind, names::qualified_name(kind));
    }
    let gates = path.child("schedulingGates");
    for (index, gate) in list(spec, "schedulingGates").iter().enumerate() {
        let name = text(gate, "name");
        errors.all_invalid(&gates.index(index), name, names::qualified_name(name));
        if list(spec, "schedulingGates")[..index].iter().any(|other| text(other, "name") == name) {
            errors.duplicate(&gates.index(index), name);
        }
    }
    placement_validation::validate(errors, path, spec);
    scalars(errors, path, spec);
    if is_pod && text(spec, "serviceAccountName").is_empty() {
        let volumes = path.child("volumes");
        for (index, volume) in list(spec, "volumes").iter().enumerate() {
            let (volume_path, projected) = (volumes.index(index), get(volume, "projected"));
            for (index, source) in list(projected, "sources").iter().enumerate() {
                if has(source, "serviceAccountToken") {
                    let path = volume_path.child("projected");
                    let path = path.child("sources");
                    errors.forbidden(
                        &path.index(index).child("serviceAccountToken"),
                        "must not be specified when serviceAccountName is not set",
                    );
                }
            }
        }
    }
}

fn host_network(errors: &mut Errors, path: &Path<'_>, spec: &Value, is_pod: bool) {
    if !flag(spec, "hostNetwork") {
        return;
    }
    let containers = path.child("containers");
    for (index, container) in list(spec, "containers").iter().enumerate() {
        let (path, ports) = (containers.index(index), list(container, "ports"));
        let path = path.child("ports");
        for (index, port) in ports.iter().enumerate() {
            let (host, own) = (number(port, "hostPort"), number(port, "containerPort"));
            if (is_pod || host != 0) && host != own {
                let path = path.index(index);
                errors.invalid(&path.child("hostPort"), host, "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}

fn security_context(errors: &mut Errors, path: &Path<'_>, spec: &Value) {
    let context = get(spec, "securityContext");
    container_validation::identity(errors, path, context, &["fsGroup", "runAsUser", "runAsGroup"]);
    let groups = path.child("supplementalGroups");
    for (index, group) in list(context, "supplementalGroups").iter().filter_map(Value::as_i64).enumerate() {
        if let Some(wrong) = names::in_range(group, 0, i64::from(i32::MAX)) {
            errors.invalid(&groups.index(index), group, wrong);
        }
    }
    if flag(spec, "shareProcessNamespace") && flag(spec, "hostPID") {
        errors.invalid(
            &path.child("shareProcessNamespace"),
            &Value::Bool(true),
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    let policy = text(context, "fsGroupChangePolicy");
    if !matches!(policy, "" | "Always" | "OnRootMismatch") {
        errors.not_supported(&path.child("fsGroupChangePolicy"), policy, &["Always", "OnRootMismatch"]);
    }
}

fn dns_config(errors: &mut Errors, path: &Path<'_>, spec: &Value) {
    let config = get(spec, "dnsConfig");
    let servers = list(config, "nameservers");
    if text(spec, "dnsPolicy") == "None" {
        if config.is_null() {
            errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if servers.is_empty() {
            errors.required(&path.child("nameservers"), "must provide at least one DNS nameserver when `dnsPolicy` is None");
            return;
        }
    }
    if servers.len() > 3 {
        errors.invalid(&path.child("nameservers"), get(config, "nameservers"), "must not have more than 3 nameservers");
    }
    for (index, server) in servers.iter().filter_map(Value::as_str).enumerate() {
        addresses::validate(errors, &path.child("nameservers").index(index), server);
    }
    let searches = list(config, "searches");
    if searches.len() > 32 {
        errors.invalid(&path.child("searches"), get(config, "searches"), "must not have more than 32 search paths");
    }
    for (index, search) in searches.iter().filter_map(Value::as_str).enumerate().filter(|(_, search)| *search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        errors.all_invalid(&path.child("searches").index(index), search, names::dns_subdomain(&search.replace('_', "a")));
    }
    for (index, option) in list(config, "options").iter().enumerate() {
        if text(option, "name").is_empty() {
            errors.required(&path.child("options").index(index), "must not be empty");
        }
    }
}

fn scalars(errors: &mut Errors, path: &Path<'_>, spec: &Value) {
    for (key, check) in [
        ("serviceAccountName", names::dns_subdomain as fn(&str) -> Vec<String>),
        ("nodeName", names::dns_subdomain),
        ("hostname", names::dns_label),
        ("subdomain", names::dns_label),
        ("priorityClassName", names::dns_subdomain),
        ("runtimeClassName", names::dns_subdomain),
    ] {
        let value = text(spec, key);
        if !value.is_empty() {
            errors.all_invalid(&path.child(key), value, check(value));
        }
    }
    if let Some(seconds) = integer(spec, "activeDeadlineSeconds")
        && let Some(wrong) = names::in_range(seconds, 1, i64::from(i32::MAX))
    {
        errors.invalid(&path.child("activeDeadlineSeconds"), seconds, wrong);
    }
    let aliases = path.child("hostAliases");
    for (index, alias) in list(spec, "hostAliases").iter().enumerate() {
        let path = aliases.index(index);
        addresses::validate(errors, &path.child("ip"), text(alias, "ip"));
        for (index, name) in list(alias, "hostnames").iter().filter_map(Value::as_str).enumerate() {
            errors.all_invalid(&path.child("hostnames").index(index), name, names::dns_subdomain(name));
        }
    }
    let preemption = text(spec, "preemptionPolicy");
    if !matches!(preemption, "" | "PreemptLowerPriority" | "Never") {
        errors.not_supported(&path.child("preemptionPolicy"), preemption, &["PreemptLowerPriority", "Never"]);
    }
    let os = get(spec, "os");
    if !os.is_null() {
        errors.one_of(&path.child("os").child("name"), text(os, "name"), &["linux", "windows"]);
    }
    for (name, value) in crate::access::entries(spec, "overhead") {
        resource_validation::quantity(errors, &path.child("overhead").key(name), name, value);
    }
}
