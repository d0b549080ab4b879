//! OpenAPI v3 documents of the served group versions, as `kubectl explain`, `apply` and `diff` read them.
//!
//! A document is made when it is asked for and not kept: the caller keeps its encoded form.

mod components;
mod custom;
mod paths;

pub(crate) use custom::{CustomSchema, custom_document};
use serde_json::{Value, json};

use crate::schema::GROUP_VERSIONS;

/// One served group version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Below `/openapi/v3/`: `api/v1`, `apis/apps/v1`.
    pub path: String,
    /// API group; empty for core.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
}

/// Group versions that have a document. Those that only lend types to others (Scale, Eviction) have none.
pub fn index() -> Vec<Entry> {
    GROUP_VERSIONS
        .iter()
        .filter(|(group, version)| {
            paths::resources(group, version).next().is_some() || paths::reviews(group, version).next().is_some()
        })
        .map(|(group, version)| Entry { path: paths::root(group, version), group, version })
        .collect()
}

/// The document of a group version; `None` where it is not served.
pub fn document(group: &str, version: &str) -> Option<Value> {
    if !index().iter().any(|entry| entry.group == group && entry.version == version) {
        return None;
    }
    let (components, names) = components::build(group, version)?;
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": daruma_api::KUBERNETES_VERSION},
        "paths": paths::build(group, version, &names),
        "components": {
            "schemas": components,
            "securitySchemes": {
                "BearerToken": {
                    "type": "apiKey",
                    "description": "Bearer Token authentication",
                    "name": "authorization",
                    "in": "header",
                },
            },
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_hold_what_kubectl_asks_for() {
        for entry in index() {
            let document = document(entry.group, entry.version).expect("listed");
            for kind in crate::ALL.iter().map(|kind| kind.names()).filter(|names| names.group == entry.group) {
                let gvk = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
                let schemas = document["components"]["schemas"].as_object().expect("an object");
                let named = |list: &Value| list.as_array().is_some_and(|list| list.contains(&gvk));
                assert!(schemas.values().any(|schema| named(&schema["x-kubernetes-group-version-kind"])), "{gvk}");
                let patch = document["paths"]
                    .as_object()
                    .expect("an object")
                    .values()
                    .filter_map(|path| path.get("patch"))
                    .find(|patch| patch["x-kubernetes-group-version-kind"] == gvk)
                    .expect("can be patched");
                let parameters = patch["parameters"].as_array().expect("a list");
                for name in ["fieldManager", "fieldValidation", "dryRun", "force"] {
                    assert!(parameters.iter().any(|one| one["name"] == name && one["in"] == "query"), "{name}");
                }
                for kind in ["application/strategic-merge-patch+json", "application/apply-patch+yaml"] {
                    assert!(patch["requestBody"]["content"][kind].is_object(), "{kind}");
                }
            }
            references_resolve(&document, &document);
        }
        assert_eq!(document("nope", "v1"), None);
    }

    fn references_resolve(document: &Value, part: &Value) {
        match part {
            Value::Object(object) => {
                if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                    assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
                }
                object.values().for_each(|part| references_resolve(document, part));
            }
            Value::Array(list) => list.iter().for_each(|part| references_resolve(document, part)),
            _ => {}
        }
    }

    #[test]
    fn schemas_carry_the_facts() {
        let document = document("", "v1").expect("served");
        let spec = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"];
        assert_eq!(spec["required"], json!(["containers"]));
        let containers = &spec["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["items"]["allOf"][0]["$ref"], "#/components/schemas/io.k8s.api.core.v1.Container");
        assert_eq!(spec["properties"]["restartPolicy"]["enum"], json!(["Always", "Never", "OnFailure"]));
        assert!(document["components"]["schemas"]["io.k8s.api.core.v1.PodList"].is_object());
    }
}
