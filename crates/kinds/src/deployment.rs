//! Deployment.
//!
//! Source: kubernetes pkg/registry/apps/deployment/strategy.go, pkg/apis/apps/v1/defaults.go,
//! pkg/apis/apps/validation/validation.go.

use daruma_api::status::FieldError;
use serde_json::{Value, json};

use crate::access::{at, default_text, default_to, ensure, get, has, integer, keep, number, same, text};
use crate::field::{Errors, Path};
use crate::kind::{Column, FieldPath, Kind, Names, Subresource};
use crate::printing::{AGE, CONTAINERS, IMAGES, NAME, SELECTOR, column, name};
use crate::{pod, rollout, selectors, workload};

/// The kind.
pub struct Deployment;

static NAMES: Names = workload::names("Deployment", "deployments", "deployment", &["deploy"]);

static SUBRESOURCES: [Subresource; 2] = workload::scalable("Deployment");

static COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "string", "How many pods are ready, of how many wanted."),
    column("Up-to-date", "string", "How many pods follow the newest template."),
    column("Available", "string", "How many pods have been ready for long enough."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

impl Kind for Deployment {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn subresources(&self) -> &'static [Subresource] {
        &SUBRESOURCES
    }

    fn default(&self, object: &mut Value) {
        let spec = ensure(object, "spec");
        default_to(spec, "replicas", 1);
        let strategy = ensure(spec, "strategy");
        default_text(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate" {
            let rolling = ensure(strategy, "rollingUpdate");
            default_to(rolling, "maxUnavailable", "25%");
            default_to(rolling, "maxSurge", "25%");
        }
        default_to(spec, "revisionHistoryLimit", 10);
        default_to(spec, "progressDeadlineSeconds", 600);
        pod::default_template(spec);
    }

    fn prepare_create(&self, object: &mut Value) {
        workload::prepare_create(object, json!({}));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        let annotations = ["metadata", "annotations"];
        let annotated = !same(at(new, &annotations), at(old, &annotations));
        workload::prepare_update(new, old, annotated);
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        workload::prepare_status_update(new, old);
        keep(ensure(new, "metadata"), get(old, "metadata"), "labels");
    }

    fn reset_fields(&self, subresource: &str) -> &'static [FieldPath] {
        match subresource {
            "status" => &[&["spec"], &["metadata", "labels"]],
            _ => &[&["status"]],
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, root) = (get(object, "spec"), Path::Root("spec"));
        errors.nonnegative(&root.child("replicas"), number(spec, "replicas"));
        // Templates of deployments become templates of ReplicaSets, and messages say so.
        rollout::validate_selector_and_template(&mut errors, &root, spec, "ReplicaSet");
        validate_strategy(&mut errors, &root.child("strategy"), get(spec, "strategy"));
        for key in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
            errors.nonnegative(&root.child(key), number(spec, key));
        }
        if let Some(deadline) = integer(spec, "progressDeadlineSeconds")
            && deadline <= number(spec, "minReadySeconds")
        {
            errors.invalid(&root.child("progressDeadlineSeconds"), deadline, "must be greater than minReadySeconds");
        }
        errors.into_vec()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        rollout::validate_same_selector(&mut errors, new, old);
        errors.into_vec()
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        rollout::validate_counts(&mut errors, get(new, "status"), &["updatedReplicas", "readyReplicas", "availableReplicas"]);
        rollout::validate_collisions(&mut errors, new, old);
        errors.into_vec()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let (spec, status) = (get(object, "spec"), get(object, "status"));
        let [age, names, images, _] = workload::last_cells(object, now);
        let selector = selectors::parse(get(spec, "selector")).map_or("<invalid>".to_owned(), |mut selector| {
            selector.requirements.sort_by(|a, b| a.key.cmp(&b.key));
            selector.to_string()
        });
        vec![
            name(object),
            format!("{}/{}", number(status, "readyReplicas"), number(spec, "replicas")).into(),
            number(status, "updatedReplicas").into(),
            number(status, "availableReplicas").into(),
            age,
            names,
            images,
            selector.into(),
        ]
    }
}

fn validate_strategy(errors: &mut Errors, path: &Path<'_>, strategy: &Value) {
    let (rolling, rolling_path) = (get(strategy, "rollingUpdate"), path.child("rollingUpdate"));
    match text(strategy, "type") {
        "Recreate" => {
            if has(strategy, "rollingUpdate") {
                errors.forbidden(&rolling_path, "may not be specified when strategy `type` is 'Recreate'");
            }
        }
        "RollingUpdate" if rolling.is_null() => {
            errors.required(&rolling_path, "this should be defaulted and never be nil");
        }
        "RollingUpdate" => {
            let (unavailable, surge) = (get(rolling, "maxUnavailable"), get(rolling, "maxSurge"));
            let unavailable_path = rolling_path.child("maxUnavailable");
            rollout::validate_amount(errors, &unavailable_path, unavailable);
            rollout::validate_amount(errors, &rolling_path.child("maxSurge"), surge);
            if rollout::amount(unavailable) == 0 && rollout::amount(surge) == 0 {
                errors.invalid(&unavailable_path, unavailable, "may not be 0 when `maxSurge` is 0");
            }
            rollout::validate_at_most_all(errors, &unavailable_path, unavailable);
        }
        _ => errors.extend([FieldError::not_supported(path.to_string(), strategy.to_string(), &["Recreate", "RollingUpdate"])]),
    }
}
