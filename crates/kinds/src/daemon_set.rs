//! DaemonSet.
//!
//! Source: kubernetes pkg/registry/apps/daemonset/strategy.go, pkg/apis/apps/v1/defaults.go,
//! pkg/apis/apps/validation/validation.go; the template's generation lives in the annotation
//! `deprecated.daemonset.template.generation` (pkg/apis/apps/v1/conversion.go).

use daruma_api::status::FieldError;
use serde_json::{Value, json};

use crate::access::{at, default_text, default_to, ensure, get, number, same, set, text};
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, Names, Subresource};
use crate::printing::{AGE, CONTAINERS, IMAGES, NAME, SELECTOR, column, labels, name};
use crate::{pod, rollout, workload};

/// The kind.
pub struct DaemonSet;

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

static NAMES: Names = workload::names("DaemonSet", "daemonsets", "daemonset", &["ds"]);

static SUBRESOURCES: &[Subresource] = &[workload::status("DaemonSet")];

static COLUMNS: &[Column] = &[
    NAME,
    column("Desired", "integer", "How many nodes should run the pod."),
    column("Current", "integer", "How many of them have it."),
    column("Ready", "integer", "On how many it is ready."),
    column("Up-to-date", "integer", "On how many it follows the newest template."),
    column("Available", "integer", "On how many it has been ready for long enough."),
    column("Node Selector", "string", "Labels of the nodes that it may run on."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

impl Kind for DaemonSet {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn subresources(&self) -> &'static [Subresource] {
        SUBRESOURCES
    }

    fn default(&self, object: &mut Value) {
        let spec = ensure(object, "spec");
        let strategy = ensure(spec, "updateStrategy");
        default_text(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate" {
            let rolling = ensure(strategy, "rollingUpdate");
            default_to(rolling, "maxUnavailable", 1);
            default_to(rolling, "maxSurge", 0);
        }
        default_to(spec, "revisionHistoryLimit", 10);
        pod::default_template(spec);
    }

    fn prepare_create(&self, object: &mut Value) {
        let status = json!({
            "currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0
        });
        workload::prepare_create(object, status);
        set_template_generation(object, template_generation(object).max(1));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        let template = ["spec", "template"];
        let template_changed = !same(at(new, &template), at(old, &template));
        let before = template_generation(old).max(1);
        set_template_generation(new, if template_changed { before + 1 } else { before });
        workload::prepare_update(new, old, false);
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        workload::prepare_status_update(new, old);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, root) = (get(object, "spec"), Path::Root("spec"));
        rollout::validate_selector_and_template(&mut errors, &root, spec, "DaemonSet");
        for key in ["minReadySeconds", "revisionHistoryLimit"] {
            errors.nonnegative(&root.child(key), number(spec, key));
        }
        validate_strategy(&mut errors, &root.child("updateStrategy"), get(spec, "updateStrategy"));
        errors.into_vec()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        rollout::validate_same_selector(&mut errors, new, old);
        errors.into_vec()
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (status, root) = (get(new, "status"), Path::Root("status"));
        rollout::validate_collisions(&mut errors, new, old);
        for key in [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ] {
            errors.nonnegative(&root.child(key), number(status, key));
        }
        errors.into_vec()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let (spec, status) = (get(object, "spec"), get(object, "status"));
        let template = at(spec, &["template", "spec"]);
        let [age, names, images, selector] = workload::last_cells(object, now);
        vec![
            name(object),
            number(status, "desiredNumberScheduled").into(),
            number(status, "currentNumberScheduled").into(),
            number(status, "numberReady").into(),
            number(status, "updatedNumberScheduled").into(),
            number(status, "numberAvailable").into(),
            labels(template, "nodeSelector").into(),
            age,
            names,
            images,
            selector,
        ]
    }
}

fn template_generation(object: &Value) -> i64 {
    text(at(object, &["metadata", "annotations"]), TEMPLATE_GENERATION).parse().unwrap_or_default()
}

fn set_template_generation(object: &mut Value, generation: i64) {
    set(ensure(ensure(object, "metadata"), "annotations"), TEMPLATE_GENERATION, generation.to_string());
}

fn validate_strategy(errors: &mut Errors, path: &Path<'_>, strategy: &Value) {
    let (rolling, path_of_rolling) = (get(strategy, "rollingUpdate"), path.child("rollingUpdate"));
    match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" if rolling.is_null() => errors.required(&path_of_rolling, ""),
        "RollingUpdate" => {
            for key in ["maxUnavailable", "maxSurge"] {
                rollout::validate_amount(errors, &path_of_rolling.child(key), get(rolling, key));
                rollout::validate_at_most_all(errors, &path_of_rolling.child(key), get(rolling, key));
            }
            let surge = get(rolling, "maxSurge");
            match (rollout::amount(get(rolling, "maxUnavailable")) != 0, rollout::amount(surge) != 0) {
                (true, true) => {
                    errors.invalid(&path_of_rolling.child("maxSurge"), surge, "may not be set when maxUnavailable is non-zero");
                }
                (false, false) => {
                    errors.required(&path_of_rolling.child("maxUnavailable"), "cannot be 0 when maxSurge is 0");
                }
                _ => {}
            }
        }
        _ => errors.extend([FieldError::not_supported(path.to_string(), strategy.to_string(), &["RollingUpdate", "OnDelete"])]),
    }
}
