//! Groups of the Kubernetes community need an approval.
//!
//! Source: apiextensions-apiserver pkg/apihelpers/helpers.go.

use serde_json::Value;

use crate::access::{at, text};
use crate::field::{Errors, Path};

const ANNOTATION: &str = "api-approved.kubernetes.io";
const MORE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

/// Checks the annotation, where the group asks for it.
pub(super) fn validate(errors: &mut Errors, definition: &Value) {
    let group = text(at(definition, &["spec"]), "group");
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
    if !protected {
        return;
    }
    let annotations = Path::Root("metadata.annotations");
    let (path, approval) = (annotations.key(ANNOTATION), text(at(definition, &["metadata", "annotations"]), ANNOTATION));
    let is_url = approval.split_once("://").is_some_and(|(scheme, rest)| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        scheme.starts_with(|letter: char| letter.is_ascii_alphabetic()) && !host.is_empty() && !rest.contains(' ')
    });
    if approval.is_empty() {
        errors.required(&path, &format!("protected groups must have approval annotation {ANNOTATION:?}, {MORE}"));
    } else if !approval.starts_with("unapproved") && !is_url {
        let detail = format!(
            "protected groups must have approval annotation {ANNOTATION:?} with either a URL or a reason starting with \"unapproved\", {MORE}"
        );
        errors.invalid(&path, approval, detail);
    }
}
