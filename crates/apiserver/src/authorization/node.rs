//! What kubelets may do: their own node, the pods bound to it and what those pods refer to.
//!
//! Facts: kubernetes plugin/pkg/auth/authorizer/node/node_authorizer.go and
//! plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go (`NodeRules`).
#![expect(clippy::match_same_arms, reason = "one line a resource, as the rules are written upstream")]

use std::sync::Arc;

use daruma_api::status::ApiError;
use serde_json::Value;

use super::Question;
use crate::document::{list, text};
use crate::server::ApiServer;
use crate::storage::Item;

/// Whether the kubelet of `node` may.
///
/// # Errors
/// 500 where pods cannot be read.
pub async fn allows(server: &Arc<ApiServer>, node: &str, question: &Question<'_>) -> Result<bool, ApiError> {
    match rule(node, question) {
        Rule::Yes => Ok(true),
        Rule::No => Ok(false),
        Rule::IfReferred => is_referred(server, node, question).await,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Rule {
    Yes,
    No,
    /// Where a pod of the node refers to the named object.
    IfReferred,
}

fn rule(node: &str, question: &Question<'_>) -> Rule {
    if !question.is_resource {
        return Rule::No;
    }
    let reads = matches!(question.verb, "get" | "list" | "watch");
    let writes = matches!(question.verb, "update" | "patch");
    let yes = |allowed: bool| if allowed { Rule::Yes } else { Rule::No };
    match (question.group, question.resource, question.subresource) {
        ("", "nodes", "") => yes(match question.verb {
            "get" | "list" | "watch" => question.name == node,
            // Whose node it is, admission (NodeRestriction) sees.
            "create" | "update" | "patch" => true,
            _ => false,
        }),
        ("", "nodes", "status") => yes(writes),
        ("", "pods", "") => match question.verb {
            "get" if !question.name.is_empty() => Rule::IfReferred,
            "list" | "watch" => {
                let own = question.fields.and_then(|fields| fields.exact("spec.nodeName")) == Some(node);
                if own {
                    Rule::Yes
                } else if question.name.is_empty() {
                    Rule::No
                } else {
                    Rule::IfReferred
                }
            }
            "create" | "delete" => Rule::Yes,
            _ => Rule::No,
        },
        ("", "pods", "status") => yes(writes),
        ("", "pods", "eviction") => yes(question.verb == "create"),
        ("", "services", "") => yes(reads),
        ("", "endpoints", "") => yes(question.verb == "get"),
        ("" | "events.k8s.io", "events", "") => yes(writes || question.verb == "create"),
        ("", "configmaps" | "secrets", "") if reads && !question.name.is_empty() => Rule::IfReferred,
        ("", "persistentvolumeclaims", "" | "status") if question.verb == "get" => Rule::IfReferred,
        ("", "persistentvolumes", "") => yes(question.verb == "get"),
        ("", "serviceaccounts", "token") if question.verb == "create" => Rule::IfReferred,
        ("", "serviceaccounts", "") if question.verb == "get" => Rule::IfReferred,
        ("coordination.k8s.io", "leases", "") => {
            let known = matches!(question.verb, "get" | "create" | "update" | "patch" | "delete");
            yes(known && question.namespace == "kube-node-lease" && (question.name == node || question.verb == "create"))
        }
        ("storage.k8s.io", "csinodes", "") => yes(matches!(question.verb, "get" | "create" | "update" | "patch" | "delete")
            && (question.name == node || question.verb == "create")),
        ("storage.k8s.io", "csidrivers", "") | ("node.k8s.io", "runtimeclasses", "") => yes(reads),
        ("storage.k8s.io", "volumeattachments", "") => yes(question.verb == "get"),
        ("certificates.k8s.io", "certificatesigningrequests", "") => yes(reads || question.verb == "create"),
        ("authentication.k8s.io", "tokenreviews", "")
        | ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews", "") => yes(question.verb == "create"),
        _ => Rule::No,
    }
}

async fn is_referred(server: &Arc<ApiServer>, node: &str, question: &Question<'_>) -> Result<bool, ApiError> {
    let Some(pods) = server.registry.built_in("", "v1", "pods") else { return Ok(false) };
    let Some(field) = pods.field_index("spec.nodeName") else { return Ok(false) };
    let snapshot = server.cached(pods).await?;
    if question.resource == "pods" {
        return Ok(snapshot
            .objects
            .get(crate::storage::keys::object(question.namespace, question.name).as_str())
            .is_some_and(|item| item.field(field) == node));
    }
    // A name stands in JSON as it is, so most pods that do not refer to it need not be decoded.
    let may_refer = |item: &&Arc<Item>| {
        item.namespace() == question.namespace
            && std::str::from_utf8(&item.value).is_ok_and(|stored| stored.contains(question.name))
    };
    Ok(snapshot
        .placed(node)
        .filter(may_refer)
        .filter_map(|item| server.decode_item(pods, item).ok())
        .any(|pod| refers(&pod, question.resource, question.name)))
}

/// Whether a pod refers to the named object of its namespace (kubernetes pkg/api/v1/pod `VisitPodSecretNames`, …).
fn refers(pod: &Value, resource: &str, name: &str) -> bool {
    let volumes = list(pod, "/spec/volumes");
    let sources = || volumes.iter().flat_map(|volume| list(volume, "/projected/sources")).chain(volumes);
    let containers = || {
        ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"]
            .into_iter()
            .flat_map(|pointer| list(pod, pointer))
    };
    let env = |from_all: &str, from_one: &str| {
        containers().any(|container| {
            list(container, "/envFrom").iter().any(|source| text(source, from_all) == name)
                || list(container, "/env").iter().any(|variable| text(variable, from_one) == name)
        })
    };
    match resource {
        "serviceaccounts" => text(pod, "/spec/serviceAccountName") == name,
        "persistentvolumeclaims" => volumes.iter().any(|volume| text(volume, "/persistentVolumeClaim/claimName") == name),
        "configmaps" => {
            sources().any(|source| text(source, "/configMap/name") == name)
                || env("/configMapRef/name", "/valueFrom/configMapKeyRef/name")
        }
        "secrets" => {
            sources().any(|source| text(source, "/secret/secretName") == name || text(source, "/secret/name") == name)
                || list(pod, "/spec/imagePullSecrets").iter().any(|secret| text(secret, "/name") == name)
                || env("/secretRef/name", "/valueFrom/secretKeyRef/name")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(verb: &str, group: &str, resource: &str, namespace: &str, name: &str, expected: &Rule) {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let question = Question { verb, is_resource: true, group, resource, subresource, namespace, name, ..Question::default() };
        assert_eq!(&rule("a", &question), expected, "{verb} {resource} {name}");
    }

    #[test]
    fn rules() {
        check("get", "", "nodes", "", "a", &Rule::Yes);
        check("get", "", "nodes", "", "b", &Rule::No);
        check("list", "", "nodes", "", "", &Rule::No);
        check("patch", "", "nodes/status", "", "a", &Rule::Yes);
        check("list", "", "pods", "", "", &Rule::No);
        check("watch", "", "secrets", "d", "s", &Rule::IfReferred);
        check("list", "", "secrets", "d", "", &Rule::No);
        check("update", "coordination.k8s.io", "leases", "kube-node-lease", "a", &Rule::Yes);
        check("update", "coordination.k8s.io", "leases", "kube-system", "a", &Rule::No);
        check("delete", "", "namespaces", "", "x", &Rule::No);
    }

    #[test]
    fn references() {
        let pod = json!({"spec": {"serviceAccountName": "sa", "volumes": [
            {"configMap": {"name": "c"}}, {"projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}, {"secret": {"name": "p"}}]}},
            {"secret": {"secretName": "s"}}],
            "containers": [{"envFrom": [{"secretRef": {"name": "e"}}], "env": [{"valueFrom": {"configMapKeyRef": {"name": "k"}}}]}]}});
        for (resource, name) in [
            ("configmaps", "c"),
            ("configmaps", "kube-root-ca.crt"),
            ("configmaps", "k"),
            ("secrets", "p"),
            ("secrets", "s"),
            ("secrets", "e"),
            ("serviceaccounts", "sa"),
        ] {
            assert!(refers(&pod, resource, name), "{resource} {name}");
        }
        assert!(!refers(&pod, "secrets", "c"));
    }
}
