//! Loads a cluster with workloads that run already, as they would stand after a long calm: Deployment, ReplicaSet
//! and pods are written bound to their nodes, while the controllers are held back; then the kubelets start what is theirs.
//!
//! Invariant: what is written is what the controllers would have written, so that they find nothing to do.

use std::collections::BTreeMap;

use daruma_api::apps::v1::{Deployment, ReplicaSet};
use daruma_api::core::v1::{Pod, PodTemplateSpec, ServiceAccount};
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::OwnerReference;
use daruma_client::{Client, ClientError};
use daruma_controllers::template_hash::{POD_TEMPLATE_HASH, template_hash};
use daruma_drill::file::Preload;
use futures::{StreamExt, TryStreamExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Writes under way at once.
const AT_ONCE: usize = 256;

/// Writes the workloads, dealt over `nodes` in turn.
///
/// # Errors
/// The API refused an object.
pub async fn load(client: &Client, preloads: &[Preload], nodes: &[String]) -> Result<(), ClientError> {
    let mut turn = 0;
    let mut namespaces = Vec::new();
    for preload in preloads {
        if !namespaces.contains(&preload.namespace) {
            namespaces.push(preload.namespace.clone());
            prepare_namespace(client, &preload.namespace).await?;
        }
        for index in 0..preload.count {
            let name = if preload.count == 1 { preload.deployment.clone() } else { format!("{}-{index}", preload.deployment) };
            deployment(client, preload, &name, nodes, &mut turn).await?;
        }
    }
    Ok(())
}

/// The namespace, and the account that pods need before its controller runs.
async fn prepare_namespace(client: &Client, namespace: &str) -> Result<(), ClientError> {
    let object: Value = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    there(client.cluster::<daruma_api::core::v1::Namespace>().create(&typed(object)).await)?;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}});
    there(client.namespaced::<ServiceAccount>(namespace).create(&typed(account)).await)
}

/// An object that is there already is fine.
fn there<T>(result: Result<T, ClientError>) -> Result<(), ClientError> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.api().is_some_and(|error| error.code == 409) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn deployment(
    client: &Client,
    preload: &Preload,
    name: &str,
    nodes: &[String],
    turn: &mut usize,
) -> Result<(), ClientError> {
    let labels = json!({"app": name});
    let mut spec: serde_json::Map<String, Value> = preload.pod.clone().into_iter().collect();
    spec.insert(
        "containers".into(),
        json!([{"name": "app", "image": preload.image,
            "resources": {"requests": {"cpu": preload.cpu, "memory": preload.memory.0.to_string()}}}]),
    );
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": preload.namespace, "labels": labels},
        "spec": {"replicas": preload.replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec}},
    });
    let deployment: Deployment = client.namespaced::<Deployment>(&preload.namespace).create(&typed(deployment)).await?;
    let template = deployment.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let hash = template_hash(&template, None);
    let labels = json!({"app": name, POD_TEMPLATE_HASH: hash});
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": format!("{name}-{hash}"), "namespace": preload.namespace, "labels": labels,
            "annotations": {"deployment.kubernetes.io/revision": "1",
                "deployment.kubernetes.io/desired-replicas": preload.replicas.to_string(),
                "deployment.kubernetes.io/max-replicas": (preload.replicas + preload.replicas.div_ceil(4)).to_string()},
            "ownerReferences": [owner("Deployment", name, deployment.uid())]},
        "spec": {"replicas": preload.replicas, "selector": {"matchLabels": labels}, "template": with_hash(&template, &hash)},
    });
    let set: ReplicaSet = client.namespaced::<ReplicaSet>(&preload.namespace).create(&typed(set)).await?;
    pods(client, preload, &set, nodes, turn).await
}

async fn pods(
    client: &Client,
    preload: &Preload,
    set: &ReplicaSet,
    nodes: &[String],
    turn: &mut usize,
) -> Result<(), ClientError> {
    let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    let owner = owner("ReplicaSet", set.name(), set.uid());
    let api = client.namespaced::<Pod>(&preload.namespace);
    let first = *turn;
    *turn += preload.replicas as usize;
    let prefix = format!("{}-", set.name());
    let made = (first..*turn).map(|turn| {
        let mut object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": template.metadata,
            "spec": template.spec,
        });
        object["metadata"]["generateName"] = prefix.clone().into();
        object["metadata"]["namespace"] = preload.namespace.clone().into();
        object["metadata"]["ownerReferences"] = json!([owner]);
        object["spec"]["nodeName"] = nodes[turn % nodes.len()].clone().into();
        typed::<Pod>(object)
    });
    futures::stream::iter(made)
        .map(|pod| {
            let api = &api;
            async move { api.create(&pod).await.map(drop) }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

fn with_hash(template: &PodTemplateSpec, hash: &str) -> PodTemplateSpec {
    let mut template = template.clone();
    let metadata = template.metadata.get_or_insert_default();
    metadata.labels.get_or_insert_with(BTreeMap::new).insert(POD_TEMPLATE_HASH.to_owned(), hash.to_owned());
    template
}

fn owner(kind: &str, name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".into(),
        kind: kind.into(),
        name: name.into(),
        uid: uid.into(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

fn typed<K: DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).expect("the literal has the type's shape")
}
