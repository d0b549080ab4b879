//! pods/binding and bindings: gives a pod its node, once.
//!
//! Facts: kubernetes pkg/registry/core/pod/storage/storage.go (`BindingREST`) and
//! plugin/pkg/admission/podtopologylabels.

use std::sync::Arc;

use bytes::Bytes;
use daruma_api::status::{ApiError, FieldError};
use daruma_client::Body;
use daruma_store::{Expect, KeyValue, Outcome};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::admission::{self, Attributes, Operation};
use crate::call::Call;
use crate::document::{self, list, text};
use crate::http::{answer, body};
use crate::server::ApiServer;

/// Attempts after a conflict.
const ATTEMPTS: usize = 20;
/// Node labels that the pod gets.
const TOPOLOGY: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// Binds the pod `name`, or the one that the body names.
///
/// # Errors
/// 404; 409 where the pod has a node already, is being deleted or is not the one that was meant.
pub async fn create(call: &Call, name: Option<&str>, content: Bytes) -> Result<Response<Body>, ApiError> {
    let binding = body::decode(&call.headers, &content)?;
    let in_body = text(&binding, "/metadata/name");
    if name.is_some_and(|name| name != in_body) {
        return Err(ApiError::bad_request("name in URL does not match name in Binding object"));
    }
    let target_kind = text(&binding, "/target/kind");
    if !matches!(target_kind, "" | "Node") {
        return Err(ApiError::bad_request(
            FieldError::not_supported("target.kind", format!("{target_kind:?}"), &["Node", ""]).to_string(),
        ));
    }
    let node = text(&binding, "/target/name");
    if node.is_empty() {
        return Err(ApiError::bad_request(FieldError::required("target.name", "").to_string()));
    }
    let server = &call.server;
    let pods = server.registry.built_in("", "v1", "pods").ok_or_else(answer::no_such_path)?;
    let dry_run = call.dry_run(&[])?;
    let attributes = Attributes {
        operation: Operation::Create,
        resource: pods.clone(),
        subresource: "binding".into(),
        namespace: call.info.namespace.clone(),
        name: in_body.to_owned(),
        user: call.user.clone(),
        dry_run,
        object: binding.clone(),
        old: None,
        warnings: Vec::new(),
    };
    admission::validate(server, &attributes).await?;
    let topology = topology(server, node).await?;
    let mut current = Some(server.fetch(pods, &call.info.namespace, in_body).await?);
    for _ in 0..ATTEMPTS {
        let Some(found) = current else { return Err(ApiError::not_found("", "pods", in_body)) };
        let mut pod = Arc::unwrap_or_clone(server.decode(pods, &found)?);
        assign(&mut pod, &found, &binding, &topology, server.world.now())
            .map_err(|why| ApiError::conflict("", "pods/binding", in_body, &why))?;
        if dry_run {
            return Ok(success());
        }
        let value = pods.head.encode(&pod);
        match server.put(pods, &found.key, Expect::Revision(found.mod_revision), value.clone()).await? {
            Outcome::Committed { revision } => {
                server.remember(pods, &found.key, &value, revision, pod, call.neighbours.as_deref());
                return Ok(success());
            }
            Outcome::Conflict { current: newer } => current = newer,
        }
    }
    Err(ApiError::modified("", "pods", in_body))
}

