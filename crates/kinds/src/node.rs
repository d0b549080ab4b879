//! Node.
//!
//! Source: kubernetes pkg/registry/core/node/strategy.go, `ValidateNode`, `ValidateNodeUpdate`,
//! pkg/printers/internalversion/printers.go (`printNode`).

use std::collections::BTreeSet;

use daruma_api::status::FieldError;
use serde_json::Value;

use crate::access::{at, ensure, entries, flag, get, has, keep, list, remove, set, text};
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, Names, Scope, Subresource};
use crate::pod::resource_validation;
use crate::printing::{AGE, NAME, age, column, name, wide};
use crate::{addresses, names, verbs};

/// The kind.
pub struct Node;

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE: &str = "kubernetes.io/role";

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    categories: &[],
    scope: Scope::Cluster,
    verbs: verbs::ALL,
};

static SUBRESOURCES: &[Subresource] = &[
    Subresource { name: "proxy", group: "", version: "", kind: "NodeProxyOptions", verbs: verbs::PROXY },
    Subresource { name: "status", group: "", version: "", kind: "Node", verbs: verbs::PART },
];

static COLUMNS: &[Column] = &[
    NAME,
    column("Status", "string", "Whether the node is ready and takes pods."),
    column("Roles", "string", "What the node is for."),
    AGE,
    column("Version", "string", "Version of the kubelet."),
    wide("Internal-IP", "string", "First address inside of the cluster."),
    wide("External-IP", "string", "First address outside of the cluster."),
    wide("OS-Image", "string", "What the node's system calls itself."),
    wide("Kernel-Version", "string", "Version and architecture of the kernel."),
    wide("Container-Runtime", "string", "Name and version of the container runtime."),
];

impl Kind for Node {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn subresources(&self) -> &'static [Subresource] {
        SUBRESOURCES
    }

    fn default(&self, object: &mut Value) {
        // The old name of the first pod range follows the list, and the other way round.
        if let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) {
            let (one, many) = (text(spec, "podCIDR").to_owned(), list(spec, "podCIDRs").first().cloned());
            match many {
                None if !one.is_empty() => set(spec, "podCIDRs", vec![one]),
                Some(first) if one.is_empty() => set(spec, "podCIDR", first),
                _ => {}
            }
        }
        if let Some(status) = object.get_mut("status").filter(|status| has(status, "capacity") && !has(status, "allocatable")) {
            let capacity = get(status, "capacity").clone();
            set(status, "allocatable", capacity);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        remove(ensure(object, "spec"), "configSource");
        if let Some(status) = object.get_mut("status") {
            remove(status, "config");
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let spec = get(object, "spec");
        validate_taints(&mut errors, &Path::Root("metadata.taints"), list(spec, "taints"));
        for key in ["capacity", "allocatable"] {
            for (name, value) in entries(get(object, "status"), key) {
                let root = Path::Root("status");
                resource_validation::quantity(&mut errors, &root.child(key).child(name), name, value);
            }
        }
        let (path, ranges) = (Path::Root("spec.podCIDRs"), list(spec, "podCIDRs"));
        for (index, range) in ranges.iter().filter_map(Value::as_str).enumerate() {
            addresses::validate_cidr(&mut errors, &path.index(index), range);
        }
        let families: BTreeSet<bool> = ranges.iter().filter_map(Value::as_str).map(|range| range.contains(':')).collect();
        if ranges.len() > families.len() {
            errors.invalid(&path, get(spec, "podCIDRs"), "may specify no more than one CIDR for each IP family");
        }
        errors.into_vec()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validate_change(new, old)
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        errors.extend(validate_change(new, old));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let info = at(object, &["status", "nodeInfo"]);
        let known = |key: &str| match text(info, key) {
            "" => "<unknown>".to_owned(),
            text => text.to_owned(),
        };
        let mut kernel = known("kernelVersion");
        if !text(info, "architecture").is_empty() {
            kernel = format!("{kernel} ({})", text(info, "architecture"));
        }
        vec![
            name(object),
            status(object).into(),
            roles(object).into(),
            age(object, now),
            text(info, "kubeletVersion").into(),
            address(object, "InternalIP").into(),
            address(object, "ExternalIP").into(),
            known("osImage").into(),
            kernel.into(),
            known("containerRuntimeVersion").into(),
        ]
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.unschedulable"]
    }

    fn selectable_default(&self, _field: &str) -> &'static str {
        "false"
    }
}

fn status(node: &Value) -> String {
    let ready = list(get(node, "status"), "conditions").iter().find(|one| text(one, "type") == "Ready");
    let word = match ready.map(|condition| text(condition, "status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    if flag(get(node, "spec"), "unschedulable") { format!("{word},SchedulingDisabled") } else { word.to_owned() }
}

fn roles(node: &Value) -> String {
    let labels = at(node, &["metadata", "labels"]);
    let mut roles: BTreeSet<&str> = BTreeSet::new();
    for (key, value) in labels.as_object().into_iter().flatten() {
        if let Some(role) = key.strip_prefix(ROLE_PREFIX) {
            roles.insert(role);
        } else if key == ROLE {
            roles.insert(value.as_str().unwrap_or_default());
        }
    }
    roles.remove("");
    let roles: Vec<&str> = roles.into_iter().collect();
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}

fn address<'a>(node: &'a Value, kind: &str) -> &'a str {
    list(get(node, "status"), "addresses")
        .iter()
        .find(|address| text(address, "type") == kind)
        .map_or("<none>", |address| text(address, "address"))
}

fn validate_taints(errors: &mut Errors, path: &Path<'_>, taints: &[Value]) {
    for (index, taint) in taints.iter().enumerate() {
        let path = path.index(index);
        let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        errors.all_invalid(&path.child("key"), key, names::qualified_name(key));
        let wrong = names::label_value(value);
        if !wrong.is_empty() {
            errors.invalid(&path.child("value"), value, wrong.join(";"));
        }
        crate::pod::validate_taint_effect(errors, &path.child("effect"), effect);
        if taints[..index].iter().any(|other| text(other, "key") == key && text(other, "effect") == effect) {
            errors.extend([FieldError {
                reason: "FieldValueDuplicate",
                field: path.to_string(),
                value: Some(taint.to_string()),
                detail: "taints must be unique by key and effect pair".to_owned(),
            }]);
        }
    }
}

fn validate_change(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let addresses = list(get(new, "status"), "addresses");
    let path = Path::Root("status.addresses");
    for (index, address) in addresses.iter().enumerate() {
        if addresses[..index].contains(address) {
            errors.duplicate(&path.index(index), address);
        }
    }
    let (now, before, root) = (get(new, "spec"), get(old, "spec"), Path::Root("spec"));
    if !list(before, "podCIDRs").is_empty() && list(now, "podCIDRs") != list(before, "podCIDRs") {
        errors.forbidden(&root.child("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid");
    }
    let provider = text(before, "providerID");
    if !provider.is_empty() && provider != text(now, "providerID") {
        errors.forbidden(&root.child("providerID"), "node updates may not change providerID except from \"\" to valid");
    }
    if text(now, "externalID") != text(before, "externalID") {
        errors.forbidden(&root.child("externalID"), "may not be updated");
    }
    errors.into_vec()
}
