//! Where a pod may run: affinity, tolerations, topology spread.
//!
//! Source: kubernetes `validateAffinity`, `ValidateTolerations`, `validateTopologySpreadConstraints`.

use serde_json::Value;

use crate::access::{get, has, integer, list, number, text};
use crate::field::{Errors, Path};
use crate::{names, selectors};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// All of it.
pub(super) fn validate(errors: &mut Errors, path: &Path<'_>, spec: &Value) {
    affinity(errors, &path.child("affinity"), get(spec, "affinity"));
    tolerations(errors, &path.child("tolerations"), list(spec, "tolerations"));
    spread(errors, &path.child("topologySpreadConstraints"), list(spec, "topologySpreadConstraints"));
}

fn affinity(errors: &mut Errors, path: &Path<'_>, affinity: &Value) {
    let (node, node_path) = (get(affinity, "nodeAffinity"), path.child("nodeAffinity"));
    if has(node, REQUIRED) {
        let (terms, path) = (list(get(node, REQUIRED), "nodeSelectorTerms"), node_path.child(REQUIRED));
        let path = path.child("nodeSelectorTerms");
        if terms.is_empty() {
            errors.required(&path, "must have at least one node selector term");
        }
        for (index, term) in terms.iter().enumerate() {
            node_term(errors, &path.index(index), term, true);
        }
    }
    let preferred_path = node_path.child(PREFERRED);
    for (index, term) in list(node, PREFERRED).iter().enumerate() {
        let path = preferred_path.index(index);
        weight(errors, &path, term);
        node_term(errors, &path.child("preference"), get(term, "preference"), false);
    }
    for key in ["podAffinity", "podAntiAffinity"] {
        let (terms, path) = (get(affinity, key), path.child(key));
        let required_path = path.child(REQUIRED);
        for (index, term) in list(terms, REQUIRED).iter().enumerate() {
            pod_term(errors, &required_path.index(index), term);
        }
        let preferred_path = path.child(PREFERRED);
        for (index, term) in list(terms, PREFERRED).iter().enumerate() {
            let path = preferred_path.index(index);
            weight(errors, &path, term);
            pod_term(errors, &path.child("podAffinityTerm"), get(term, "podAffinityTerm"));
        }
    }
}

fn weight(errors: &mut Errors, path: &Path<'_>, term: &Value) {
    let weight = number(term, "weight");
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

fn node_term(errors: &mut Errors, path: &Path<'_>, term: &Value, check_values: bool) {
    let expressions = path.child("matchExpressions");
    for (index, one) in list(term, "matchExpressions").iter().enumerate() {
        let path = expressions.index(index);
        let values = list(one, "values");
        match text(one, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.forbidden(&path.child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "Gt" | "Lt" if values.len() != 1 => {
                errors.required(&path.child("values"), "must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        let key = text(one, "key");
        errors.all_invalid(&path.child("key"), key, names::qualified_name(key));
        for (index, value) in values.iter().filter_map(Value::as_str).enumerate().filter(|_| check_values) {
            errors.all_invalid(&path.child("values").index(index), value, names::label_value(value));
        }
    }
    let fields = path.child("matchFields");
    for (index, one) in list(term, "matchFields").iter().enumerate() {
        let path = fields.index(index);
        let values = list(one, "values");
        match text(one, "operator") {
            "In" | "NotIn" if values.len() != 1 => {
                errors.required(
                    &path.child("values"),
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
                );
            }
            "In" | "NotIn" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        match text(one, "key") {
            "metadata.name" => {
                for (index, value) in values.iter().filter_map(Value::as_str).enumerate() {
                    errors.all_invalid(&path.child("values").index(index), value, names::dns_subdomain(value));
                }
            }
            other => errors.invalid(&path.child("key"), other, "not a valid field selector key"),
        }
    }
}

fn pod_term(errors: &mut Errors, path: &Path<'_>, term: &Value) {
    selectors::validate(errors, &path.child("labelSelector"), get(term, "labelSelector"));
    selectors::validate(errors, &path.child("namespaceSelector"), get(term, "namespaceSelector"));
    for namespace in list(term, "namespaces").iter().filter_map(Value::as_str) {
        errors.all_invalid(&path.child("namespace"), namespace, names::dns_label(namespace));
    }
    let key = text(term, "topologyKey");
    if key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    }
    errors.all_invalid(&path.child("topologyKey"), key, names::qualified_name(key));
}

/// Tolerations of a pod.
pub(super) fn tolerations(errors: &mut Errors, path: &Path<'_>, tolerations: &[Value]) {
    for (index, one) in tolerations.iter().enumerate() {
        let path = path.index(index);
        let (key, operator, value, effect) = (text(one, "key"), text(one, "operator"), text(one, "value"), text(one, "effect"));
        if !key.is_empty() {
            errors.all_invalid(&path.child("key"), key, names::qualified_name(key));
        } else if operator != "Exists" {
            errors.invalid(
                &path.child("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if has(one, "tolerationSeconds") && effect != "NoExecute" {
            errors.invalid(&path.child("effect"), effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
        }
        match operator {
            "Equal" | "" => {
                let wrong = names::label_value(value);
                if !wrong.is_empty() {
                    errors.invalid(&path.child("operator"), value, wrong.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                errors.invalid(&path.child("operator"), value, "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            "Lt" | "Gt" => errors.not_supported(&path.child("operator"), operator, &["Equal", "Exists", "Lt", "Gt"]),
            _ => errors.not_supported(&path.child("operator"), operator, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            validate_taint_effect(errors, &path.child("effect"), effect);
        }
    }
}

/// The effect of a taint; empty counts as missing.
pub(crate) fn validate_taint_effect(errors: &mut Errors, path: &Path<'_>, effect: &str) {
    errors.one_of(path, effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
}

fn spread(errors: &mut Errors, path: &Path<'_>, constraints: &[Value]) {
    const POLICIES: &[&str] = &["Honor", "Ignore"];
    for (index, one) in constraints.iter().enumerate() {
        let path = path.index(index);
        errors.positive(&path.child("maxSkew"), number(one, "maxSkew"));
        let (key, action) = (text(one, "topologyKey"), text(one, "whenUnsatisfiable"));
        if key.is_empty() {
            errors.required(&path.child("topologyKey"), "can not be empty");
        }
        if !matches!(action, "DoNotSchedule" | "ScheduleAnyway") {
            errors.not_supported(&path.child("whenUnsatisfiable"), action, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        if constraints[index + 1..]
            .iter()
            .any(|other| text(other, "topologyKey") == key && text(other, "whenUnsatisfiable") == action)
        {
            errors.duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), format!("{{{key}, {action}}}"));
        }
        if let Some(domains) = integer(one, "minDomains") {
            errors.positive(&path.child("minDomains"), domains);
            if action != "DoNotSchedule" {
                errors.invalid(
                    &path.child("minDomains"),
                    domains,
                    format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"),
                );
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            let value = text(one, policy);
            if !value.is_empty() && !POLICIES.contains(&value) {
                errors.not_supported(&path.child(policy), value, POLICIES);
            }
        }
        selectors::validate(errors, &path.child("labelSelector"), get(one, "labelSelector"));
    }
}
