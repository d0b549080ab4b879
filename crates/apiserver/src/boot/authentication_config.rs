//! The ConfigMap by which extension API servers learn whom to trust.
//!
//! Facts: kubernetes pkg/controlplane/controller/clusterauthenticationtrust.

use serde_json::{Value, json};

use super::Wanted;
use crate::server::ApiServer;

/// `kube-system/extension-apiserver-authentication`.
pub fn all(server: &ApiServer) -> Vec<Wanted> {
    let config = &server.config;
    let mut data = serde_json::Map::new();
    if let Some(ca) = &config.client_ca {
        data.insert("client-ca-file".into(), ca.clone().into());
    }
    if let Some(ca) = &config.requestheader_client_ca {
        let list = |items: &[&str]| Value::from(json!(items).to_string());
        data.insert("requestheader-allowed-names".into(), json!(config.requestheader_allowed_names).to_string().into());
        data.insert("requestheader-client-ca-file".into(), ca.clone().into());
        data.insert("requestheader-extra-headers-prefix".into(), list(&["X-Remote-Extra-"]));
        data.insert("requestheader-group-headers".into(), list(&["X-Remote-Group"]));
        data.insert("requestheader-uid-headers".into(), list(&["X-Remote-Uid"]));
        data.insert("requestheader-username-headers".into(), list(&["X-Remote-User"]));
    }
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"}, "data": data});
    vec![Wanted { group: "", plural: "configmaps", object }]
}
