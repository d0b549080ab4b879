//! A worker without process ids: what runs goes on, nothing new starts, and the node says why.

use std::time::Duration;

use daruma_api::core::v1::{Event, Node, Pod};
use daruma_client::{Client, ListOptions};
use daruma_rehearsal::{Options, VirtualCluster};
use daruma_world::machines::Pressure;
use serde_json::json;

const SECOND: Duration = Duration::from_secs(1);

async fn create_pod(client: &Client, name: &str) {
    let container = json!({"name": "app", "image": "gcr.io/google-samples/kubernetes-bootcamp:v1"});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"nodeName": "worker-0", "containers": [container]}
    });
    let path = "/api/v1/namespaces/default/pods";
    let made = client.json(http::Method::POST, path, "application/json", Some(pod.to_string().into())).await;
    made.unwrap_or_else(|error| panic!("{name}: {error}"));
}

#[test]
fn nothing_starts_without_process_ids() {
    // The kubelet watches process ids where it is told to; kubeadm's default does not.
    let eviction = ("kubelet".to_owned(), "eviction-hard".to_owned(), "pid.available<100".to_owned());
    let cluster = VirtualCluster::start(Options { settings: vec![eviction], ..Options::default() }).expect("a cluster");
    let (client, world, machines) = (cluster.client(), cluster.world(), cluster.machines());
    cluster.run(async {
        cluster.wait_ready().await.expect("every node is Ready");
        let pods = client.namespaced::<Pod>("default");
        let phase = async |name: &str| {
            let pod = pods.find(name).await.expect("asked")?;
            pod.status?.phase
        };
        let pressure = async || {
            let node = client.cluster::<Node>().get("worker-0").await.expect("it is there");
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            conditions.into_iter().find(|condition| condition.type_ == "PIDPressure").map(|condition| condition.status)
        };
        // By now the cluster has started all that it starts by itself.
        world.sleep(15 * SECOND).await;
        let pids = machines.press("worker-0", Pressure::Pids { leave: 0 }).await.expect("it is on");
        create_pod(&client, "late").await;
        world.sleep(5 * SECOND).await;
        let events = client.all::<Event>().list(&ListOptions::default()).await.expect("a list").items;
        let failed = events.iter().find(|event| event.reason.as_deref() == Some("FailedCreatePodSandBox"));
        let failed = failed.expect("the kubelet tells it");
        assert_eq!(
            failed.message.as_deref(),
            Some(
                "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to create containerd task: failed to \
                 start shim: start failed: : fork/exec /usr/bin/containerd-shim-runc-v2: resource temporarily unavailable: \
                 unknown"
            )
        );
        world.sleep(20 * SECOND).await;
        assert_eq!(pressure().await.as_deref(), Some("True"));
        machines.release("worker-0", pids).await.expect("released");
        create_pod(&client, "later").await;
        // The condition is kept for five minutes; nothing is admitted before.
        world.sleep(30 * SECOND).await;
        assert_eq!(phase("later").await.as_deref(), Some("Failed"), "refused: the node was low on resource");
        world.sleep(320 * SECOND).await;
        assert_eq!(pressure().await.as_deref(), Some("False"));
        create_pod(&client, "last").await;
        world.sleep(10 * SECOND).await;
        assert_eq!(phase("last").await.as_deref(), Some("Running"));
    });
    let violations = cluster.stop();
    assert!(violations.is_empty(), "{violations:#?}");
}