/// 201 with a `Status` that says nothing but success.
pub fn success() -> Response<Body> {
    answer::json(StatusCode::CREATED, r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","code":201}"#)
}

async fn topology(server: &ApiServer, node: &str) -> Result<Vec<(&'static str, String)>, ApiError> {
    let Some(nodes) = server.registry.built_in("", "v1", "nodes") else { return Ok(Vec::new()) };
    server.feed.load(&nodes.prefix, &nodes.cache).await?;
    let Some(item) = nodes.cache.get("", node) else { return Ok(Vec::new()) };
    Ok(TOPOLOGY.iter().filter_map(|key| Some((*key, item.label(key)?.to_owned()))).collect())
}

fn assign(
    pod: &mut Value,
    found: &KeyValue,
    binding: &Value,
    topology: &[(&str, String)],
    now: jiff::Timestamp,
) -> Result<(), String> {
    let name = text(pod, "/metadata/name").to_owned();
    let (uid, version) = (text(binding, "/metadata/uid"), text(binding, "/metadata/resourceVersion"));
    if !uid.is_empty() && uid != text(pod, "/metadata/uid") {
        return Err(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            text(pod, "/metadata/uid")
        ));
    }
    if !version.is_empty() && version != found.mod_revision.to_string() {
        return Err(format!(
            "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {}",
            found.mod_revision
        ));
    }
    if !text(pod, "/metadata/deletionTimestamp").is_empty() {
        return Err(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let assigned = text(pod, "/spec/nodeName");
    if !assigned.is_empty() {
        return Err(format!("pod {name} is already assigned to node {assigned:?}"));
    }
    if !list(pod, "/spec/schedulingGates").is_empty() {
        return Err(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    document::child(pod, "spec").insert("nodeName".into(), text(binding, "/target/name").into());
    document::child(pod, "status").remove("nominatedNodeName");
    for key in ["annotations", "labels"] {
        let given = binding.pointer(&format!("/metadata/{key}")).and_then(Value::as_object);
        let mut more: Vec<(String, Value)> =
            given.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
        if key == "labels" {
            more.extend(topology.iter().map(|(key, value)| ((*key).to_owned(), value.clone().into())));
        }
        if more.is_empty() {
            continue;
        }
        let target = document::metadata(pod).entry(key).or_insert_with(|| json!({}));
        if let Some(fields) = target.as_object_mut() {
            fields.extend(more);
        }
    }
    set_condition(pod, json!({"type": "PodScheduled", "status": "True"}), now);
    Ok(())
}

/// Puts a condition into a pod's status; the transition time stays where the status does.
pub fn set_condition(pod: &mut Value, mut condition: Value, now: jiff::Timestamp) {
    let kind = text(&condition, "/type").to_owned();
    let status = document::child(pod, "status");
    let conditions = document::elements(status, "conditions");
    condition["lastProbeTime"] = Value::Null;
    condition["lastTransitionTime"] = document::seconds(now).into();
    match conditions.iter_mut().find(|one| text(one, "/type") == kind) {
        Some(old) => {
            if text(old, "/status") == text(&condition, "/status") {
                condition["lastTransitionTime"] = old.get("lastTransitionTime").cloned().unwrap_or(Value::Null);
            }
            *old = condition;
        }
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pod: Value, binding: Value, expected: Result<(), &str>) {
        let mut pod = pod;
        let found = KeyValue { key: String::new(), value: Bytes::new(), create_revision: 1, mod_revision: 7 };
        let topology = [("topology.kubernetes.io/zone", "z".to_owned())];
        let got = assign(&mut pod, &found, &binding, &topology, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(got.as_ref().copied().map_err(String::as_str), expected, "{pod}");
        if got.is_ok() {
            assert_eq!(text(&pod, "/spec/nodeName"), "n");
            assert_eq!(text(&pod, "/status/conditions/0/type"), "PodScheduled");
            assert_eq!(pod["metadata"]["labels"]["topology.kubernetes.io/zone"], "z");
        }
    }

    #[test]
    fn assignment() {
        let binding = json!({"metadata": {"name": "p", "uid": "u"}, "target": {"name": "n"}});
        check(json!({"metadata": {"name": "p", "uid": "u"}, "spec": {}}), binding.clone(), Ok(()));
        check(
            json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"nodeName": "m"}}),
            binding.clone(),
            Err("pod p is already assigned to node \"m\""),
        );
        check(
            json!({"metadata": {"name": "p", "uid": "u", "deletionTimestamp": "x"}, "spec": {}}),
            binding.clone(),
            Err("pod p is being deleted, cannot be assigned to a host"),
        );
        check(
            json!({"metadata": {"name": "p", "uid": "v"}, "spec": {}}),
            binding,
            Err("Precondition failed: UID in precondition: u, UID in object meta: v"),
        );
    }
}
