//! PodDisruptionBudget.
//!
//! Source: kubernetes pkg/registry/policy/poddisruptionbudget/strategy.go, pkg/apis/policy/validation/validation.go,
//! apimachinery pkg/apis/meta/v1/validation (`ValidateConditions`).

use daruma_api::status::FieldError;
use serde_json::{Value, json};

use crate::access::{get, has, list, number, text};
use crate::field::{Errors, Path, Shown};
use crate::kind::{Column, Kind, Names, Scope, Subresource};
use crate::printing::{AGE, NAME, age, column, name};
use crate::{names, rollout, selectors, verbs, workload};

/// The kind.
pub struct PodDisruptionBudget;

static NAMES: Names = Names {
    group: "policy",
    version: "v1",
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    short_names: &["pdb"],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: verbs::ALL,
};

static SUBRESOURCES: &[Subresource] = &[workload::status("PodDisruptionBudget")];

static COLUMNS: &[Column] = &[
    NAME,
    column("Min Available", "string", "How many pods must stay available."),
    column("Max Unavailable", "string", "How many pods may be unavailable."),
    column("Allowed Disruptions", "integer", "How many pods may be evicted now."),
    AGE,
];

const POLICIES: &[&str] = &["AlwaysAllow", "IfHealthyBudget"];
const AMOUNTS: [&str; 2] = ["minAvailable", "maxUnavailable"];
const COUNTS: [&str; 4] = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];

impl Kind for PodDisruptionBudget {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn subresources(&self) -> &'static [Subresource] {
        SUBRESOURCES
    }

    fn prepare_create(&self, object: &mut Value) {
        let status = json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
        workload::prepare_create(object, status);
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
        if AMOUNTS.iter().all(|key| has(spec, key)) {
            errors.invalid(&root, shown(spec), "minAvailable and maxUnavailable cannot be both set");
        }
        for key in AMOUNTS.iter().filter(|key| has(spec, key)) {
            rollout::validate_amount(&mut errors, &root.child(key), get(spec, key));
            rollout::validate_at_most_all(&mut errors, &root.child(key), get(spec, key));
        }
        if has(spec, "selector") {
            selectors::validate(&mut errors, &root.child("selector"), get(spec, "selector"));
        }
        if has(spec, "unhealthyPodEvictionPolicy") {
            let policy = text(spec, "unhealthyPodEvictionPolicy");
            if !POLICIES.contains(&policy) {
                errors.not_supported(&root.child("unhealthyPodEvictionPolicy"), policy, POLICIES);
            }
        }
        errors.into_vec()
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (status, root) = (get(new, "status"), Path::Root("status"));
        validate_conditions(&mut errors, &root.child("conditions"), list(status, "conditions"));
        for key in COUNTS {
            errors.nonnegative(&root.child(key), number(status, key));
        }
        errors.into_vec()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let amount = |key: &str| match get(get(object, "spec"), key) {
            Value::Null => "N/A".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        vec![
            name(object),
            amount("minAvailable").into(),
            amount("maxUnavailable").into(),
            number(get(object, "status"), "disruptionsAllowed").into(),
            age(object, now),
        ]
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }
}

/// The specification as messages show it: members as the Go type names them.
fn shown(spec: &Value) -> Shown {
    Shown::raw(format!(
        "{{\"MinAvailable\":{},\"Selector\":{},\"MaxUnavailable\":{},\"UnhealthyPodEvictionPolicy\":{}}}",
        get(spec, "minAvailable"),
        get(spec, "selector"),
        get(spec, "maxUnavailable"),
        get(spec, "unhealthyPodEvictionPolicy")
    ))
}

fn validate_conditions(errors: &mut Errors, path: &Path<'_>, conditions: &[Value]) {
    for (index, condition) in conditions.iter().enumerate() {
        let (path, kind, reason) = (path.index(index), text(condition, "type"), text(condition, "reason"));
        if conditions[..index].iter().any(|other| text(other, "type") == kind) {
            errors.duplicate(&path.child("type"), kind);
        }
        errors.all_invalid(&path.child("type"), kind, names::qualified_name(kind));
        let status = text(condition, "status");
        if !matches!(status, "True" | "False" | "Unknown") {
            errors.not_supported(&path.child("status"), status, &["False", "True", "Unknown"]);
        }
        let generation = number(condition, "observedGeneration");
        if generation < 0 {
            errors.invalid(&path.child("observedGeneration"), generation, "must be greater than or equal to zero");
        }
        if !has(condition, "lastTransitionTime") {
            errors.required(&path.child("lastTransitionTime"), "");
        }
        if reason.is_empty() {
            errors.required(&path.child("reason"), "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(spec: Value, expected: &[&str]) {
        let texts: Vec<String> = PodDisruptionBudget.validate(&json!({"spec": spec})).iter().map(ToString::to_string).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn rules() {
        check(json!({"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}), &[]);
        check(json!({"maxUnavailable": "50%", "unhealthyPodEvictionPolicy": "AlwaysAllow"}), &[]);
        check(
            json!({"minAvailable": -1, "maxUnavailable": "101%", "unhealthyPodEvictionPolicy": "x"}),
            &[
                "spec: Invalid value: {\"MinAvailable\":-1,\"Selector\":null,\"MaxUnavailable\":\"101%\",\"UnhealthyPodEvictionPolicy\":\"x\"}: minAvailable and maxUnavailable cannot be both set",
                "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0",
                "spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
                "spec.unhealthyPodEvictionPolicy: Unsupported value: \"x\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
            ],
        );
        let condition = json!({"type": "DisruptionAllowed", "status": "x", "reason": ""});
        let wrong = PodDisruptionBudget
            .validate_status_update(&json!({"status": {"expectedPods": -1, "conditions": [condition]}}), &Value::Null);
        let texts: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "status.conditions[0].status: Unsupported value: \"x\": supported values: \"False\", \"True\", \"Unknown\"",
                "status.conditions[0].lastTransitionTime: Required value",
                "status.conditions[0].reason: Required value",
                "status.expectedPods: Invalid value: -1: must be greater than or equal to 0",
            ]
        );
    }

    #[test]
    fn a_change_of_the_selector_replaces_it() {
        let current = json!({"spec": {"selector": {"matchLabels": {"a": "1"}}}});
        let patch = json!({"spec": {"selector": {"matchLabels": {"b": "2"}}}});
        let patched = crate::patch::strategic_merge("policy", "v1", "PodDisruptionBudget", &current, patch);
        assert_eq!(patched, Ok(json!({"spec": {"selector": {"matchLabels": {"b": "2"}}}})));
    }
}
