//! Objects for tests, from YAML-like JSON.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Decodes an object.
pub(crate) fn object<K: DeserializeOwned>(value: Value) -> Arc<K> {
    Arc::new(serde_json::from_value(value).expect("a valid object"))
}

/// A service `default/web` with one port 80 (node port 30080), changed by merging `spec` into its specification.
pub(crate) fn service<K: DeserializeOwned>(spec: Value) -> Arc<K> {
    let mut base = json!({
        "type": "ClusterIP", "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]
    });
    if let (Some(base), Some(spec)) = (base.as_object_mut(), spec.as_object()) {
        base.extend(spec.clone());
    }
    object(json!({"metadata": {"name": "web", "namespace": "default"}, "spec": base}))
}

/// A slice of `default/web` with port http 8080 and the given endpoints.
pub(crate) fn slice<K: DeserializeOwned>(endpoints: Value) -> Arc<K> {
    object(json!({
        "metadata": {"name": "web-abcde", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints
    }))
}
