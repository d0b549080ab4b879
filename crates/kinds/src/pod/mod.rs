//! Pod.
//!
//! Source: kubernetes pkg/registry/core/pod/strategy.go, pkg/apis/core/v1/defaults.go,
//! pkg/apis/core/validation/validation.go.

mod cells;
mod container_validation;
pub(crate) mod defaults;
mod placement_validation;
mod probe_validation;
mod qos;
pub(crate) mod resource_validation;
pub(crate) mod spec_validation;
mod template;
mod update_validation;
mod volume_validation;

use daruma_api::status::FieldError;
use serde_json::{Value, json};

use crate::access::{at, get, integer, keep, list, list_mut, number, same, set, text};
use crate::field::{Errors, Path};
use crate::kind::{Column, FieldPath, Kind, Names, Scope, Subresource};
use crate::metadata::{bump_generation, set_generation};
use crate::printing::{AGE, NAME, column, wide};
use crate::verbs;

pub(crate) use placement_validation::validate_taint_effect;
pub(crate) use probe_validation::port as validate_port_or_name;
pub(crate) use template::{default as default_template, validate as validate_template};

/// The kind.
pub struct Pod;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    scope: Scope::Namespaced,
    verbs: verbs::ALL,
};

static SUBRESOURCES: &[Subresource] = &[
    Subresource { name: "attach", group: "", version: "", kind: "PodAttachOptions", verbs: verbs::CONNECT },
    Subresource { name: "binding", group: "", version: "", kind: "Binding", verbs: verbs::CREATE },
    Subresource { name: "eviction", group: "policy", version: "v1", kind: "Eviction", verbs: verbs::CREATE },
    Subresource { name: "exec", group: "", version: "", kind: "PodExecOptions", verbs: verbs::CONNECT },
    Subresource { name: "log", group: "", version: "", kind: "Pod", verbs: verbs::GET },
    Subresource { name: "portforward", group: "", version: "", kind: "PodPortForwardOptions", verbs: verbs::CONNECT },
    Subresource { name: "proxy", group: "", version: "", kind: "PodProxyOptions", verbs: verbs::PROXY },
    Subresource { name: "status", group: "", version: "", kind: "Pod", verbs: verbs::PART },
];

static COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "string", "How many of the pod's containers are ready, of how many."),
    column("Status", "string", "What the pod's containers are doing, in a word."),
    column("Restarts", "string", "How often containers of the pod were started anew, and when last."),
    AGE,
    wide("IP", "string", "Address of the pod."),
    wide("Node", "string", "Node that the pod is bound to."),
    wide("Nominated Node", "string", "Node on which room is being made for the pod."),
    wide("Readiness Gates", "string", "How many of the pod's readiness gates are met."),
];

impl Kind for Pod {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn subresources(&self) -> &'static [Subresource] {
        SUBRESOURCES
    }

    fn default(&self, object: &mut Value) {
        defaults::pod(object);
    }

    fn prepare_create(&self, object: &mut Value) {
        set_generation(object, 1);
        let class = qos::class(get(object, "spec"));
        let mut status = json!({"phase": "Pending", "qosClass": class});
        if !list(get(object, "spec"), "schedulingGates").is_empty() {
            status["conditions"] = json!([{
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }]);
        }
        set(object, "status", status);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
        let changed = !same(get(new, "spec"), get(old, "spec"));
        bump_generation(new, old, changed);
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
        keep(&mut new["metadata"], get(old, "metadata"), "deletionTimestamp");
        keep(&mut new["metadata"], get(old, "metadata"), "deletionGracePeriodSeconds");
        keep(&mut new["metadata"], get(old, "metadata"), "ownerReferences");
        keep(&mut new["metadata"], get(old, "metadata"), "generation");
        let (old_status, new_status) = (get(old, "status"), crate::access::ensure(new, "status"));
        if text(new_status, "qosClass").is_empty() {
            keep(new_status, old_status, "qosClass");
        }
        if number(new_status, "observedGeneration") == 0 {
            keep(new_status, old_status, "observedGeneration");
        }
        let before = list(old_status, "conditions");
        for condition in list_mut(new_status, "conditions") {
            let name = text(condition, "type");
            if let Some(old) = before.iter().find(|old| text(old, "type") == name)
                && number(condition, "observedGeneration") == 0
            {
                keep(condition, old, "observedGeneration");
            }
        }
    }

    fn reset_fields(&self, subresource: &str) -> &'static [FieldPath] {
        match subresource {
            "status" => &[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]],
            _ => &[&["status"]],
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        spec_validation::pod(&mut errors, object);
        errors.into_vec()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        update_validation::pod(&mut errors, new, old);
        errors.into_vec()
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        update_validation::status(&mut errors, new, old);
        errors.into_vec()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        cells::cells(object, now)
    }

    fn row_conditions(&self, object: &Value) -> Option<Value> {
        let (reason, message) = match text(get(object, "status"), "phase") {
            "Succeeded" => ("Succeeded", "The pod has completed successfully."),
            "Failed" => ("Failed", "The pod failed."),
            _ => return None,
        };
        Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ]
    }

    fn selectable_default(&self, field: &str) -> &'static str {
        if field == "spec.hostNetwork" { "false" } else { "" }
    }

    fn deletion_grace_seconds(&self, object: &Value) -> Option<i64> {
        let (spec, phase) = (get(object, "spec"), text(get(object, "status"), "phase"));
        if text(spec, "nodeName").is_empty() || phase == "Failed" || phase == "Succeeded" {
            return Some(0);
        }
        let seconds = integer(spec, "terminationGracePeriodSeconds").unwrap_or_default();
        Some(if seconds < 0 { 1 } else { seconds })
    }
}

/// Checks a `Binding` of a pod (kubernetes `ValidatePodBinding`).
pub fn validate_binding(binding: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let (root, target) = (Path::Root("target"), at(binding, &["target"]));
    let kind = text(target, "kind");
    if !kind.is_empty() && kind != "Node" {
        errors.not_supported(&root.child("kind"), kind, &["Node", "<empty>"]);
    }
    if text(target, "name").is_empty() {
        errors.required(&root.child("name"), "");
    }
    errors.into_vec()
}

#[cfg(test)]
mod tests;
