//! Groups of the Kubernetes community want an annotation that tells who approved of the API.
//!
//! Facts: kubernetes apiextensions-apiserver pkg/controller/apiapproval/apiapproval_controller.go and
//! pkg/apihelpers/helpers.go. There is no controller of NonStructuralSchema: no definition whose schema is not structural
//! passes validation in `apiextensions.k8s.io/v1`, and no older version was ever served here.

use serde_json::Value;

use super::definition::Condition;
use crate::document::text;

const ANNOTATION: &str = "api-approved.kubernetes.io";
const PROPOSAL: &str = "https://github.com/kubernetes/enhancements/pull/1111";

/// What is said of a definition in a protected group; `None` in other groups.
pub fn condition(definition: &Value) -> Option<Condition> {
    let group = text(definition, "/spec/group");
    let is_protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|community| group.strip_suffix(community).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
    if !is_protected {
        return None;
    }
    let annotations = definition.pointer("/metadata/annotations");
    let given = annotations.and_then(|all| all.get(ANNOTATION)).and_then(Value::as_str).unwrap_or_default();
    let (holds, reason, message) = if given.is_empty() {
        (false, "MissingAnnotation", format!("protected groups must have approval annotation {ANNOTATION:?}, see {PROPOSAL}"))
    } else if given.starts_with("unapproved") {
        (false, "UnapprovedAnnotation", format!("not approved: {given:?}"))
    } else if is_url(given) {
        (true, "ApprovedAnnotation", format!("approved in {given}"))
    } else {
        let either = "with either a URL or a reason starting with \"unapproved\"";
        let message = format!("protected groups must have approval annotation {ANNOTATION:?} {either}, see {PROPOSAL}");
        (false, "InvalidAnnotation", message)
    };
    Some(Condition { kind: "KubernetesAPIApprovalPolicyConformant", holds, reason, message })
}

/// Whether a text has a scheme and a host.
fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, rest)| {
        let host = rest.split('/').next().unwrap_or_default();
        scheme.starts_with(|letter: char| letter.is_ascii_alphabetic()) && !host.is_empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn community_groups_are_approved() {
        for (group, annotation, expected) in [
            ("stable.example.com", "", None),
            ("notk8s.io", "", None),
            ("x-k8s.io", "", None),
            ("k8s.io", "", Some((false, "MissingAnnotation"))),
            ("a.k8s.io", "unapproved, experimental", Some((false, "UnapprovedAnnotation"))),
            ("a.kubernetes.io", "https://github.com/kubernetes/kubernetes/pull/1", Some((true, "ApprovedAnnotation"))),
            ("a.kubernetes.io", "yes", Some((false, "InvalidAnnotation"))),
        ] {
            let definition = json!({"metadata": {"annotations": {ANNOTATION: annotation}}, "spec": {"group": group}});
            let found = condition(&definition).map(|found| (found.holds, found.reason));
            assert_eq!(found, expected, "{group} {annotation}");
        }
    }
}
