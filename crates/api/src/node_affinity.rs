//! Whether a node is what a pod's selector and required node affinity ask for.
//!
//! Source: kubernetes staging/src/k8s.io/component-helpers/scheduling/corev1/nodeaffinity/nodeaffinity.go.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

use crate::meta::ObjectExt;
use crate::selector::{Operator, Requirement};

/// Whether `node` meets the pod's `nodeSelector` and its required node affinity.
pub fn matches_required(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| label(labels, key) == Some(value.as_str()));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|required| matches_selector(required, node))
}

/// Whether any term of `selector` matches; a selector without terms matches nothing.
pub fn matches_selector(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| matches_term(term, node))
}

/// Whether all requirements of a term hold; a term without requirements matches nothing.
pub fn matches_term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let expressions = term.match_expressions.iter().flatten();
    let fields = term.match_fields.iter().flatten();
    if expressions.clone().next().is_none() && fields.clone().next().is_none() {
        return false;
    }
    expressions.into_iter().all(|one| meets(one, label(labels, &one.key)))
        && fields.into_iter().all(|one| meets(one, (one.key == "metadata.name").then(|| node.name())))
}

fn label<'a>(labels: Option<&'a BTreeMap<String, String>>, key: &str) -> Option<&'a str> {
    labels?.get(key).map(String::as_str)
}

fn meets(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let operator = match requirement.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::Gt,
        "Lt" => Operator::Lt,
        _ => return false,
    };
    let values = requirement.values.clone().unwrap_or_default();
    Requirement { key: requirement.key.clone(), operator, values }.matches(value)
}
