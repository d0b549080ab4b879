//! ReplicaSet.
//!
//! Source: kubernetes pkg/registry/apps/replicaset/strategy.go, pkg/apis/apps/validation/validation.go.

use daruma_api::status::FieldError;
use serde_json::{Value, json};

use crate::access::{at, default_to, ensure, get, keep, number, same, set};
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, Names, Scope, Subresource};
use crate::metadata::{bump_generation, set_generation};
use crate::printing::{AGE, CONTAINERS, IMAGES, NAME, SELECTOR, age, column, containers, name, selector};
use crate::{pod, rollout, verbs};

/// The kind.
pub struct ReplicaSet;

static NAMES: Names = Names {
    group: "apps",
    version: "v1",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    scope: Scope::Namespaced,
    verbs: verbs::ALL,
};

static SUBRESOURCES: [Subresource; 2] = crate::deployment::scalable("ReplicaSet");

static COLUMNS: &[Column] = &[
    NAME,
    column("Desired", "integer", "How many pods are wanted."),
    column("Current", "integer", "How many pods there are."),
    column("Ready", "integer", "How many pods are ready."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

impl Kind for ReplicaSet {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn subresources(&self) -> &'static [Subresource] {
        &SUBRESOURCES
    }

    fn default(&self, object: &mut Value) {
        let spec = ensure(object, "spec");
        default_to(spec, "replicas", 1);
        pod::default_template(spec);
    }

    fn prepare_create(&self, object: &mut Value) {
        set(object, "status", json!({"replicas": 0}));
        set_generation(object, 1);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
        let changed = !same(get(new, "spec"), get(old, "spec"));
        bump_generation(new, old, changed);
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, root) = (get(object, "spec"), Path::Root("spec"));
        for key in ["replicas", "minReadySeconds"] {
            errors.nonnegative(&root.child(key), number(spec, key));
        }
        rollout::validate_selector_and_template(&mut errors, &root, spec, "ReplicaSet");
        errors.into_vec()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        rollout::validate_same_selector(&mut errors, new, old);
        errors.into_vec()
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
        rollout::validate_counts(&mut errors, get(new, "status"), &parts);
        errors.into_vec()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let (spec, status) = (get(object, "spec"), get(object, "status"));
        let (names, images) = containers(at(spec, &["template", "spec"]));
        vec![
            name(object),
            number(spec, "replicas").into(),
            number(status, "replicas").into(),
            number(status, "readyReplicas").into(),
            age(object, now),
            names,
            images,
            selector(get(spec, "selector")).into(),
        ]
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }

    fn selectable_default(&self, _field: &str) -> &'static str {
        "0"
    }
}
