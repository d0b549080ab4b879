//! Aggregated discovery v2 (`apidiscovery.k8s.io/v2` `APIGroupDiscoveryList`).

use serde_json::{Value, json};

use super::model::{Group, Resource, Version};

/// The media type of the answer.
pub const MEDIA_TYPE: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The document of some groups.
pub fn document<'a>(groups: impl Iterator<Item = &'a Group>) -> Value {
    let items: Vec<Value> = groups
        .map(|group| {
            let versions: Vec<Value> = group.versions.iter().map(version).collect();
            let metadata = if group.name.is_empty() {
                json!({"creationTimestamp": null})
            } else {
                json!({"name": group.name, "creationTimestamp": null})
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn version(version: &Version) -> Value {
    let resources: Vec<Value> = version.resources.iter().map(resource).collect();
    json!({"version": version.name, "freshness": if version.stale { "Stale" } else { "Current" }, "resources": resources})
}

fn kind([group, version, kind]: &[String; 3]) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn resource(resource: &Resource) -> Value {
    let mut shown = json!({
        "resource": resource.plural,
        "responseKind": kind(&resource.gvk),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        shown["shortNames"] = resource.short_names.clone().into();
    }
    if !resource.categories.is_empty() {
        shown["categories"] = resource.categories.clone().into();
    }
    if !resource.subresources.is_empty() {
        let subresources = resource.subresources.iter();
        shown["subresources"] = subresources
            .map(|sub| json!({"subresource": sub.name, "responseKind": kind(&sub.gvk), "verbs": sub.verbs}))
            .collect::<Vec<_>>()
            .into();
    }
    shown
}
