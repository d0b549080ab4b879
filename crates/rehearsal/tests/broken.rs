//! Invariants fire on components that are broken on purpose: clients that do a component's work wrongly.

use std::collections::BTreeSet;
use std::time::Duration;

use daruma_api::apps::v1::ReplicaSet;
use daruma_api::core::v1::Pod;
use daruma_api::meta::{ObjectExt, controller_reference};
use daruma_client::{Client, ListOptions};
use daruma_rehearsal::{Options, VirtualCluster};
use serde_json::{Value, json};

async fn create(client: &Client, path: &str, object: Value) {
    let body = Some(object.to_string().into());
    let made = client.json(http::Method::POST, path, "application/json", body).await;
    made.unwrap_or_else(|error| panic!("{path}: {error}"));
}

fn pod(name: &str, cpu: &str) -> Value {
    let resources = json!({"requests": {"cpu": cpu}});
    let container = json!({"name": "c", "image": "registry.example/app:v1", "resources": resources});
    // Nobody's scheduler: no other component touches the pod.
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
           "spec": {"schedulerName": "broken", "containers": [container]}})
}

/// Puts every pod on one node, whatever it has left.
async fn broken_scheduler(client: Client) {
    for number in 0..3 {
        let name = format!("heavy-{number}");
        create(&client, "/api/v1/namespaces/default/pods", pod(&name, "900m")).await;
        let target = json!({"apiVersion": "v1", "kind": "Node", "name": "worker-0"});
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target});
        create(&client, &format!("/api/v1/namespaces/default/pods/{name}/binding"), binding).await;
    }
}

/// Makes three pods more than its ReplicaSet asks for.
async fn broken_replica_set_controller(client: Client) {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": pod("", "10m")["spec"]});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template}});
    create(&client, "/apis/apps/v1/namespaces/default/deployments", deployment).await;
    let set = loop {
        let sets = client.namespaced::<ReplicaSet>("default").list(&ListOptions::default()).await.expect("a list").items;
        if let Some(set) = sets.into_iter().next() {
            break set;
        }
        client.world().sleep(Duration::from_millis(100)).await;
    };
    for number in 0..3 {
        let mut surplus: Pod = serde_json::from_value(pod(&format!("surplus-{number}"), "10m")).expect("a pod");
        let hash = set.label("pod-template-hash").expect("the Deployment controller sets it").to_owned();
        surplus.metadata.labels.get_or_insert_default().insert("pod-template-hash".into(), hash);
        surplus.metadata.owner_references = Some(vec![controller_reference(&set)]);
        client.namespaced::<Pod>("default").create(&surplus).await.expect("created");
    }
}

#[test]
fn broken_components_are_found_out() {
    let cluster = VirtualCluster::start(Options { seed: 3, ..Options::default() }).expect("a cluster");
    cluster.run(cluster.wait_ready()).expect("every node is Ready");
    assert_eq!(cluster.guard().expect("invariants are checked").violations(), []);
    cluster.run(broken_scheduler(cluster.client()));
    cluster.run(broken_replica_set_controller(cluster.client()));
    cluster.run_for(Duration::from_secs(5));
    let broken: BTreeSet<&str> = cluster.stop().iter().map(|violation| violation.invariant).collect();
    assert_eq!(broken, BTreeSet::from(["pods-fit-their-nodes", "replicas-within-bounds"]));
}
