//! Namespaces, roles, bindings and priority classes as a real server makes them, read off one
//! (`data/bootstrap.json`), and what of them is restored when somebody has taken it away.
//!
//! Facts: kubernetes pkg/registry/rbac/reconciliation.

use serde_json::{Value, json};

use super::Wanted;
use crate::document::{self, list, text};

const BOOTSTRAP: &str = include_str!("../../data/bootstrap.json");
/// The rights of controllers that Kubernetes does not have, in the same form.
const OWN: &str = include_str!("../../data/own.json");
const RBAC: &str = "rbac.authorization.k8s.io";

/// Everything.
pub fn all() -> Vec<Wanted> {
    let mut wanted = of(BOOTSTRAP);
    wanted.extend(of(OWN));
    wanted
}

fn of(document: &str) -> Vec<Wanted> {
    let mut data: Value = serde_json::from_str(document).expect("the built-in document parses");
    let mut wanted = Vec::new();
    let kinds: [(&str, &'static str, &'static str, &str); 6] = [
        ("namespaces", "", "namespaces", "Namespace"),
        ("clusterroles", RBAC, "clusterroles", "ClusterRole"),
        ("clusterrolebindings", RBAC, "clusterrolebindings", "ClusterRoleBinding"),
        ("roles", RBAC, "roles", "Role"),
        ("rolebindings", RBAC, "rolebindings", "RoleBinding"),
        ("priorityclasses", "scheduling.k8s.io", "priorityclasses", "PriorityClass"),
    ];
    for (key, group, plural, kind) in kinds {
        if let Some(Value::Array(entries)) = data.get_mut(key).map(Value::take) {
            wanted.extend(entries.into_iter().map(|entry| Wanted { group, plural, object: object(entry, group, kind) }));
        }
    }
    wanted
}

/// An entry of the document as an object: name, namespace, labels and annotations are its metadata.
fn object(entry: Value, group: &str, kind: &str) -> Value {
    let mut object = json!({"apiVersion": daruma_api::gvk::api_version(group, "v1"), "kind": kind, "metadata": {}});
    let Value::Object(fields) = entry else { return object };
    for (key, value) in fields {
        if matches!(key.as_str(), "name" | "namespace" | "labels" | "annotations") {
            object["metadata"][key] = value;
        } else {
            object[key] = value;
        }
    }
    match kind {
        "Namespace" => object["status"] = json!({"phase": "Active"}),
        "PriorityClass" => {
            let name = text(&object, "/metadata/name");
            let what = if name == "system-node-critical" {
                "Used for system critical pods that must not be moved from their current node."
            } else {
                "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."
            };
            object["description"] = what.into();
        }
        _ => {}
    }
    if kind.ends_with("Binding") {
        let subjects = object.get_mut("subjects").and_then(Value::as_array_mut);
        for subject in subjects.into_iter().flatten() {
            if text(subject, "/kind") != "ServiceAccount" && subject.get("apiGroup").is_none() {
                subject["apiGroup"] = RBAC.into();
            }
        }
    }
    object
}

/// `old` with the rules and subjects that it must have; `None` where it has them or asks to be left alone.
pub fn reconcile(old: &Value, wanted: &Value) -> Option<Value> {
    let left_alone = old.pointer("/metadata/annotations").and_then(|all| all.get("rbac.authorization.kubernetes.io/autoupdate"));
    if left_alone.is_some_and(|value| value == "false") {
        return None;
    }
    let kind = text(wanted, "/kind");
    let key = match kind {
        // The rules of these are those of the roles that they select.
        "ClusterRole" if wanted.get("aggregationRule").is_some() => return None,
        "ClusterRole" | "Role" => "rules",
        "ClusterRoleBinding" | "RoleBinding" => "subjects",
        _ => return None,
    };
    let pointer = format!("/{key}");
    let has = list(old, &pointer);
    let missing: Vec<Value> = list(wanted, &pointer).iter().filter(|one| !has.contains(one)).cloned().collect();
    if missing.is_empty() {
        return None;
    }
    let mut new = old.clone();
    document::elements(new.as_object_mut()?, key).extend(missing);
    Some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_objects() {
        let all = all();
        assert!(all.len() > 140);
        assert!(all.iter().all(|one| !text(&one.object, "/metadata/name").is_empty()));
        let roles: Vec<&str> = all.iter().map(|one| text(&one.object, "/metadata/name")).collect();
        for controller in ["disruption-controller", "statefulset-controller", "rebalancer"] {
            // A role and its binding.
            let name = format!("system:controller:{controller}");
            assert_eq!(roles.iter().filter(|role| **role == name).count(), 2, "{name}");
        }
    }

    #[test]
    fn reconciling() {
        let wanted = json!({"kind": "ClusterRole", "rules": [{"verbs": ["get"]}, {"verbs": ["list"]}]});
        let old = json!({"kind": "ClusterRole", "rules": [{"verbs": ["list"]}]});
        let new = reconcile(&old, &wanted).expect("a rule is missing");
        assert_eq!(list(&new, "/rules").len(), 2);
        assert_eq!(reconcile(&new, &wanted), None);
        let mut alone = old;
        alone["metadata"] = json!({"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}});
        assert_eq!(reconcile(&alone, &wanted), None);
    }
}
