//! Rules that the pod-running workloads share: selectors and templates, numbers or percentages,
//! counts of a status.
//!
//! Source: kubernetes pkg/apis/apps/validation/validation.go.

use serde_json::Value;

use crate::access::{at, get, number};
use crate::field::{Errors, Path};
use crate::{names, pod, selectors};

/// The value of a number or percentage, the percent sign left out.
pub(crate) fn amount(value: &Value) -> i64 {
    match value.as_str() {
        Some(text) => text.strip_suffix('%').and_then(|digits| digits.parse().ok()).unwrap_or_default(),
        None => value.as_i64().unwrap_or_default(),
    }
}

/// A number that is not negative, or a percentage.
pub(crate) fn validate_amount(errors: &mut Errors, path: &Path<'_>, value: &Value) {
    match value.as_str() {
        Some(text) => {
            if let Some(wrong) = names::percent(text) {
                errors.invalid(path, text, wrong);
            }
        }
        None => errors.nonnegative(path, amount(value)),
    }
}

/// A percentage of at most one hundred; numbers pass.
pub(crate) fn validate_at_most_all(errors: &mut Errors, path: &Path<'_>, value: &Value) {
    if value.is_string() && amount(value) > 100 {
        errors.invalid(path, value, "must not be greater than 100%");
    }
}

/// Selector and template of a workload; `owner` names the workload in messages.
pub(crate) fn validate_selector_and_template(errors: &mut Errors, root: &Path<'_>, spec: &Value, owner: &str) {
    let (selector, selector_path) = (get(spec, "selector"), root.child("selector"));
    if selector.is_null() {
        errors.required(&selector_path, "");
    } else {
        selectors::validate(errors, &selector_path, selector);
        if selectors::is_empty(selector) {
            let kind = match owner {
                "DaemonSet" => "daemonset",
                "StatefulSet" => "statefulset",
                _ => "deployment",
            };
            errors.invalid(&selector_path, selectors::shown(selector), format!("empty selector is invalid for {kind}"));
        }
    }
    let template_path = root.child("template");
    match selectors::parse(selector) {
        None => errors.invalid(&selector_path, selectors::shown(selector), "invalid label selector"),
        Some(parsed) => {
            let labels = at(spec, &["template", "metadata", "labels"]);
            if !parsed.is_everything() && !selectors::matches(&parsed, labels) {
                let path = template_path.child("metadata");
                errors.invalid(&path.child("labels"), labels, "`selector` does not match template `labels`");
            }
        }
    }
    pod::validate_template(errors, &template_path, get(spec, "template"), owner);
}

/// A selector that must not change.
pub(crate) fn validate_same_selector(errors: &mut Errors, new: &Value, old: &Value) {
    let (now, before) = (at(new, &["spec", "selector"]), at(old, &["spec", "selector"]));
    if !crate::access::same(now, before) {
        let root = Path::Root("spec");
        errors.invalid(&root.child("selector"), selectors::shown(now), "field is immutable");
    }
}

/// Counts of a status: none negative, none above `status.replicas`.
pub(crate) fn validate_counts(errors: &mut Errors, status: &Value, parts: &[&str]) {
    let root = Path::Root("status");
    let all = number(status, "replicas");
    errors.nonnegative(&root.child("replicas"), all);
    for key in parts {
        errors.nonnegative(&root.child(key), number(status, key));
    }
    for key in ["observedGeneration", "unavailableReplicas", "terminatingReplicas", "collisionCount"] {
        errors.nonnegative(&root.child(key), number(status, key));
    }
    for key in parts {
        let count = number(status, key);
        if count > all {
            errors.invalid(&root.child(key), count, "cannot be greater than status.replicas");
        }
    }
    let (ready, available) = (number(status, "readyReplicas"), number(status, "availableReplicas"));
    if available > ready {
        errors.invalid(&root.child("availableReplicas"), available, "cannot be greater than readyReplicas");
    }
}

/// A count of name collisions that must not go down.
pub(crate) fn validate_collisions(errors: &mut Errors, new: &Value, old: &Value) {
    let count = |object: &Value| number(get(object, "status"), "collisionCount");
    if count(new) < count(old) {
        let root = Path::Root("status");
        errors.invalid(&root.child("collisionCount"), count(new), "cannot be decremented");
    }
}
