//! An APIService for every group and version that the server serves itself.
//!
//! Facts: kubernetes pkg/controlplane/apiserver/aggregator.go, kube-aggregator autoregister.

use serde_json::{Value, json};

use super::Wanted;
use crate::discovery::model;
use crate::document;
use crate::server::ApiServer;

/// The group that APIServices live in has none of its own.
const OWN_GROUP: &str = "apiregistration.k8s.io";

/// All of them, available from the start.
pub fn all(server: &ApiServer) -> Vec<Wanted> {
    let now = document::seconds(server.world.now());
    let mut wanted = Vec::new();
    for group in model::built_in_groups(server) {
        if group.name == OWN_GROUP {
            continue;
        }
        for version in &group.versions {
            wanted.push(Wanted { group: OWN_GROUP, plural: "apiservices", object: object(&group.name, &version.name, &now) });
        }
    }
    wanted
}

fn object(group: &str, version: &str, now: &str) -> Value {
    let mut spec = json!({"version": version, "groupPriorityMinimum": model::priority(group), "versionPriority": if group.is_empty() { 1 } else { 15 }});
    if !group.is_empty() {
        spec["group"] = group.into();
    }
    json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}"), "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}},
        "spec": spec,
        "status": {"conditions": [{"type": "Available", "status": "True", "lastTransitionTime": now, "reason": "Local",
            "message": "Local APIServices are always available"}]},
    })
}
