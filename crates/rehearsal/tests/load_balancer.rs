//! Services of type LoadBalancer in the virtual world: nodes behind them die, are about to go, or have no endpoint.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use daruma_api::core::v1::{Event, Node, Service};
use daruma_client::{Client, DeleteOptions, ListOptions, Patch};
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

/// Status line, weight and body that a node's health port answers.
async fn health(world: &World, node: u8, port: u16) -> Option<(u16, String, Value)> {
    let ask = async {
        let mut stream = world.net.connect(SocketAddr::from((Ipv4Addr::new(10, 88, 0, node), port))).await?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = world.timeout(SECOND, ask).await.ok()?.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let weight = head.lines().find_map(|line| line.strip_prefix("x-load-balancing-endpoint-weight: ")).unwrap_or_default();
    Some((head.split(' ').nth(1)?.parse().ok()?, weight.to_owned(), serde_json::from_str(body).ok()?))
}

/// Whether a DNS server behind an address knows a name.
async fn names_answer(world: &World, at: SocketAddr) -> bool {
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend(b"\x02db\x07example\x00\x00\x01\x00\x01");
    let ask = async {
        let socket = world.net.bind_udp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))).await?;
        socket.send_to(&query, at).await?;
        let mut answer = [0; 512];
        let (length, _) = socket.recv_from(&mut answer).await?;
        std::io::Result::Ok(answer[..length].ends_with(&[10, 0, 0, 7]))
    };
    matches!(world.timeout(SECOND, ask).await, Ok(Ok(true)))
}

#[test]
fn local_services_are_sent_to_nodes_with_endpoints() {
    let mut options = Options::default();
    let yaml = "images:\n  example/names:v1: {ports: {5353: {dns: {names: {db.example: 10.0.0.7}}}}}\n";
    options.behaviours.read(yaml).expect("a file of behaviours");
    let cluster = VirtualCluster::start(options).expect("a cluster");
    let (client, world) = (cluster.client(), cluster.world());
    cluster.run(async {
        cluster.wait_ready().await.expect("every node is Ready");
        let services = client.namespaced::<Service>("default");
        let (web, names) = ("gcr.io/google-samples/kubernetes-bootcamp:v1", "example/names:v1");
        for (name, image, port, target, protocol) in [("web", web, 80, 8080, "TCP"), ("names", names, 53, 5353, "UDP")] {
            let labels = json!({"app": name});
            let pod = json!({"nodeName": "worker-0", "containers": [{"name": "app", "image": image}]});
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": pod});
            create(&client, "/api/v1/namespaces/default/pods", pod).await;
            let spec = json!({
                "type": "LoadBalancer", "externalTrafficPolicy": "Local", "selector": labels,
                "ports": [{"port": port, "targetPort": target, "protocol": protocol}]
            });
            let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
            create(&client, "/api/v1/namespaces/default/services", object).await;
        }
        world.sleep(15 * SECOND).await;
        for (name, on_udp) in [("web", false), ("names", true)] {
            let service = services.get(name).await.expect("it is there");
            let port = service.spec.and_then(|spec| spec.health_check_node_port).expect("the API server gives it one");
            let port = u16::try_from(port).expect("a port");
            let told = |endpoints: u16| {
                json!({
                    "service": {"namespace": "default", "name": name},
                    "localEndpoints": endpoints, "serviceProxyHealthy": true
                })
            };
            assert_eq!(health(&world, 20, port).await, Some((200, "1".into(), told(1))));
            assert_eq!(health(&world, 21, port).await, Some((503, "0".into(), told(0))));
            let at = SocketAddr::from((address_of(&client, name).await.expect("an address"), if on_udp { 53 } else { 80 }));
            for _ in 0..20 {
                let good = if on_udp { names_answer(&world, at).await } else { answers(&world, at).await };
                assert!(good, "{name}: only the node with an endpoint is behind the address");
            }
            services.delete(name, &DeleteOptions::default()).await.expect("deleted");
            world.sleep(2 * SECOND).await;
            assert_eq!(health(&world, 20, port).await, None, "the port is closed");
        }
    });
    let violations = cluster.stop();
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn nodes_about_to_go_are_taken_out_by_their_health() {
    let cluster = VirtualCluster::start(Options::default()).expect("a cluster");
    let (client, world) = (cluster.client(), cluster.world());
    cluster.run(async {
        cluster.wait_ready().await.expect("every node is Ready");
        world.sleep(5 * SECOND).await;
        let (status, _, body) = health(&world, 20, 10256).await.expect("an answer");
        assert_eq!((status, &body["nodeEligible"], &body["healthy"]), (200, &json!(true), &json!(true)));
        assert_eq!(body["lastUpdated"], body["currentTime"]);
        assert_eq!(body["status"]["IPv4"]["healthy"], true);
        let spec = json!({"type": "LoadBalancer", "selector": {"app": "none"}, "ports": [{"port": 80}]});
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec});
        create(&client, "/api/v1/namespaces/default/services", object).await;
        world.sleep(SECOND).await;
        let taint = json!({"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}});
        let nodes = client.cluster::<Node>();
        nodes.patch("worker-0", &Patch::Strategic(taint)).await.expect("patched");
        world.sleep(SECOND).await;
        let (status, _, body) = health(&world, 20, 10256).await.expect("an answer");
        assert_eq!((status, &body["nodeEligible"], &body["healthy"]), (503, &json!(false), &json!(true)));
        assert_ne!(body["lastUpdated"], body["currentTime"]);
        let events = async || {
            let events = client.all::<Event>().list(&ListOptions::default()).await.expect("a list").items;
            let of_web = events.into_iter().filter(|event| event.involved_object.name.as_deref() == Some("web"));
            let text = |event: Event| {
                assert_eq!(event.count, Some(1), "told once: {event:?}");
                [event.reason, event.message].map(Option::unwrap_or_default).join(": ")
            };
            of_web.map(text).collect::<Vec<_>>()
        };
        let ensured = ["EnsuringLoadBalancer: Ensuring load balancer", "EnsuredLoadBalancer: Ensured load balancer"];
        assert_eq!(events().await, ensured, "the taint concerns health only");
        // Whoever looks at the nodes for another reason leaves the tainted one out.
        for (label, message) in [
            (json!(""), "UnAvailableLoadBalancer: There are no available nodes for LoadBalancer"),
            (Value::Null, "UpdatedLoadBalancer: Updated load balancer with new hosts"),
        ] {
            let patch = json!({"metadata": {"labels": {"node.kubernetes.io/exclude-from-external-load-balancers": label}}});
            nodes.patch("worker-1", &Patch::Merge(patch)).await.expect("patched");
            world.sleep(SECOND).await;
            let told = events().await;
            assert!(told.iter().any(|event| event == message), "{label}: {told:#?}");
        }
    });
    let violations = cluster.stop();
    assert!(violations.is_empty(), "{violations:#?}");
}
