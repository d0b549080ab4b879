//! Endpoints.
//!
//! Source: kubernetes pkg/registry/core/endpoint, `ValidateEndpoints`, `formatEndpoints`.

use daruma_api::status::FieldError;
use serde_json::Value;

use crate::access::{default_text, list, list_mut, number, text};
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, Names, Scope};
use crate::printing::{AGE, NAME, age, column, name};
use crate::{addresses, names, verbs};

/// The kind.
pub struct Endpoints;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: verbs::ALL,
};

static COLUMNS: &[Column] = &[NAME, column("Endpoints", "string", "Addresses and ports behind the service."), AGE];

impl Kind for Endpoints {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn default(&self, object: &mut Value) {
        for port in list_mut(object, "subsets").iter_mut().flat_map(|subset| list_mut(subset, "ports")) {
            default_text(port, "protocol", "TCP");
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = Path::Root("subsets");
        for (index, subset) in list(object, "subsets").iter().enumerate() {
            let path = root.index(index);
            if list(subset, "addresses").is_empty() && list(subset, "notReadyAddresses").is_empty() {
                errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
            }
            for key in ["addresses", "notReadyAddresses"] {
                let path = path.child(key);
                for (index, address) in list(subset, key).iter().enumerate() {
                    validate_address(&mut errors, &path.index(index), address);
                }
            }
            let (path, ports) = (path.child("ports"), list(subset, "ports"));
            for (index, port) in ports.iter().enumerate() {
                validate_port(&mut errors, &path.index(index), port, ports.len() > 1);
            }
        }
        errors.into_vec()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        vec![name(object), summary(object).into(), age(object, now)]
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }
}

fn validate_address(errors: &mut Errors, path: &Path<'_>, address: &Value) {
    let ip = text(address, "ip");
    if addresses::validate(errors, &path.child("ip"), ip).is_some() {
        addresses::validate_endpoint(errors, &path.child("ip"), ip);
    }
    let (host, node) = (text(address, "hostname"), text(address, "nodeName"));
    if !host.is_empty() {
        errors.all_invalid(&path.child("hostname"), host, names::dns_label(host));
    }
    if !node.is_empty() {
        errors.all_invalid(&path.child("nodeName"), node, names::dns_subdomain(node));
    }
}

fn validate_port(errors: &mut Errors, path: &Path<'_>, port: &Value, needs_name: bool) {
    let own = text(port, "name");
    if own.is_empty() && needs_name {
        errors.required(&path.child("name"), "");
    } else if !own.is_empty() {
        errors.all_invalid(&path.child("name"), own, names::dns_label(own));
    }
    let number = number(port, "port");
    if let Some(wrong) = names::port_number(number) {
        errors.invalid(&path.child("port"), number, wrong);
    }
    errors.one_of(&path.child("protocol"), text(port, "protocol"), &["SCTP", "TCP", "UDP"]);
    let protocol = text(port, "appProtocol");
    if !protocol.is_empty() {
        errors.all_invalid(&path.child("appProtocol"), protocol, names::qualified_name(protocol));
    }
}

fn summary(object: &Value) -> String {
    let subsets = list(object, "subsets");
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let addresses = list(subset, "addresses").iter().map(|address| text(address, "ip"));
        let ports = list(subset, "ports");
        if ports.is_empty() {
            all.extend(addresses.clone().map(str::to_owned));
        }
        for port in ports {
            let port = number(port, "port");
            all.extend(
                addresses.clone().map(|ip| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }),
            );
        }
    }
    let more = all.len().saturating_sub(3);
    all.truncate(3);
    let text = all.join(",");
    if more > 0 { format!("{text} + {more} more...") } else { text }
}
