//! NodeRestriction: a kubelet writes only its own node, lease and pods.
//!
//! Facts: kubernetes plugin/pkg/admission/noderestriction/admission.go. Only its main rules are here:
//! pods, pod status, evictions, nodes, leases, service-account tokens.

use std::sync::Arc;

use daruma_api::status::ApiError;
use futures::future::BoxFuture;
use serde_json::Value;

use super::service_account::MIRROR_ANNOTATION;
use super::{Attributes, Operation, Plugin};
use crate::document::{self, list, text};
use crate::server::ApiServer;

/// The plugin.
pub struct NodeRestriction;

/// Labels with this domain are not a kubelet's to set.
const RESTRICTED_DOMAIN: &str = "node-restriction.kubernetes.io";
/// Labels of `kubernetes.io` that a kubelet may set (component-helpers node labels, `kubeletLabels`).
const KUBELET_LABELS: [&str; 12] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "node.kubernetes.io/exclude-from-external-load-balancers",
];
/// Domains whose labels a kubelet may set.
const KUBELET_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.user.node_name().is_some()
    }

    fn validate<'a>(&'a self, server: &'a Arc<ApiServer>, attributes: &'a Attributes) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            let Some(node) = attributes.user.node_name() else { return Ok(()) };
            match (attributes.resource.group(), attributes.resource.plural()) {
                ("", "pods") => pod(server, node, attributes).await,
                ("", "nodes") => own_node(node, attributes),
                ("coordination.k8s.io", "leases") => own_lease(node, attributes),
                ("", "serviceaccounts") => token(server, node, attributes).await,
                _ => Ok(()),
            }
        })
    }
}

