//! Loads a cluster with workloads that run already, as they would stand after a long calm: Deployment, ReplicaSet
//! and pods are written bound to their nodes, while the controllers are held back and the workers have no power; then the
//! workers are switched on, and what is theirs stands (see [`Standing`]).
//!
//! Invariant: what is written is what the controllers and kubelets would have written, so that they find nothing to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_api::apps::v1::{Deployment, ReplicaSet};
use daruma_api::core::v1::{ConfigMap, Namespace, Node, Pod, PodTemplateSpec, ServiceAccount};
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::OwnerReference;
use daruma_client::{Client, ClientError, Patch};
use daruma_cluster::shape::{POD_CIDR, Shape};
use daruma_controllers::node_ipam::cidr_set::CidrSet;
use daruma_controllers::root_ca;
use daruma_controllers::template_hash::{POD_TEMPLATE_HASH, template_hash};
use daruma_drill::file::{ClusterSpec, Preload};
use futures::{StreamExt, TryStreamExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::standing::Standing;

/// Writes under way at once.
const AT_ONCE: usize = 256;
/// The slice of the pods' range that a node gets (kube-controller-manager --node-cidr-mask-size).
const SLICE: u8 = 24;

/// The pods of each node, as JSON.
type Dealt = BTreeMap<String, Vec<String>>;

/// Writes nodes and workloads, the pods dealt over the workers in turn, and leaves with `standing` what every node is to start with.
///
/// # Errors
/// The API refused an object.
pub async fn load(
    client: &Client,
    cluster: &ClusterSpec,
    shape: &Shape,
    root_ca: &str,
    standing: &Standing,
) -> Result<(), ClientError> {
    let workers: Vec<String> = cluster.machines().filter(|machine| !machine.starts_with("controller-")).collect();
    let mut dealt = Dealt::new();
    let mut turn = 0;
    let mut namespaces = Vec::new();
    for preload in &cluster.preload {
        if !namespaces.contains(&preload.namespace) {
            namespaces.push(preload.namespace.clone());
            prepare_namespace(client, &preload.namespace, root_ca).await?;
        }
        for index in 0..preload.count {
            let name = if preload.count == 1 { preload.deployment.clone() } else { format!("{}-{index}", preload.deployment) };
            let set = deployment(client, preload, &name).await?;
            pods(client, preload, &set, &workers, &mut turn, &mut dealt).await?;
        }
    }
    let ranges = ranges(shape, workers.len());
    let nodes = workers.iter().zip(&ranges).map(|(name, range)| {
        let labels = cluster.labels_of(name);
        typed::<Node>(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "spec": {"podCIDR": range, "podCIDRs": [range]},
        }))
    });
    let api = client.cluster::<Node>();
    each(nodes, |node| {
        let api = &api;
        async move {
            let name = node.name();
            there(api.create(&node).await)?;
            // The server takes a new node for one that is not ready; the node lifecycle controller saw long ago that it is.
            api.patch(name, &Patch::Merge(json!({"spec": {"taints": null}}))).await.map(drop)
        }
    })
    .await?;
    for (name, range) in workers.iter().zip(ranges) {
        standing.put(name, range, dealt.remove(name).unwrap_or_default());
    }
    Ok(())
}

/// The ranges that so many nodes get when they come one after the other.
fn ranges(shape: &Shape, count: usize) -> Vec<String> {
    let set = shape.settings.get("kube-controller-manager").and_then(|flags| flags.get("cluster-cidr"));
    let range = set.map_or(POD_CIDR, String::as_str).parse().ok();
    let Some(mut slices) = range.and_then(|range| CidrSet::new(range, SLICE).ok()) else { return Vec::new() };
    std::iter::from_fn(|| slices.allocate().ok()).take(count).map(|slice| slice.to_string()).collect()
}

/// The namespace, and what pods in it need before its controllers run.
async fn prepare_namespace(client: &Client, namespace: &str, root_ca: &str) -> Result<(), ClientError> {
    let object: Value = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    there(client.cluster::<Namespace>().create(&typed(object)).await)?;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}});
    there(client.namespaced::<ServiceAccount>(namespace).create(&typed(account)).await)?;
    match root_ca::plan(namespace, None, root_ca) {
        Some(map) => there(client.namespaced::<ConfigMap>(namespace).create(&map).await),
        None => Ok(()),
    }
}

/// An object that is there already is fine.
fn there<T>(result: Result<T, ClientError>) -> Result<(), ClientError> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.api().is_some_and(|error| error.code == 409) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes many objects, some at once.
async fn each<T, F>(objects: impl Iterator<Item = T>, write: impl Fn(T) -> F) -> Result<(), ClientError>
where
    F: Future<Output = Result<(), ClientError>>,
{
    futures::stream::iter(objects).map(write).buffer_unordered(AT_ONCE).try_collect().await
}

/// The Deployment and its ReplicaSet; gives the latter.
async fn deployment(client: &Client, preload: &Preload, name: &str) -> Result<Arc<ReplicaSet>, ClientError> {
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
    let deployment: Arc<Deployment> = client.namespaced::<Deployment>(&preload.namespace).create(&typed(deployment)).await?;
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
    client.namespaced::<ReplicaSet>(&preload.namespace).create(&typed(set)).await
}

async fn pods(
    client: &Client,
    preload: &Preload,
    set: &ReplicaSet,
    nodes: &[String],
    turn: &mut usize,
    dealt: &mut Dealt,
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
    let written: Vec<(String, String)> = futures::stream::iter(made)
        .map(|pod| {
            let api = &api;
            async move {
                let pod = api.create(&pod).await?;
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
                Ok::<_, ClientError>((node, serde_json::to_string(&*pod).expect("an object of the API is JSON")))
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    for (node, pod) in written {
        dealt.entry(node).or_default().push(pod);
    }
    Ok(())
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
