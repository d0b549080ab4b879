//! Many nodes, each with nothing but its kubelet.

use std::collections::BTreeMap;
use std::time::Duration;

use daruma_api::core::v1::{Node, Pod};
use daruma_api::meta::ObjectExt;
use daruma_client::ListOptions;
use daruma_rehearsal::{Options, VirtualCluster};
use serde_json::json;

#[test]
fn sixty_workers_without_agents() {
    let options = Options { workers: 60, node_agents: false, ..Options::default() };
    let cluster = VirtualCluster::start(options).expect("a cluster");
    cluster.run(cluster.wait_ready()).expect("every node is Ready");
    let client = cluster.client();
    let labels = json!({"app": "web"});
    let container = json!({"name": "web", "image": "gcr.io/google-samples/kubernetes-bootcamp:v1"});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 120, "selector": {"matchLabels": labels}, "template": template}});
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let body = Some(deployment.to_string().into());
    cluster.run(client.json(http::Method::POST, path, "application/json", body)).expect("created");
    cluster.run_for(Duration::from_secs(30));
    let ranges: BTreeMap<String, String> = {
        let nodes = cluster.run(client.cluster::<Node>().list(&ListOptions::default())).expect("a list").items;
        let range = |node: &Node| node.spec.as_ref().and_then(|spec| spec.pod_cidr.clone()).expect("every node has a range");
        nodes.iter().map(|node| (node.name().to_owned(), range(node))).collect()
    };
    let pods = cluster.run(client.namespaced::<Pod>("default").list(&ListOptions::default())).expect("a list").items;
    assert_eq!(pods.len(), 120);
    for pod in &pods {
        let (spec, status) = (pod.spec.as_ref().expect("a spec"), pod.status.as_ref().expect("a status"));
        let node = spec.node_name.as_deref().expect("it is bound");
        let range = ranges[node].trim_end_matches("0/24");
        assert!(status.pod_ip.as_deref().is_some_and(|ip| ip.starts_with(range)), "{} on {node}", pod.name());
    }
    assert_eq!(cluster.guard().expect("invariants are checked").converged(), Ok(()));
    assert_eq!(cluster.stop(), []);
}

/// The lookout's list and the first words of a hundred kubelets cross each other: what is written while the list is on its
/// way comes by the watch.
#[test]
fn a_crowd_registers_while_a_list_is_on_its_way() {
    let options = Options { seed: 7, workers: 110, node_agents: false, ..Options::default() };
    let cluster = VirtualCluster::start(options).expect("a cluster");
    cluster.run_for(Duration::from_secs(2));
    assert_eq!(cluster.stop(), []);
}
