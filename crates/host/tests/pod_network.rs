//! Pod network, service proxy and agent on the real kernel: two nodes and a host in network namespaces
//! of their own, pods attached to the nodes, the real components against an API in memory.

#[path = "network/api.rs"]
mod api;
#[path = "network/cluster.rs"]
mod cluster;
#[path = "network/namespace.rs"]
mod namespace;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use cluster::{Cluster, HOST, NODES, ask, ask_within, eventually, node_object, serve, serve_udp};
use daruma_host::links::LinuxLinks;
use daruma_world::links::{Links, Target};
use daruma_world::packet_rules::PacketRules;
use namespace::Namespace;
use serde_json::json;

fn ip(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

#[track_caller]
fn says(answer: std::io::Result<String>, expected: &str) {
    assert_eq!(answer.expect("answered"), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_to_a_pod_works() {
    let world = daruma_host::world::real();
    let Some(cluster) = Cluster::new(&world).await else { return };
    cluster.wait_ready().await;
    let started = world.monotonic();
    let a = cluster.pod(0, "aaaaaaaa01").await;
    eprintln!("first attachment: {:?}", world.monotonic().saturating_sub(started));
    let started = world.monotonic();
    let b = cluster.pod(0, "bbbbbbbb01").await;
    eprintln!("second attachment: {:?}", world.monotonic().saturating_sub(started));
    let c = cluster.pod(1, "cccccccc01").await;
    assert_eq!((a.address, b.address, c.address), (ip("10.244.0.2"), ip("10.244.0.3"), ip("10.244.1.2")));
    for (pod, name) in [(&a, "a"), (&b, "b"), (&c, "c")] {
        serve(&pod.namespace, name, 8080).await;
    }
    serve(&cluster.host, "host", 9000).await;

    // Pod to pod keeps addresses; pod to the world outside carries the node's.
    says(ask(&a.namespace, b.address, 8080).await, "b 10.244.0.2");
    says(ask(&a.namespace, c.address, 8080).await, "c 10.244.0.2");
    says(ask(&c.namespace, a.address, 8080).await, "a 10.244.1.2");
    says(ask(&a.namespace, a.address, 8080).await, "a 10.244.0.2");
    says(ask(&a.namespace, HOST, 9000).await, "host 10.88.0.20");
    says(ask(&cluster.nodes[0].namespace, c.address, 8080).await, "c 10.88.0.20");
    says(ask(&cluster.nodes[0].namespace, a.address, 8080).await, "a 10.88.0.20");
    // An address that no pod has is refused at once, not waited for.
    for (from, address) in
        [(&a.namespace, "10.244.0.200"), (&a.namespace, "10.244.77.1"), (&cluster.nodes[0].namespace, "10.244.77.1")]
    {
        let error = ask(from, ip(address), 8080).await.expect_err("nobody is there");
        assert!(matches!(error.kind(), ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable), "{address}: {error}");
    }

    let spec = |policy: &str| {
        json!({
            "type": "NodePort", "clusterIP": "10.96.0.5", "externalTrafficPolicy": policy,
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]
        })
    };
    let all = [(a.address, 8080, "worker-0"), (b.address, 8080, "worker-0"), (c.address, 8080, "worker-1")];
    let changed = world.monotonic();
    cluster.service("web", spec("Cluster"), &all);
    // A first packet that came too early would be sent again after a second only.
    let quick = Duration::from_millis(5);
    eventually("the service answers", async || ask_within(quick, &a.namespace, ip("10.96.0.5"), 80).await.is_ok()).await;
    eprintln!("a service answers after {:?}", world.monotonic().saturating_sub(changed));
    let nodes = &cluster.nodes;
    for (from, what) in [
        (&a.namespace, "pod"),
        (&nodes[0].namespace, "node"),
        (&nodes[1].namespace, "other node"),
        (&c.namespace, "pod of the other node"),
    ] {
        let mut seen = BTreeSet::new();
        for _ in 0..30 {
            let answer = ask(from, ip("10.96.0.5"), 80).await.expect(what);
            seen.insert(answer.split(' ').next().expect("a name").to_owned());
        }
        assert_eq!(seen.into_iter().collect::<String>(), "abc", "{what}");
    }

    // One endpoint only, by every way.
    cluster.service("web", spec("Cluster"), &all[..1]);
    eventually("the other endpoints are gone", async || {
        let mut names = BTreeSet::new();
        for _ in 0..10 {
            names.insert(ask(&c.namespace, ip("10.96.0.5"), 80).await.unwrap_or_default());
        }
        names.into_iter().all(|name| name == "a 10.244.1.2")
    })
    .await;
    says(ask(&a.namespace, ip("10.96.0.5"), 80).await, "a 10.88.0.20");
    says(ask(&b.namespace, ip("10.96.0.5"), 80).await, "a 10.244.0.3");
    says(ask(&nodes[0].namespace, ip("10.96.0.5"), 80).await, "a 10.88.0.20");
    says(ask(&nodes[1].namespace, ip("10.96.0.5"), 80).await, "a 10.88.0.21");
    says(ask(&cluster.host, nodes[0].address, 30080).await, "a 10.88.0.20");
    says(ask(&cluster.host, nodes[1].address, 30080).await, "a 10.88.0.21");
    says(ask(&nodes[0].namespace, nodes[0].address, 30080).await, "a 10.88.0.20");
    says(ask(&nodes[0].namespace, nodes[1].address, 30080).await, "a 10.88.0.21");
    says(ask(&a.namespace, nodes[0].address, 30080).await, "a 10.88.0.20");
    says(ask(&a.namespace, nodes[1].address, 30080).await, "a 10.88.0.21");
    let refused = ask(&nodes[0].namespace, Ipv4Addr::LOCALHOST, 30080).await.expect_err("not on loopback");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    // A port that the service does not have.
    let refused = ask(&b.namespace, ip("10.96.0.5"), 81).await.expect_err("no such port");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

    // Local keeps the client's address, and serves only where a pod is.
    cluster.service("web", spec("Local"), &all[..1]);
    eventually("the client's address is kept", async || {
        ask(&cluster.host, nodes[0].address, 30080).await.is_ok_and(|answer| answer == "a 10.88.0.1")
    })
    .await;
    eventually("dropped where no pod is", async || {
        ask(&cluster.host, nodes[1].address, 30080).await.is_err_and(|error| error.kind() == ErrorKind::TimedOut)
    })
    .await;
    says(ask(&nodes[1].namespace, nodes[1].address, 30080).await, "a 10.88.0.21");

    // Without endpoints clients are told at once.
    cluster.service("web", spec("Cluster"), &[]);
    let is_refused = async |from: &Namespace, address, port| {
        ask(from, address, port).await.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    };
    eventually("refused", async || is_refused(&a.namespace, ip("10.96.0.5"), 80).await).await;
    for (from, address, port) in [
        (&nodes[0].namespace, ip("10.96.0.5"), 80),
        (&nodes[0].namespace, nodes[0].address, 30080),
        (&cluster.host, nodes[0].address, 30080),
    ] {
        assert!(is_refused(from, address, port).await, "{address}:{port}");
    }

    // A host-network backend, as the API server is.
    serve(&nodes[0].namespace, "server", 6443).await;
    let kubernetes = json!({"clusterIP": "10.96.0.1", "ports": [{"port": 443, "protocol": "TCP"}]});
    cluster.service("kubernetes", kubernetes, &[(nodes[0].address, 6443, "worker-0")]);
    eventually("the server answers", async || ask(&c.namespace, ip("10.96.0.1"), 443).await.is_ok()).await;
    says(ask(&a.namespace, ip("10.96.0.1"), 443).await, "server 10.244.0.2");
    says(ask(&nodes[0].namespace, ip("10.96.0.1"), 443).await, "server 10.88.0.20");
    says(ask(&nodes[1].namespace, ip("10.96.0.1"), 443).await, "server 10.88.0.21");

    // The table comes back when somebody deletes it.
    nodes[0].rules.delete_table(daruma_network::proxy::TABLE).await.expect("deleted");
    cluster.service(
        "kubernetes",
        json!({"clusterIP": "10.96.0.1", "ports": [{"port": 444, "protocol": "TCP"}]}),
        &[(nodes[0].address, 6443, "worker-0")],
    );
    eventually("rules are made anew", async || ask(&nodes[0].namespace, ip("10.96.0.1"), 444).await.is_ok()).await;

    let healthz = http::Request::get("/healthz").body(()).expect("a request");
    assert_eq!(nodes[0].health.handle(healthz).await.status(), 200);

    // Detaching twice is fine, and the address is not given out again at once.
    let node = &nodes[0];
    node.network.detach(&b.id).await.expect("detached");
    node.network.detach(&b.id).await.expect("detached again");
    let links = LinuxLinks::inside(node.namespace.path.clone());
    assert!(!links.list_links(None).await.expect("listed").iter().any(|link| link.name == "vethbbbbbbbb"));
    assert_eq!(cluster.pod(0, "dddddddd01").await.address, ip("10.244.0.4"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_stick_and_datagrams_follow_their_endpoints() {
    let world = daruma_host::world::real();
    let Some(cluster) = Cluster::new(&world).await else { return };
    cluster.wait_ready().await;
    let client = cluster.pod(0, "aaaaaaaa02").await;
    let b = cluster.pod(0, "bbbbbbbb02").await;
    let c = cluster.pod(1, "cccccccc02").await;
    for (pod, name) in [(&b, "b"), (&c, "c")] {
        serve(&pod.namespace, name, 8080).await;
        serve_udp(&pod.namespace, name, 5353).await;
    }
    let tcp = |affinity: &str| json!({"clusterIP": "10.96.0.6", "sessionAffinity": affinity, "ports": [{"port": 80, "protocol": "TCP"}]});
    cluster.service("sticky", tcp("ClientIP"), &[(b.address, 8080, "worker-0"), (c.address, 8080, "worker-1")]);
    eventually("the service answers", async || ask(&client.namespace, ip("10.96.0.6"), 80).await.is_ok()).await;
    let first = ask(&client.namespace, ip("10.96.0.6"), 80).await.expect("answered");
    for _ in 0..20 {
        says(ask(&client.namespace, ip("10.96.0.6"), 80).await, &first);
    }

    // One datagram socket that never changes: it must follow when its endpoint goes.
    let udp = json!({"clusterIP": "10.96.0.7", "ports": [{"port": 53, "protocol": "UDP"}]});
    cluster.service("names", udp.clone(), &[(b.address, 5353, "worker-0")]);
    let socket = client.namespace.run(|| UdpSocket::bind("0.0.0.0:0")).await.expect("bound");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("set");
    let asked = || {
        let mut buffer = [0; 16];
        let _ = socket.send_to(b"?", "10.96.0.7:53");
        let length = socket.recv_from(&mut buffer).map_or(0, |(length, _)| length);
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    eventually("b answers", async || asked() == "b").await;
    cluster.service("names", udp, &[(c.address, 5353, "worker-1")]);
    eventually("c answers", async || asked() == "c").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_follow_nodes_and_addresses_survive_restarts() {
    let world = daruma_host::world::real();
    let Some(cluster) = Cluster::new(&world).await else { return };
    cluster.wait_ready().await;
    let links = LinuxLinks::inside(cluster.nodes[0].namespace.path.clone());
    let routers = async || {
        let routes = links.list_routes(None).await.expect("listed");
        let via = |target: &Target| match target {
            Target::Link { via, .. } => via.map(|via| via.to_string()),
            Target::Unreachable => Some("unreachable".to_owned()),
        };
        let ours = routes.iter().filter(|listed| listed.ours && listed.route.destination.length > 0);
        ours.filter_map(|listed| Some(format!("{} {}", listed.route.destination, via(&listed.route.target)?))).collect::<Vec<_>>()
    };
    let (rest, other) = ("10.244.0.0/16 unreachable", "10.244.1.0/24 10.88.0.21");
    eventually("a route to the other node", async || routers().await == [rest, other]).await;
    cluster.api.put(NODES, "worker-1", None);
    eventually("no route to a deleted node", async || routers().await == [rest]).await;
    cluster.api.put(NODES, "worker-1", Some(node_object("worker-1", ip("10.88.0.22"), 1)));
    eventually("a new route", async || routers().await == [rest, "10.244.1.0/24 10.88.0.22"]).await;

    // The same disk, an empty volatile directory, another process: new addresses.
    let node = &cluster.nodes[0];
    let first = cluster.pod(0, "aaaaaaaa03").await;
    let home = node.file.parent().and_then(std::path::Path::parent).expect("a directory");
    let config =
        daruma_network::sandbox::Config { file: node.file.clone(), state: home.join("state"), volatile: home.join("run2") };
    let again = daruma_network::sandbox::PodNetwork::new(&world, std::sync::Arc::new(links.clone()), config);
    let namespace = Namespace::new().expect("a namespace");
    let second = again.attach("bbbbbbbb03", namespace.path.clone()).await.expect("attached");
    assert_ne!(second, [std::net::IpAddr::from(first.address)]);
    assert!(node.network.problem().await.is_none());
    std::fs::remove_file(&node.file).expect("removed");
    assert_eq!(node.network.problem().await.as_deref(), Some("Network plugin returns error: cni plugin not initialized"));
    assert!(node.name == "worker-0" && node.network.attach("cccccccc03", namespace.path.clone()).await.is_err());
}
