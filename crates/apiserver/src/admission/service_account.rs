//! ServiceAccount: pods run as an account and find its token in a projected volume.
//!
//! Facts: kubernetes plugin/pkg/admission/serviceaccount/admission.go.

use std::sync::Arc;
use std::time::Duration;

use daruma_api::status::ApiError;
use daruma_client::names;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{Attributes, Plugin};
use crate::document::{self, text};
use crate::server::ApiServer;

const VOLUME_PREFIX: &str = "kube-api-access-";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Lifetime asked for tokens in volumes (`WarnOnlyBoundTokenExpirationSeconds`).
pub const EXPIRATION_SECONDS: i64 = 60 * 60 + 7;
/// Looks for the default account before giving up: a controller is about to make it.
const DEFAULT_ATTEMPTS: u32 = 10;
/// Marks pods that mirror static ones.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// The plugin.
pub struct ServiceAccount;

impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.is_new_pod()
    }

    fn mutate<'a>(&'a self, server: &'a Arc<ApiServer>, attributes: &'a mut Attributes) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            if is_mirror(&attributes.object) {
                return Ok(());
            }
            let spec = document::child(&mut attributes.object, "spec");
            if spec.get("serviceAccountName").and_then(Value::as_str).unwrap_or_default().is_empty() {
                spec.insert("serviceAccountName".into(), "default".into());
            }
            let name = text(&attributes.object, "/spec/serviceAccountName").to_owned();
            document::child(&mut attributes.object, "spec").insert("serviceAccount".into(), name.clone().into());
            let account = account(server, &attributes.namespace, &name).await.map_err(|error| {
                attributes
                    .forbidden(&format!("error looking up service account {}/{name}: {}", attributes.namespace, error.message))
            })?;
            if automounts(&account, &attributes.object) {
                let volume = format!("{VOLUME_PREFIX}{}", names::random_suffix(&*server.world.random, 5));
                mount(&mut attributes.object, volume);
            }
            pull_secrets(&account, &mut attributes.object);
            Ok(())
        })
    }

    fn validate<'a>(&'a self, _server: &'a Arc<ApiServer>, attributes: &'a Attributes) -> BoxFuture<'a, Result<(), ApiError>> {
        let judged = if is_mirror(&attributes.object) { mirror(attributes) } else { Ok(()) };
        Box::pin(async { judged })
    }
}

fn is_mirror(pod: &Value) -> bool {
    pod.pointer("/metadata/annotations").and_then(|all| all.get(MIRROR_ANNOTATION)).is_some()
}

fn mirror(attributes: &Attributes) -> Result<(), ApiError> {
    let pod = &attributes.object;
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        return Err(attributes.forbidden("a mirror pod may not reference service accounts"));
    }
    let volumes = document::list(pod, "/spec/volumes");
    let projected = |key: &str| {
        volumes.iter().flat_map(|volume| document::list(volume, "/projected/sources")).any(|source| source.get(key).is_some())
    };
    let containers = ["/spec/containers", "/spec/initContainers"];
    let env_secret = containers.into_iter().flat_map(|pointer| document::list(pod, pointer)).any(|container| {
        document::list(container, "/envFrom").iter().any(|source| source.get("secretRef").is_some())
            || document::list(container, "/env").iter().any(|variable| variable.pointer("/valueFrom/secretKeyRef").is_some())
    });
    let secret = volumes.iter().any(|volume| volume.get("secret").is_some());
    if secret || projected("secret") || env_secret || !document::list(pod, "/spec/imagePullSecrets").is_empty() {
        return Err(attributes.forbidden("a mirror pod may not reference secrets"));
    }
    if projected("serviceAccountToken") {
        return Err(attributes.forbidden("a mirror pod may not use ServiceAccountToken volume projections"));
    }
    Ok(())
}

async fn account(server: &Arc<ApiServer>, namespace: &str, name: &str) -> Result<Arc<Value>, ApiError> {
    let missing = || ApiError::not_found("", "serviceaccount", name);
    let accounts = server.registry.built_in("", "v1", "serviceaccounts").ok_or_else(missing)?;
    server.feed.load(&accounts.prefix, &accounts.cache).await?;
    if let Some(item) = accounts.cache.get(namespace, name) {
        return server.decode_item(accounts, &item);
    }
    let attempts = if name == "default" { DEFAULT_ATTEMPTS } else { 1 };
    let interval = Duration::from_millis(100 + server.world.random.below(100));
    for attempt in 0..attempts {
        if attempt > 0 {
            server.world.sleep(interval).await;
        }
        match server.fetch(accounts, namespace, name).await {
            Ok(found) => return server.decode(accounts, &found),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Err(missing())
}

/// The pod's word counts before the account's.
fn automounts(account: &Value, pod: &Value) -> bool {
    let said = |object: &Value, pointer: &str| object.pointer(pointer).and_then(Value::as_bool);
    said(pod, "/spec/automountServiceAccountToken").or_else(|| said(account, "/automountServiceAccountToken")).unwrap_or(true)
}

fn pull_secrets(account: &Value, pod: &mut Value) {
    let secrets = document::list(account, "/imagePullSecrets");
    if !secrets.is_empty() && document::list(pod, "/spec/imagePullSecrets").is_empty() {
        document::child(pod, "spec").insert("imagePullSecrets".into(), secrets.to_vec().into());
    }
}

fn mount(pod: &mut Value, new_volume: String) {
    let existing = document::list(pod, "/spec/volumes").iter().map(|volume| text(volume, "/name"));
    let existing = existing.filter(|name| name.starts_with(VOLUME_PREFIX)).map(str::to_owned).next();
    let volume = existing.clone().unwrap_or(new_volume);
    let spec = document::child(pod, "spec");
    let mut needed = false;
    for key in ["initContainers", "containers"] {
        for container in spec.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
            let mounted = document::list(container, "/volumeMounts").iter().any(|mount| text(mount, "/mountPath") == MOUNT_PATH);
            if let (false, Some(fields)) = (mounted, container.as_object_mut()) {
                let mount = json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH});
                document::elements(fields, "volumeMounts").push(mount);
                needed = true;
            }
        }
    }
    if needed && existing.is_none() {
        document::elements(spec, "volumes").push(json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": EXPIRATION_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]}}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounting() {
        let mut pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"mountPath": MOUNT_PATH, "name": "own"}]}]}});
        mount(&mut pod, "kube-api-access-x".into());
        assert_eq!(text(&pod, "/spec/containers/0/volumeMounts/0/name"), "kube-api-access-x");
        assert_eq!(document::list(&pod, "/spec/containers/1/volumeMounts").len(), 1);
        assert_eq!(document::list(&pod, "/spec/volumes").len(), 1);
        let before = pod.clone();
        mount(&mut pod, "kube-api-access-y".into());
        assert_eq!(pod, before);
    }

    #[test]
    fn automounting() {
        assert!(automounts(&json!({}), &json!({})));
        assert!(!automounts(&json!({"automountServiceAccountToken": false}), &json!({})));
        assert!(automounts(
            &json!({"automountServiceAccountToken": false}),
            &json!({"spec": {"automountServiceAccountToken": true}})
        ));
    }
}
