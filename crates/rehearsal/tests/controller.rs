//! A model to copy: a controller of one's own, tested against a whole cluster whose node dies.
//!
//! The controller labels pods whose node is unreachable, so that somebody else may take them out of a rotation. It knows
//! nothing of the virtual world: it takes a client, and time from the client's world.

use std::time::Duration;

use daruma_api::core::v1::{Node, Pod};
use daruma_api::meta::ObjectExt;
use daruma_client::{Client, ClientError, ListOptions, Patch};
use daruma_rehearsal::{Options, VirtualCluster};
use serde_json::json;

const LABEL: &str = "example.com/stranded";

/// Looks once a second, for ever.
async fn label_the_stranded(client: Client) {
    loop {
        // What fails now is tried again in a second.
        let _ = look(&client).await;
        client.world().sleep(Duration::from_secs(1)).await;
    }
}

async fn look(client: &Client) -> Result<(), ClientError> {
    let nodes = client.cluster::<Node>().list(&ListOptions::default()).await?.items;
    let taints = |node: &Node| node.spec.clone().and_then(|spec| spec.taints).unwrap_or_default();
    let lost = nodes.iter().filter(|node| taints(node).iter().any(|taint| taint.key == "node.kubernetes.io/unreachable"));
    let lost: Vec<&str> = lost.map(ObjectExt::name).collect();
    for pod in client.namespaced::<Pod>("default").list(&ListOptions::default()).await?.items {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        if lost.contains(&node) != labels.contains_key(LABEL) {
            let value = if lost.contains(&node) { json!("true") } else { json!(null) };
            let patch = Patch::Merge(json!({"metadata": {"labels": {LABEL: value}}}));
            client.namespaced::<Pod>("default").patch(pod.name(), &patch).await?;
        }
    }
    Ok(())
}

async fn labelled(client: &Client) -> Vec<String> {
    let stranded = ListOptions { label_selector: LABEL.into(), ..ListOptions::default() };
    let pods = client.namespaced::<Pod>("default").list(&stranded).await.expect("the API answers").items;
    pods.iter().map(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default()).collect()
}

#[test]
fn stranded_pods_are_labelled_and_the_label_goes() {
    for seed in [1, 2] {
        let cluster = VirtualCluster::start(Options { seed, ..Options::default() }).expect("a cluster");
        let client = cluster.client();
        cluster.run(cluster.wait_ready()).expect("every node is Ready");
        let deployment = serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"replicas": 4, "selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "gcr.io/google-samples/kubernetes-bootcamp:v1"}]}}}
        }))
        .expect("a Deployment");
        let deployments = client.namespaced::<daruma_api::apps::v1::Deployment>("default");
        cluster.run(deployments.create(&deployment)).expect("it is taken");
        cluster.run_for(Duration::from_secs(30));
        cluster.world().spawn("my controller", label_the_stranded(client.clone()));

        cluster.run(cluster.machines().power_off("worker-1", false)).expect("it was on");
        cluster.run_for(Duration::from_secs(70));
        assert_eq!(cluster.run(labelled(&client)), ["worker-1", "worker-1"], "seed {seed}");

        cluster.run(cluster.machines().power_on("worker-1")).expect("it was off");
        cluster.run_for(Duration::from_secs(20));
        assert!(cluster.run(labelled(&client)).is_empty(), "seed {seed}");
        assert_eq!(cluster.stop(), [], "seed {seed}");
    }
}
