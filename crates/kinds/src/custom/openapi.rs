//! OpenAPI documents of group versions that custom resources make up.

use std::sync::Arc;

use serde_json::Value;

use super::CustomKind;
use crate::openapi::{CustomSchema, custom_document};

/// OpenAPI v3 document of a group version made of these kinds: paths and components, as [`crate::openapi::document`] makes them
/// for built-in ones.
pub fn openapi_document(group: &str, version: &str, kinds: &[Arc<CustomKind>]) -> Value {
    let schemas: Vec<CustomSchema<'_>> =
        kinds.iter().map(|kind| CustomSchema { kind: &**kind, list_kind: kind.list_kind(), schema: kind.document() }).collect();
    custom_document(group, version, &schemas)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{cron_tab, memcached, served};
    use super::*;
    use serde_json::json;

    fn references_resolve(document: &Value, part: &Value) {
        match part {
            Value::Object(object) => {
                if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                    assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
                }
                for part in object.values() {
                    references_resolve(document, part);
                }
            }
            Value::Array(list) => {
                for part in list {
                    references_resolve(document, part);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn documents_hold_what_kubectl_asks_for() {
        let document = openapi_document("stable.example.com", "v1", &CustomKind::of(&served(cron_tab())));
        references_resolve(&document, &document);
        let gvk = json!({"group": "stable.example.com", "version": "v1", "kind": "CronTab"});
        let schemas = &document["components"]["schemas"];
        let own = &schemas["com.example.stable.v1.CronTab"];
        assert_eq!(own["x-kubernetes-group-version-kind"], json!([gvk]));
        assert_eq!(own["x-kubernetes-selectable-fields"], json!([{"fieldPath": "spec.image"}]));
        assert_eq!(own["properties"]["spec"]["properties"]["replicas"]["maximum"], 10);
        let metadata = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
        assert_eq!(own["properties"]["metadata"]["allOf"], json!([{"$ref": metadata}]));
        let list = &schemas["com.example.stable.v1.CronTabList"];
        let item = "#/components/schemas/com.example.stable.v1.CronTab";
        assert_eq!(list["properties"]["items"]["items"]["allOf"], json!([{"$ref": item}]));
        assert_eq!(list["x-kubernetes-group-version-kind"][0]["kind"], "CronTabList");
        let root = "/apis/stable.example.com/v1";
        let paths: Vec<&str> = document["paths"].as_object().expect("an object").keys().map(String::as_str).collect();
        let one = format!("{root}/namespaces/{{namespace}}/crontabs");
        assert_eq!(
            paths,
            [
                format!("{root}/crontabs"),
                one.clone(),
                format!("{one}/{{name}}"),
                format!("{one}/{{name}}/scale"),
                format!("{one}/{{name}}/status"),
            ]
        );
        let patch = &document["paths"][format!("{one}/{{name}}")]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"], gvk);
        assert_eq!(patch["operationId"], "patchStableExampleComV1NamespacedCronTab");
        let kinds: Vec<&String> = patch["requestBody"]["content"].as_object().expect("an object").keys().collect();
        assert_eq!(kinds, ["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"]);
        assert!(patch["parameters"].as_array().expect("a list").iter().any(|one| one["name"] == "fieldValidation"));
        let get = &document["paths"][one]["get"]["responses"]["200"]["content"];
        assert_eq!(get["application/json"]["schema"]["$ref"], "#/components/schemas/com.example.stable.v1.CronTabList");
    }

    #[test]
    fn extensions_are_written_out() {
        let kinds = CustomKind::of(&served(memcached()));
        let document = openapi_document("cache.example.com", "v1", &kinds[1..]);
        references_resolve(&document, &document);
        let schemas = document["components"]["schemas"].as_object().expect("an object");
        assert!(!schemas.keys().any(|name| name.contains("autoscaling")), "nobody scales");
        let spec = &schemas["com.example.cache.v1.Memcached"]["properties"]["spec"]["properties"];
        assert_eq!(spec["port"]["anyOf"], json!([{"type": "integer"}, {"type": "string"}]));
        assert_eq!(spec["template"]["required"], json!(["kind", "apiVersion"]));
        assert!(spec["template"]["properties"]["metadata"]["allOf"].is_array());
        assert_eq!(spec["containers"]["x-kubernetes-list-map-keys"], json!(["name", "port"]));
    }
}
