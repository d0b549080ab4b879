//! OpenAPI documents of group versions that custom resources make up.

use std::sync::Arc;

use serde_json::{Value, json};

use super::CustomKind;

/// OpenAPI v3 document of a group version made of these kinds. It lists no paths and no schemas yet.
pub fn openapi_document(_group: &str, _version: &str, _kinds: &[Arc<CustomKind>]) -> Value {
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": daruma_api::KUBERNETES_VERSION},
        "paths": {},
        "components": {"schemas": {}},
    })
}
