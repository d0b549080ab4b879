//! Namespace.
//!
//! Source: kubernetes pkg/registry/core/namespace/strategy.go, `ValidateNamespace`.

use daruma_api::status::FieldError;
use serde_json::{Value, json};

use crate::access::{at, default_text, ensure, get, has, keep, list, set, text};
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, Names, Scope, Subresource};
use crate::names;
use crate::printing::{AGE, NAME, age, column, name};
use crate::verbs;

/// The kind.
pub struct Namespace;

const FINALIZER: &str = "kubernetes";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    categories: &[],
    scope: Scope::Cluster,
    verbs: verbs::NO_COLLECTION,
};

static SUBRESOURCES: &[Subresource] = &[
    Subresource { name: "finalize", group: "", version: "", kind: "Namespace", verbs: verbs::UPDATE },
    Subresource { name: "status", group: "", version: "", kind: "Namespace", verbs: verbs::PART },
];

static COLUMNS: &[Column] = &[NAME, column("Status", "string", "Whether the namespace is in use or going away."), AGE];

impl Kind for Namespace {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn subresources(&self) -> &'static [Subresource] {
        SUBRESOURCES
    }

    fn default(&self, object: &mut Value) {
        let name = text(get(object, "metadata"), "name").to_owned();
        if !name.is_empty() {
            set(ensure(ensure(object, "metadata"), "labels"), NAME_LABEL, name);
        }
        default_text(ensure(object, "status"), "phase", "Active");
    }

    fn prepare_create(&self, object: &mut Value) {
        set(object, "status", json!({"phase": "Active"}));
        let spec = ensure(object, "spec");
        let mut finalizers = list(spec, "finalizers").to_vec();
        if !finalizers.iter().any(|one| one == FINALIZER) {
            finalizers.push(FINALIZER.into());
            set(spec, "finalizers", finalizers);
        }
        // The name may have been generated after defaulting.
        self.default(object);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        keep(ensure(new, "spec"), get(old, "spec"), "finalizers");
        keep(new, old, "status");
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let path = Path::Root("spec.finalizers");
        for finalizer in list(get(object, "spec"), "finalizers").iter().filter_map(Value::as_str) {
            errors.all_invalid(&path, finalizer, names::qualified_name(finalizer));
            if !finalizer.contains('/') && !matches!(finalizer, FINALIZER | "orphan" | "foregroundDeletion") {
                let text = "name is neither a standard finalizer name nor is it fully qualified";
                errors.invalid(&path, finalizer, text);
            }
        }
        errors.into_vec()
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (phase, path) = (text(get(new, "status"), "phase"), Path::Root("status.Phase"));
        if has(get(new, "metadata"), "deletionTimestamp") {
            if phase != "Terminating" {
                errors.invalid(&path, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty");
            }
        } else if phase != "Active" {
            errors.invalid(&path, phase, "may only be 'Active' if `deletionTimestamp` is empty");
        }
        errors.into_vec()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        vec![name(object), text(at(object, &["status"]), "phase").into(), age(object, now)]
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.phase"]
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        names::dns_label(name)
    }
}
