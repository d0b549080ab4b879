//! `x-kubernetes-validations`: what rules are made of, and that their expressions compile.
//!
//! Source: apiextensions-apiserver pkg/apis/apiextensions/validation/validation.go
//! (`ValidateCustomResourceDefinitionOpenAPISchema`). Costs of expressions are not estimated here: what rules may cost is
//! limited when they are evaluated.

use serde_json::Value;

use super::schema_validation::inner;
use crate::access::{get, has, list, text};
use crate::custom::{Additional, Schema, find_rule_field};
use crate::field::{Errors, Path};

const KEY: &str = "x-kubernetes-validations";
const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Checks all of the rules of one place but for their expressions.
pub(super) fn shape(errors: &mut Errors, path: &Path<'_>, schema: &Value) {
    let has_break = |text: &str| text.contains(['\n', '\r']);
    for (index, rule) in list(schema, KEY).iter().enumerate() {
        let path = path.child(KEY);
        let path = path.index(index);
        let (source, message) = (text(rule, "rule"), text(rule, "message"));
        if source.trim().is_empty() {
            errors.required(&path.child("rule"), "rule is not specified");
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.invalid(&path.child("message"), message, "must be non-empty if specified");
        } else if has_break(message.trim()) {
            errors.invalid(&path.child("message"), message, "must not contain line breaks");
        } else if has_break(source.trim()) && message.trim().is_empty() {
            errors.required(&path.child("message"), "message must be specified if rule contains line breaks");
        }
        let expression = text(rule, "messageExpression");
        if !expression.is_empty() && expression.trim().is_empty() {
            errors.required(&path.child("messageExpression"), "messageExpression must be non-empty if specified");
        }
        let reason = text(rule, "reason");
        if has(rule, "reason") && !REASONS.contains(&reason) {
            errors.not_supported(&path.child("reason"), reason, &REASONS);
        }
        let field = text(rule, "fieldPath");
        if !field.is_empty() {
            let path = path.child("fieldPath");
            if field.trim().is_empty() {
                errors.invalid(&path, field, "must be non-empty if specified");
            }
            if has_break(field) {
                errors.invalid(&path, field, "must not contain line breaks");
            }
            if find_rule_field(schema, field).is_err() {
                errors.invalid(&path, field, "must be a valid path");
            }
        }
    }
}

/// Checks the expressions of the rules of a structural schema.
pub(super) fn validate(errors: &mut Errors, path: &Path<'_>, schema: &Value, parsed: &Schema) {
    walk(errors, path, (schema, parsed), true, None);
}

/// `loose` is the first place on the way from which on old values cannot be told.
fn walk(errors: &mut Errors, path: &Path<'_>, (schema, parsed): (&Value, &Schema), root: bool, loose: Option<&str>) {
    if !parsed.has_rules {
        return;
    }
    for (index, (rule, compiled)) in list(schema, KEY).iter().zip(&parsed.validations).enumerate() {
        let path = path.child(KEY);
        let path = path.index(index);
        for error in compiled.errors(parsed, root) {
            let shown = if error.member == "optionalOldSelf" { get(rule, "optionalOldSelf") } else { rule };
            errors.invalid(&path.child(error.member), shown, error.detail);
        }
        if let Some(loose) = loose.filter(|_| compiled.uses_old()) {
            let detail = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {loose}");
            errors.invalid(&path.child("rule"), text(rule, "rule"), detail);
        }
    }
    if let (Some(items), Some(of)) = (inner(schema, "items"), &parsed.items) {
        let own = path.to_string();
        let loose = loose.or_else(|| (text(schema, "x-kubernetes-list-type") != "map").then_some(own.as_str()));
        walk(errors, &path.child("items"), (items, of), false, loose);
    }
    if let (Some(additional), Additional::Of(of)) = (inner(schema, "additionalProperties"), &parsed.additional) {
        walk(errors, &path.child("additionalProperties"), (additional, of), false, loose);
    }
    let properties = path.child("properties");
    for (name, of) in &parsed.properties {
        walk(errors, &properties.key(name), (get(get(schema, "properties"), name), of), false, loose);
    }
}
