//! EndpointSlice.
//!
//! Source: kubernetes pkg/registry/discovery/endpointslice/strategy.go, pkg/apis/discovery/validation.

use std::net::IpAddr;

use daruma_api::status::FieldError;
use serde_json::Value;

use crate::access::{at, default_to, get, has, integer, list, list_mut, same, text};
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, Names, Scope};
use crate::metadata::{bump_generation, set_generation};
use crate::printing::{AGE, NAME, age, column, first_three, name};
use crate::{addresses, names, verbs};

/// The kind.
pub struct EndpointSlice;

static NAMES: Names = Names {
    group: "discovery.k8s.io",
    version: "v1",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    short_names: &[],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: verbs::ALL,
};

static COLUMNS: &[Column] = &[
    NAME,
    column("AddressType", "string", "What kind of addresses the endpoints have."),
    column("Ports", "string", "Ports that the endpoints share."),
    column("Endpoints", "string", "Addresses of the endpoints."),
    AGE,
];

impl Kind for EndpointSlice {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn default(&self, object: &mut Value) {
        for port in list_mut(object, "ports") {
            default_to(port, "name", "");
            default_to(port, "protocol", "TCP");
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        set_generation(object, 1);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        let labels = ["metadata", "labels"];
        let changed = ["addressType", "endpoints", "ports"].iter().any(|key| !same(get(new, key), get(old, key)))
            || !same(at(new, &labels), at(old, &labels));
        bump_generation(new, old, changed);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let kind = text(object, "addressType");
        errors.one_of(&Path::Root("addressType"), kind, &["FQDN", "IPv4", "IPv6"]);
        let root = Path::Root("ports");
        let mut seen: Vec<&str> = Vec::new();
        for (index, port) in list(object, "ports").iter().enumerate() {
            let (path, name) = (root.index(index), text(port, "name"));
            if !name.is_empty() {
                errors.all_invalid(&path.child("name"), name, names::dns_label(name));
            }
            if seen.contains(&name) {
                errors.duplicate(&path.child("name"), name);
            } else {
                seen.push(name);
            }
            errors.one_of(&path.child("protocol"), text(port, "protocol"), &["SCTP", "TCP", "UDP"]);
            let protocol = text(port, "appProtocol");
            if !protocol.is_empty() {
                errors.all_invalid(&path.child("appProtocol"), protocol, names::qualified_name(protocol));
            }
        }
        let (root, endpoints) = (Path::Root("endpoints"), list(object, "endpoints"));
        if endpoints.len() > 1000 {
            errors.too_many(&root, endpoints.len(), 1000);
            return errors.into_vec();
        }
        for (index, endpoint) in endpoints.iter().enumerate() {
            validate_endpoint(&mut errors, &root.index(index), endpoint, kind);
        }
        errors.into_vec()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        errors.immutable(&Path::Root("addressType"), get(new, "addressType"), get(old, "addressType"));
        errors.into_vec()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let port = |port: &Value| match (integer(port, "port"), has(port, "name")) {
            (Some(number), _) => number.to_string(),
            (None, true) => text(port, "name").to_owned(),
            (None, false) => "*".to_owned(),
        };
        let ports = list(object, "ports").iter().map(port).collect();
        let addresses = list(object, "endpoints")
            .iter()
            .flat_map(|endpoint| list(endpoint, "addresses"))
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        vec![
            name(object),
            text(object, "addressType").into(),
            first_three(ports).into(),
            first_three(addresses).into(),
            age(object, now),
        ]
    }
}

fn validate_endpoint(errors: &mut Errors, path: &Path<'_>, endpoint: &Value, kind: &str) {
    let (addresses_path, found) = (path.child("addresses"), list(endpoint, "addresses"));
    if found.is_empty() {
        errors.required(&addresses_path, "must contain at least 1 address");
    } else if found.len() > 100 {
        errors.too_many(&addresses_path, found.len(), 100);
    }
    for (index, address) in found.iter().filter_map(Value::as_str).enumerate() {
        let path = addresses_path.index(index);
        match kind {
            "IPv4" | "IPv6" => {
                if let Some(parsed) = addresses::validate(errors, &path, address) {
                    if matches!(parsed, IpAddr::V4(_)) != (kind == "IPv4") {
                        errors.invalid(&addresses_path, address, format!("must be an {kind} address"));
                    }
                    addresses::validate_endpoint(errors, &path, address);
                }
            }
            "FQDN" => errors.all_invalid(&path, address, names::dns_subdomain(address.strip_suffix('.').unwrap_or(address))),
            _ => {}
        }
    }
    let (node, host) = (text(endpoint, "nodeName"), text(endpoint, "hostname"));
    if !node.is_empty() {
        errors.all_invalid(&path.child("nodeName"), node, names::dns_subdomain(node));
    }
    if !host.is_empty() {
        errors.all_invalid(&path.child("hostname"), host, names::dns_label(host));
    }
    let hints = path.child("hints");
    for (key, check) in [
        ("forZones", names::label_value as fn(&str) -> Vec<String>),
        ("forNodes", names::dns_subdomain as fn(&str) -> Vec<String>),
    ] {
        let (path, hints) = (hints.child(key), list(get(endpoint, "hints"), key));
        if hints.len() > 8 {
            errors.too_many(&path, hints.len(), 8);
            continue;
        }
        for (index, hint) in hints.iter().enumerate() {
            let (path, name) = (path.index(index), text(hint, "name"));
            if hints[..index].iter().any(|other| text(other, "name") == name) {
                errors.duplicate(&path.child("name"), name);
            }
            errors.all_invalid(&path.child("name"), name, check(name));
        }
    }
}
