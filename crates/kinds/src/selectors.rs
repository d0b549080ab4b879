//! Label selectors and labels inside of JSON documents.
//!
//! Source: apimachinery pkg/apis/meta/v1/validation/validation.go and pkg/apis/meta/v1/helpers.go.

use daruma_api::metav1::LabelSelector;
use daruma_api::selector::Selector;
use serde_json::Value;

use crate::access::{entries, get, list, text};
use crate::field::{Errors, Path, Shown};
use crate::names;

/// Checks keys and values of labels.
pub(crate) fn validate_labels(errors: &mut Errors, path: &Path<'_>, labels: &Value) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        errors.all_invalid(path, key, names::qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        errors.all_invalid(path, value, names::label_value(value));
    }
}

/// Checks a label selector.
pub(crate) fn validate(errors: &mut Errors, path: &Path<'_>, selector: &Value) {
    validate_labels(errors, &path.child("matchLabels"), get(selector, "matchLabels"));
    let expressions = path.child("matchExpressions");
    for (index, expression) in list(selector, "matchExpressions").iter().enumerate() {
        let path = expressions.index(index);
        let values = list(expression, "values");
        match text(expression, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.forbidden(&path.child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        let key = text(expression, "key");
        errors.all_invalid(&path.child("key"), key, names::qualified_name(key));
        for (index, value) in values.iter().filter_map(Value::as_str).enumerate() {
            errors.all_invalid(&path.child("values").index(index), value, names::label_value(value));
        }
    }
}

/// Whether a selector names nothing at all.
pub(crate) fn is_empty(selector: &Value) -> bool {
    entries(selector, "matchLabels").next().is_none() && list(selector, "matchExpressions").is_empty()
}

/// The selector for matching; `None` where it makes no sense.
pub(crate) fn parse(selector: &Value) -> Option<Selector> {
    if selector.is_null() {
        return Some(Selector::none());
    }
    let typed: LabelSelector = serde_json::from_value(selector.clone()).ok()?;
    Selector::from_label_selector(Some(&typed)).ok()
}

/// Whether `labels` meet `selector`.
pub(crate) fn matches(selector: &Selector, labels: &Value) -> bool {
    selector.matches_with(|key| labels.get(key).and_then(Value::as_str))
}

/// A selector as messages show it: members in the order of the Go struct.
pub(crate) fn shown(selector: &Value) -> Shown {
    let members: Vec<String> = ["matchLabels", "matchExpressions"]
        .iter()
        .filter(|key| !get(selector, key).is_null())
        .map(|key| format!("\"{key}\":{}", get(selector, key)))
        .collect();
    if selector.is_null() { Shown::raw("null") } else { Shown::raw(format!("{{{}}}", members.join(","))) }
}
