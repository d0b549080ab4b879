//! ReplicaSet.
//!
//! Source: kubernetes pkg/registry/apps/replicaset/strategy.go, pkg/apis/apps/validation/validation.go.

use daruma_api::status::FieldError;
use serde_json::{Value, json};

use crate::access::{default_to, ensure, get, number};
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, Names, Subresource};
use crate::printing::{AGE, CONTAINERS, IMAGES, NAME, SELECTOR, column, name};
use crate::{pod, rollout, workload};

/// The kind.
pub struct ReplicaSet;

static NAMES: Names = workload::names("ReplicaSet", "replicasets", "replicaset", &["rs"]);

static SUBRESOURCES: [Subresource; 2] = workload::scalable("ReplicaSet");

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
        workload::prepare_create(object, json!({"replicas": 0}));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        workload::prepare_update(new, old, false);
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        workload::prepare_status_update(new, old);
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
        let [age, names, images, selector] = workload::last_cells(object, now);
        vec![
            name(object),
            number(spec, "replicas").into(),
            number(status, "replicas").into(),
            number(status, "readyReplicas").into(),
            age,
            names,
            images,
            selector,
        ]
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }

    fn selectable_default(&self, _field: &str) -> &'static str {
        "0"
    }
}
