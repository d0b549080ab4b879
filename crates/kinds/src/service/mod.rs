//! Service. Cluster addresses, families and node ports are allocated by the API server, after defaulting.
//!
//! Source: kubernetes pkg/registry/core/service/strategy.go, pkg/apis/core/v1/defaults.go,
//! pkg/apis/core/validation/validation.go.

mod cells;
mod update;
mod validation;

use daruma_api::status::FieldError;
use serde_json::{Value, json};

use crate::access::{default_text, default_to, ensure, get, has, keep, list, list_mut, remove, set, text};
use crate::field::Errors;
use crate::kind::{Column, Kind, Names, Scope, Subresource};
use crate::printing::{AGE, NAME, SELECTOR, column};
use crate::{names, verbs};

/// The kind.
pub struct Service;

/// Seconds for which a client stays with one endpoint, where none are given.
const AFFINITY_SECONDS: i64 = 10_800;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    scope: Scope::Namespaced,
    verbs: verbs::ALL,
};

static SUBRESOURCES: &[Subresource] = &[
    Subresource { name: "proxy", group: "", version: "", kind: "ServiceProxyOptions", verbs: verbs::PROXY },
    Subresource { name: "status", group: "", version: "", kind: "Service", verbs: verbs::PART },
];

static COLUMNS: &[Column] = &[
    NAME,
    column("Type", "string", "From where the service can be reached."),
    column("Cluster-IP", "string", "Address inside of the cluster."),
    column("External-IP", "string", "Addresses from outside."),
    column("Port(s)", "string", "Ports, and ports of nodes, by protocol."),
    AGE,
    SELECTOR,
];

impl Kind for Service {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn subresources(&self) -> &'static [Subresource] {
        SUBRESOURCES
    }

    fn default(&self, object: &mut Value) {
        let spec = ensure(object, "spec");
        default_text(spec, "sessionAffinity", "None");
        match text(spec, "sessionAffinity") {
            "None" => remove(spec, "sessionAffinityConfig"),
            "ClientIP" => {
                let seconds = spec.pointer("/sessionAffinityConfig/clientIP/timeoutSeconds");
                if seconds.is_none_or(Value::is_null) {
                    set(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}}));
                }
            }
            _ => {}
        }
        default_text(spec, "type", "ClusterIP");
        for port in list_mut(spec, "ports") {
            default_text(port, "protocol", "TCP");
            let target = get(port, "targetPort");
            if target.is_null() || target == &json!(0) || target == &json!("") {
                let own = get(port, "port").clone();
                set(port, "targetPort", own);
            }
        }
        if is_external(spec) {
            default_text(spec, "externalTrafficPolicy", "Cluster");
        }
        let kind = text(spec, "type").to_owned();
        if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
            default_to(spec, "internalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            default_to(spec, "allocateLoadBalancerNodePorts", true);
            for ingress in object.pointer_mut("/status/loadBalancer").into_iter().flat_map(|status| list_mut(status, "ingress")) {
                if !text(ingress, "ip").is_empty() {
                    default_to(ingress, "ipMode", "VIP");
                }
            }
        }
        sync_cluster_ips(ensure(object, "spec"));
    }

    fn prepare_create(&self, object: &mut Value) {
        set(object, "status", json!({"loadBalancer": {}}));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
        update::carry_over(ensure(new, "spec"), get(old, "spec"));
        update::drop_what_the_type_lacks(new, old);
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validation::validate(&mut errors, get(object, "spec"));
        errors.into_vec()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        update::validate(&mut errors, get(new, "spec"), get(old, "spec"));
        errors.into_vec()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        cells::cells(object, now)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.clusterIP", "spec.type"]
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        names::dns_label(name)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }
}

/// Whether the service can be reached from outside: its traffic policy then matters.
fn is_external(spec: &Value) -> bool {
    match text(spec, "type") {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => !list(spec, "externalIPs").is_empty(),
        _ => false,
    }
}

fn is_headless(spec: &Value) -> bool {
    list(spec, "clusterIPs").len() == 1 && list(spec, "clusterIPs")[0] == "None" || text(spec, "clusterIP") == "None"
}

/// The list of cluster addresses begins with the single one.
fn sync_cluster_ips(spec: &mut Value) {
    let single = text(spec, "clusterIP").to_owned();
    if !single.is_empty() && !has(spec, "clusterIPs") {
        set(spec, "clusterIPs", vec![single]);
    }
}
