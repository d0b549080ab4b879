//! A custom resource to test with, and short ways to wait for it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Cluster};

/// Where definitions are.
pub const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// Where objects are.
pub const CRONTABS: &str = "/apis/stable.example.com/v1/namespaces/default/crontabs";

/// The schema of a version.
pub fn schema() -> Value {
    json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "required": ["cronSpec"], "properties": {
            "cronSpec": {"type": "string", "pattern": "^(\\d+|\\*)(/\\d+)?(\\s+(\\d+|\\*)(/\\d+)?){4}$", "description": "When."},
            "image": {"type": "string"},
            "replicas": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1},
            "selector": {"type": "string"},
        }},
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "labelSelector": {"type": "string"}}},
    }}})
}

/// A version with all subresources.
pub fn version(name: &str, storage: bool) -> Value {
    json!({"name": name, "served": true, "storage": storage, "schema": schema(),
        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.labelSelector"}},
        "selectableFields": [{"jsonPath": ".spec.image"}],
        "additionalPrinterColumns": [{"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]})
}

/// The example of the Kubernetes documentation.
pub fn definition() -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {"group": "stable.example.com", "scope": "Namespaced", "versions": [version("v1", true)],
            "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "shortNames": ["ct"], "categories": ["all"]}}})
}

/// An object.
pub fn crontab(name: &str) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": name},
        "spec": {"cronSpec": "* * * * */5", "image": "cron"}})
}

/// `status reason: message` of a condition.
pub fn condition(definition: &Value, kind: &str) -> String {
    let conditions = definition["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|one| one["type"] == kind).cloned().unwrap_or_default();
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    format!("{} {}: {}", text("status"), text("reason"), text("message"))
}

/// Asks until the answer is as it should be.
pub async fn until(cluster: &Cluster, path: &str, done: impl Fn(&Answer) -> bool) -> Answer {
    for _ in 0..1000 {
        let found = cluster.admin.get(path).await;
        if done(&found) {
            return found;
        }
        cluster.world.sleep(Duration::from_millis(10)).await;
    }
    panic!("never at {path}: {}", cluster.admin.get(path).await.text);
}

/// Makes a definition and waits until it is established.
pub async fn establish(cluster: &Cluster, definition: &Value) -> Answer {
    cluster.admin.post(DEFINITIONS, definition).await.expect(201);
    let path = format!("{DEFINITIONS}/{}", definition["metadata"]["name"].as_str().expect("a name"));
    until(cluster, &path, |found| condition(&found.json, "Established").starts_with("True")).await
}
