//! APIService.
//!
//! Source: kube-aggregator pkg/apis/apiregistration (validation, v1/defaults.go) and
//! pkg/registry/apiservice.

use daruma_api::status::FieldError;
use serde_json::{Value, json};

use crate::access::{at, default_to, flag, get, has, integer, keep, list, number, set, text};
use crate::field::{Errors, Path};
use crate::kind::{Column, FieldPath, Kind, Names, Scope, Subresource};
use crate::printing::{AGE, NAME, age, column, name};
use crate::{names, verbs};

/// The kind.
pub struct ApiService;

static NAMES: Names = Names {
    group: "apiregistration.k8s.io",
    version: "v1",
    kind: "APIService",
    plural: "apiservices",
    singular: "apiservice",
    short_names: &[],
    categories: &["api-extensions"],
    scope: Scope::Cluster,
    verbs: verbs::ALL,
};

static SUBRESOURCES: &[Subresource] =
    &[Subresource { name: "status", group: "", version: "", kind: "APIService", verbs: verbs::PART }];

static COLUMNS: &[Column] = &[
    NAME,
    column("Service", "string", "Who serves the group version."),
    column("Available", "string", "Whether it answers."),
    AGE,
];

impl Kind for ApiService {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn subresources(&self) -> &'static [Subresource] {
        SUBRESOURCES
    }

    fn default(&self, object: &mut Value) {
        if let Some(service) = object.pointer_mut("/spec/service").filter(|service| service.is_object()) {
            default_to(service, "port", 443);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        let local = !has(get(object, "spec"), "service");
        let status = if local {
            json!({"conditions": [{
                "type": "Available",
                "status": "True",
                "reason": "Local",
                "message": "Local APIServices are always available",
            }]})
        } else {
            json!({})
        };
        set(object, "status", status);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
        for key in ["labels", "annotations", "ownerReferences", "finalizers"] {
            keep(&mut new["metadata"], get(old, "metadata"), key);
        }
    }

    fn reset_fields(&self, subresource: &str) -> &'static [FieldPath] {
        match subresource {
            "status" => &[&["spec"], &["metadata"]],
            _ => &[&["status"]],
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, root) = (get(object, "spec"), Path::Root("spec"));
        let (group, version) = (text(spec, "group"), text(spec, "version"));
        let (needed, name) = (format!("{version}.{group}"), text(at(object, &["metadata"]), "name"));
        if name != needed {
            errors.invalid(&Path::Root("metadata.name"), name, format!("must be `spec.version+\".\"+spec.group`: {needed:?}"));
        }
        if group.is_empty() && version != "v1" {
            errors.required(&root.child("group"), "only v1 may have an empty group and it better be legacy kube");
        }
        if !group.is_empty() {
            errors.all_invalid(&root.child("group"), group, names::dns_subdomain(group));
        }
        errors.all_invalid(&root.child("version"), version, names::dns_1035_label(version));
        for (key, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)] {
            let value = number(spec, key);
            if !(1..=most).contains(&value) {
                errors.invalid(&root.child(key), value, format!("must be positive and less than {most}"));
            }
        }
        let (bundle, insecure, insecure_path) =
            (text(spec, "caBundle"), flag(spec, "insecureSkipTLSVerify"), root.child("insecureSkipTLSVerify"));
        let service = get(spec, "service");
        if service.is_null() {
            if !bundle.is_empty() {
                let shown = format!("{} bytes", crate::config_map::decoded_length(bundle));
                errors.invalid(&root.child("caBundle"), shown, "local APIServices may not have a caBundle");
            }
            if insecure {
                errors.invalid(&insecure_path, &Value::Bool(true), "local APIServices may not have insecureSkipTLSVerify");
            }
            return errors.into_vec();
        }
        let path = root.child("service");
        for key in ["namespace", "name"] {
            if text(service, key).is_empty() {
                errors.required(&path.child(key), "");
            }
        }
        if let Some(port) = integer(service, "port")
            && let Some(wrong) = names::port_number(port)
        {
            errors.invalid(&path.child("port"), port, format!("port is not valid: {wrong}"));
        }
        if insecure && !bundle.is_empty() {
            errors.invalid(&insecure_path, &Value::Bool(true), "may not be true if caBundle is present");
        }
        errors.into_vec()
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let path = Path::Root("status.conditions");
        for (index, condition) in list(get(new, "status"), "conditions").iter().enumerate() {
            let status = text(condition, "status");
            if !matches!(status, "True" | "False" | "Unknown") {
                errors.not_supported(&path.index(index).child("status"), status, &["True", "False", "Unknown"]);
            }
        }
        errors.into_vec()
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let service = at(object, &["spec", "service"]);
        let service = if service.is_null() {
            "Local".to_owned()
        } else {
            format!("{}/{}", text(service, "namespace"), text(service, "name"))
        };
        let condition = list(get(object, "status"), "conditions").iter().find(|one| text(one, "type") == "Available");
        let available = condition.map_or("Unknown".to_owned(), |condition| {
            let (status, reason) = (text(condition, "status"), text(condition, "reason"));
            if status == "True" || reason.is_empty() { status.to_owned() } else { format!("{status} ({reason})") }
        });
        vec![name(object), service.into(), available.into(), age(object, now)]
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        names::path_segment(name)
    }
}