async fn pod(server: &Arc<ApiServer>, node: &str, attributes: &Attributes) -> Result<(), ApiError> {
    let refuse = |why: String| Err(attributes.forbidden(&why));
    let old_node = attributes.old.as_deref().map(|old| text(old, "/spec/nodeName")).unwrap_or_default();
    match (attributes.subresource.as_str(), attributes.operation) {
        ("", Operation::Create) => mirror(server, node, attributes).await,
        ("", Operation::Delete) if old_node != node => {
            refuse(format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
        }
        ("" | "eviction", Operation::Delete) => Ok(()),
        ("status", Operation::Update) => {
            if old_node != node {
                return refuse(format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"));
            }
            let old_labels = attributes.old.as_ref().and_then(|old| old.pointer("/metadata/labels"));
            if old_labels != attributes.object.pointer("/metadata/labels") {
                return refuse(format!("node {node:?} cannot update labels through pod status"));
            }
            Ok(())
        }
        ("eviction", _) if old_node != node => {
            refuse(format!("node {node} can only evict pods with spec.nodeName set to itself"))
        }
        ("eviction", _) => Ok(()),
        ("", Operation::Update) => {
            refuse(format!("unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"))
        }
        (other, _) => refuse(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed")),
    }
}

async fn mirror(server: &Arc<ApiServer>, node: &str, attributes: &Attributes) -> Result<(), ApiError> {
    let pod = &attributes.object;
    let refuse = |why: String| Err(attributes.forbidden(&why));
    if pod.pointer("/metadata/annotations").and_then(|all| all.get(MIRROR_ANNOTATION)).is_none() {
        return refuse(format!("pod does not have {MIRROR_ANNOTATION:?} annotation, node {node:?} can only create mirror pods"));
    }
    if text(pod, "/spec/nodeName") != node {
        return refuse(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let [owner] = list(pod, "/metadata/ownerReferences") else {
        return refuse(format!("node {node:?} can only create pods with an owner reference set to itself"));
    };
    if text(owner, "/apiVersion") != "v1" || text(owner, "/kind") != "Node" || text(owner, "/name") != node {
        return refuse(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if !document::is_true(owner, "/controller") {
        return refuse(format!("node {node:?} can only create pods with a controller owner reference set to itself"));
    }
    if document::is_true(owner, "/blockOwnerDeletion") {
        return refuse(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    let Some(nodes) = server.registry.built_in("", "v1", "nodes") else { return Ok(()) };
    let found = server.fetch(nodes, "", node).await?;
    let object = server.decode(nodes, &found)?;
    let (expected, got) = (text(owner, "/uid"), text(&object, "/metadata/uid"));
    if expected != got {
        return refuse(format!("node {node} UID mismatch: expected {expected} got {got}"));
    }
    Ok(())
}

fn own_node(node: &str, attributes: &Attributes) -> Result<(), ApiError> {
    let asked = if attributes.name.is_empty() { text(&attributes.object, "/metadata/name") } else { &attributes.name };
    if asked != node {
        return Err(attributes.forbidden(&format!("node {node:?} is not allowed to modify node {asked:?}")));
    }
    let empty = serde_json::Map::new();
    let labels = |object: Option<&Value>| {
        object
            .and_then(|object| object.pointer("/metadata/labels"))
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_else(|| empty.clone())
    };
    let (new, old) = (labels(Some(&attributes.object)), labels(attributes.old.as_deref()));
    let changed = new.iter().filter(|(key, value)| old.get(*key) != Some(value)).map(|(key, _)| key);
    let gone = old.keys().filter(|key| !new.contains_key(*key) && attributes.operation == Operation::Update);
    let mut refused: Vec<&str> = changed.chain(gone).map(String::as_str).filter(|key| !may_label(key)).collect();
    refused.sort_unstable();
    if !refused.is_empty() {
        let labels = refused.join(", ");
        return Err(attributes.forbidden(&if attributes.operation == Operation::Create {
            format!("node {node:?} is not allowed to set the following labels: {labels}")
        } else {
            format!("is not allowed to modify labels: {labels}")
        }));
    }
    if attributes.operation == Operation::Update
        && attributes.subresource.is_empty()
        && let Some(old) = &attributes.old
        && old.pointer("/spec/taints") != attributes.object.pointer("/spec/taints")
    {
        return Err(attributes.forbidden(&format!("node {node:?} is not allowed to modify taints")));
    }
    Ok(())
}

fn may_label(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let below = |of: &str| domain == of || domain.ends_with(&format!(".{of}"));
    if below(RESTRICTED_DOMAIN) {
        return false;
    }
    if !below("kubernetes.io") && !below("k8s.io") {
        return true;
    }
    KUBELET_LABELS.contains(&key) || KUBELET_DOMAINS.iter().any(|of| below(of))
}

fn own_lease(node: &str, attributes: &Attributes) -> Result<(), ApiError> {
    if attributes.namespace != "kube-node-lease" {
        return Err(attributes.forbidden("can only access leases in the \"kube-node-lease\" system namespace"));
    }
    let name = if attributes.name.is_empty() { text(&attributes.object, "/metadata/name") } else { &attributes.name };
    if name != node {
        return Err(attributes.forbidden("can only access node lease with the same name as the requesting node"));
    }
    Ok(())
}

async fn token(server: &Arc<ApiServer>, node: &str, attributes: &Attributes) -> Result<(), ApiError> {
    if attributes.subresource != "token" || attributes.operation != Operation::Create {
        return Ok(());
    }
    let refuse = |why: &str| Err(attributes.forbidden(why));
    let Some(bound) = attributes.object.pointer("/spec/boundObjectRef").filter(|bound| !bound.is_null()) else {
        return refuse("node requested token not bound to a pod");
    };
    if text(bound, "/apiVersion") != "v1" || text(bound, "/kind") != "Pod" || text(bound, "/name").is_empty() {
        return refuse("node requested token not bound to a pod");
    }
    if text(bound, "/uid").is_empty() {
        return refuse("node requested token with a pod binding without a uid");
    }
    let Some(pods) = server.registry.built_in("", "v1", "pods") else { return Ok(()) };
    let found = server.fetch(pods, &attributes.namespace, text(bound, "/name")).await?;
    let pod = server.decode(pods, &found)?;
    if text(&pod, "/metadata/uid") != text(bound, "/uid") {
        return refuse(
            "the UID in the bound object reference does not match the UID in record. The object might have been deleted and then recreated",
        );
    }
    if text(&pod, "/spec/nodeName") != node {
        return refuse("node requested token bound to a pod scheduled on a different node");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::may_label;

    #[test]
    fn labels() {
        for key in ["a", "example.com/a", "kubernetes.io/hostname", "node.kubernetes.io/x", "foo.kubelet.kubernetes.io/a"] {
            assert!(may_label(key), "{key}");
        }
        for key in ["node-role.kubernetes.io/control-plane", "kubernetes.io/a", "x.node-restriction.kubernetes.io/a"] {
            assert!(!may_label(key), "{key}");
        }
    }
}
