//! A service of type LoadBalancer in the virtual world, while the node behind it dies.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use daruma_api::core::v1::{Event, Service};
use daruma_client::{Client, DeleteOptions, ListOptions};
use daruma_rehearsal::{Options, VirtualCluster};
use daruma_world::World;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SECOND: Duration = Duration::from_secs(1);

async fn create(client: &Client, path: &str, object: Value) {
    let made = client.json(http::Method::POST, path, "application/json", Some(object.to_string().into())).await;
    made.unwrap_or_else(|error| panic!("{path}: {error}"));
}

async fn answers(world: &World, at: SocketAddr) -> bool {
    let ask = async {
        let mut stream = world.net.connect(at).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer.contains(" 200 "))
    };
    matches!(world.timeout(SECOND, ask).await, Ok(Ok(true)))
}

async fn address_of(client: &Client, name: &str) -> Option<Ipv4Addr> {
    let service = client.namespaced::<Service>("default").get(name).await.ok()?;
    service.status?.load_balancer?.ingress?.first()?.ip.as_ref()?.parse().ok()
}

#[test]
fn connections_go_to_nodes_that_live() {
    let cluster = VirtualCluster::start(Options::default()).expect("a cluster");
    let (client, world, machines) = (cluster.client(), cluster.world(), cluster.machines());
    cluster.run(async {
        cluster.wait_ready().await.expect("every node is Ready");
        let names: Vec<String> = machines.list().await.expect("a list").into_iter().map(|machine| machine.name).collect();
        assert_eq!(names, ["controller-0", "worker-0", "worker-1"]);
        let labels = json!({"app": "kubernetes-bootcamp"});
        let container = json!({"name": "app", "image": "gcr.io/google-samples/kubernetes-bootcamp:v1"});
        // On one node only, so that what fails is the load balancer's fault.
        let pod = json!({"nodeName": "worker-0", "containers": [container]});
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app", "labels": labels}, "spec": pod});
        create(&client, "/api/v1/namespaces/default/pods", object).await;
        let spec = json!({"type": "LoadBalancer", "selector": labels, "ports": [{"port": 80, "targetPort": 8080}]});
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec});
        create(&client, "/api/v1/namespaces/default/services", object).await;
        let address = loop {
            match address_of(&client, "web").await {
                Some(address) => break address,
                None => world.sleep(SECOND / 10).await,
            }
        };
        assert_eq!(address, Ipv4Addr::new(10, 88, 0, 224));
        let at = SocketAddr::from((address, 80));
        world.sleep(10 * SECOND).await;
        for _ in 0..20 {
            assert!(answers(&world, at).await);
        }
        machines.power_off("worker-1", false).await.expect("it is on");
        // Two failed checks of a second each, two seconds apart.
        world.sleep(6 * SECOND).await;
        for _ in 0..50 {
            assert!(answers(&world, at).await, "a dead node is not behind the address any more");
        }
        machines.power_on("worker-1").await.expect("it is off");
        let events = client.all::<Event>().list(&ListOptions::default()).await.expect("a list").items;
        let reasons: Vec<&str> = events
            .iter()
            .filter(|event| event.involved_object.name.as_deref() == Some("web"))
            .filter_map(|event| event.reason.as_deref())
            .filter(|reason| reason.ends_with("LoadBalancer"))
            .collect();
        assert_eq!(reasons, ["EnsuringLoadBalancer", "EnsuredLoadBalancer"]);
        client.namespaced::<Service>("default").delete("web", &DeleteOptions::default()).await.expect("deleted");
        world.sleep(2 * SECOND).await;
        assert!(client.namespaced::<Service>("default").find("web").await.expect("asked").is_none(), "nothing keeps it");
        assert!(!answers(&world, at).await);
    });
    let violations = cluster.stop();
    assert!(violations.is_empty(), "{violations:#?}");
}
