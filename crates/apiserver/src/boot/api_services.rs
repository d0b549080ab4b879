//! An APIService for every group and version that the server serves itself. Those of custom resources come later
//! ([`crate::custom_resources`]).
//!
//! Facts: kubernetes pkg/controlplane/apiserver/aggregator.go, kube-aggregator autoregister.

use serde_json::{Value, json};

use super::Wanted;
use crate::discovery::model;
use crate::document;
use crate::server::ApiServer;

/// The group that APIServices live in has none of its own.
const OWN_GROUP: &str = "apiregistration.k8s.io";

/// Label of APIServices that the server keeps itself.
pub(crate) const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// How an APIService is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Managed {
    /// Made at the start: a built-in group version.
    OnStart,
    /// Made and removed with what serves it: a custom group version.
    Always,
}

impl Managed {
    /// The label's value.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::OnStart => "onstart",
            Self::Always => "true",
        }
    }
}

/// All of them, available from the start.
pub fn all(server: &ApiServer) -> Vec<Wanted> {
    let now = document::seconds(server.world.now());
    let mut wanted = Vec::new();
    for group in model::built_in_groups(server) {
        if group.name == OWN_GROUP {
            continue;
        }
        for version in &group.versions {
            wanted.push(Wanted {
                group: OWN_GROUP,
                plural: "apiservices",
                object: object(&group.name, &version.name, Managed::OnStart, &now),
            });
        }
    }
    wanted
}

/// The APIService of a group version that the server serves itself.
pub(crate) fn object(group: &str, version: &str, managed: Managed, now: &str) -> Value {
    let priority = match (managed, group) {
        (Managed::Always, _) => 100,
        (_, "") => 1,
        _ => 15,
    };
    let mut spec = json!({"version": version, "groupPriorityMinimum": model::priority(group), "versionPriority": priority});
    if !group.is_empty() {
        spec["group"] = group.into();
    }
    json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}"), "labels": {AUTOMANAGED: managed.label()}},
        "spec": spec,
        "status": {"conditions": [{"type": "Available", "status": "True", "lastTransitionTime": now, "reason": "Local",
            "message": "Local APIServices are always available"}]},
    })
}
