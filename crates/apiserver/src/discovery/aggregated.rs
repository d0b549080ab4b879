//! Aggregated discovery v2 (`apidiscovery.k8s.io/v2` `APIGroupDiscoveryList`).

use std::sync::Mutex;

use bytes::Bytes;
use serde_json::{Value, json};

use super::model::{self, Group, Resource, Version};
use crate::server::ApiServer;

/// The media type of the answer.
pub const MEDIA_TYPE: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Both documents, encoded.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    /// Of the core group.
    pub core: Bytes,
    /// Of all other groups.
    pub named: Bytes,
}

/// The documents as they were made last, and for which versions of the registry and of what extension servers serve.
#[derive(Debug, Default)]
pub struct Discovery(Mutex<Option<([u64; 2], Documents)>>);

impl Discovery {
    /// The documents of now.
    pub fn get(&self, server: &ApiServer) -> Documents {
        // The versions are read first: what is made of newer groups is made once more.
        let now = [server.registry.version(), server.aggregation.version()];
        let mut made = self.0.lock().expect("no panic while held");
        if let Some((_, documents)) = made.as_ref().filter(|(versions, _)| *versions == now) {
            return documents.clone();
        }
        let groups = model::groups(server);
        let (core, named): (Vec<&Group>, Vec<&Group>) = groups.iter().partition(|group| group.name.is_empty());
        let encoded = |groups: Vec<&Group>| Bytes::from(document(groups.into_iter()).to_string());
        let documents = Documents { core: encoded(core), named: encoded(named) };
        *made = Some((now, documents.clone()));
        documents
    }
}

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
