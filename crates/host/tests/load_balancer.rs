//! The load balancer on the real kernel: two nodes and a client on one switch, the balancer in a network namespace of
//! its own beside them.

#[path = "network/api.rs"]
#[allow(dead_code, reason = "shared with the test of the pod network")]
mod api;
#[path = "network/cluster.rs"]
#[allow(dead_code, reason = "shared with the test of the pod network")]
mod cluster;
#[path = "network/namespace.rs"]
#[allow(dead_code, reason = "shared with the test of the pod network")]
mod namespace;

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cluster::{Cluster, SERVICES, ask, ask_within, eventually, ip as run_ip, serve, serve_udp};
use daruma_host::links::LinuxLinks;
use daruma_host::netlink::namespace::run_inside;
use daruma_host::packet_rules::NfTables;
use daruma_network::load_balancer::{Config, Port, run};
use daruma_world::links::{Change, Links, Prefix};
use daruma_world::net::{Datagrams, Listener, Stream};
use daruma_world::{Net, World};
use futures::future::BoxFuture;
use namespace::Namespace;
use serde_json::json;

const OWN: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 224);

/// Sockets of another network namespace.
struct Inside(PathBuf);

impl Net for Inside {
    fn connect(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let path = self.0.clone();
        Box::pin(async move {
            let stream = run_inside(Some(path), move || TcpStream::connect_timeout(&to, Duration::from_secs(2))).await?;
            stream.set_nonblocking(true)?;
            Ok(Box::new(tokio::net::TcpStream::from_std(stream)?) as Box<dyn Stream>)
        })
    }

    fn listen(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(std::future::ready(Err(ErrorKind::Unsupported.into())))
    }

    fn bind_udp(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Datagrams>>> {
        Box::pin(std::future::ready(Err(ErrorKind::Unsupported.into())))
    }
}

/// Answers every request with 200, as a healthy kube-proxy.
async fn serve_healthz(namespace: &Namespace) {
    let listener = namespace.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 10256))).await.expect("listens");
    let serve = move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut request = [0; 512];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    };
    std::thread::Builder::new().spawn(serve).expect("a thread");
}

/// A balancer plugged into the switch.
async fn balancer(world: &World, cluster: &Cluster) -> Namespace {
    let namespace = Namespace::new().expect("a namespace");
    let veth = Change::AddVeth {
        name: "balancer".into(),
        mac: None,
        peer: "eth0".into(),
        peer_mac: None,
        peer_namespace: Some(namespace.path.clone()),
        mtu: 1500,
    };
    let up = |name: &str| Change::SetUp { name: name.into(), up: true };
    LinuxLinks::new().apply(Some(&cluster.host.path), vec![veth, up("balancer")]).await.expect("a card");
    cluster.host.run(|| run_ip("link set balancer master switch")).await.expect("plugged in");
    LinuxLinks::new().apply(Some(&namespace.path), vec![up("lo"), up("eth0")]).await.expect("up");
    let inside = World { net: Arc::new(Inside(namespace.path.clone())), ..world.clone() };
    let links = Arc::new(LinuxLinks::inside(namespace.path.clone()));
    let rules = Arc::new(NfTables::inside(namespace.path.clone()));
    let port = Port { link: "eth0".into(), own: Prefix::new(OWN, 24) };
    let config = Config { addresses: "10.88.0.224-10.88.0.226".parse().expect("a range"), port: Some(port) };
    world.spawn("load balancer", run(inside, cluster.api.client(world), links, rules, config));
    namespace
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_reach_pods_by_healthy_nodes() {
    let world = daruma_host::world::real();
    let Some(cluster) = Cluster::new(&world).await else { return };
    cluster.wait_ready().await;
    let a = cluster.pod(0, "aaaaaaaa04").await;
    let b = cluster.pod(1, "bbbbbbbb04").await;
    for (pod, name) in [(&a, "a"), (&b, "b")] {
        serve(&pod.namespace, name, 8080).await;
        serve_udp(&pod.namespace, name, 5353).await;
    }
    for node in &cluster.nodes {
        serve_healthz(&node.namespace).await;
    }
    let _balancer = balancer(&world, &cluster).await;
    let spec = |more: serde_json::Value| {
        let mut spec = json!({
            "type": "LoadBalancer", "clusterIP": "10.96.0.5", "externalTrafficPolicy": "Cluster",
            // This API keeps no status, so each says itself which address is its own.
            "loadBalancerIP": FIRST,
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]
        });
        spec.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        spec
    };
    let pods = [(a.address, 8080, "worker-0"), (b.address, 8080, "worker-1")];
    cluster.service("web", spec(json!({})), &pods);
    eventually("the address answers", async || ask(&cluster.host, FIRST, 80).await.is_ok()).await;
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        seen.insert(ask(&cluster.host, FIRST, 80).await.expect("answered"));
    }
    // Either pod by way of either node, whose address it sees.
    assert_eq!(
        seen.iter().map(|answer| answer.split(' ').next().unwrap_or_default()).collect::<BTreeSet<_>>(),
        BTreeSet::from(["a", "b"])
    );
    let other = ask(&cluster.host, FIRST, 81).await.expect_err("no such port");
    assert_eq!(other.kind(), ErrorKind::ConnectionRefused);
    assert!(ask_within(Duration::from_millis(300), &cluster.host, Ipv4Addr::new(10, 88, 0, 225), 80).await.is_err());

    // A second service, whose clients stay where they are and which only some may use.
    let ranges = json!({"loadBalancerIP": "10.88.0.225", "sessionAffinity": "ClientIP", "loadBalancerSourceRanges": ["10.88.0.1/32"], "ports": [{"port": 81, "nodePort": 30081}]});
    cluster.service("guarded", spec(ranges), &pods);
    let second = Ipv4Addr::new(10, 88, 0, 225);
    eventually("the second address answers", async || ask(&cluster.host, second, 81).await.is_ok()).await;
    assert!(ask(&cluster.nodes[1].namespace, second, 81).await.is_err(), "not in the ranges");
    cluster.api.put(SERVICES, "guarded", None);
    eventually("it is gone", async || ask_within(Duration::from_millis(300), &cluster.host, second, 81).await.is_err()).await;

    // Datagrams of one socket that never changes.
    let udp = json!({"loadBalancerIP": "10.88.0.225", "ports": [{"port": 53, "nodePort": 30053, "protocol": "UDP"}]});
    cluster.service("names", spec(udp), &[(a.address, 5353, "worker-0")]);
    let socket = cluster.host.run(|| UdpSocket::bind("0.0.0.0:0")).await.expect("bound");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("set");
    let asked = || {
        let mut buffer = [0; 16];
        let _ = socket.send_to(b"?", (second, 53));
        socket.recv_from(&mut buffer).is_ok_and(|(length, _)| &buffer[..length] == b"a")
    };
    eventually("a datagram is answered", async || asked()).await;

    // worker-1 goes dark. What is new goes by worker-0, to whatever pods the service has.
    cluster.service("web", spec(json!({})), &pods[..1]);
    cluster.host.run(|| run_ip("link set port1 down")).await.expect("dark");
    let dark = world.monotonic();
    let mut good = 0;
    while good < 20 {
        good = if ask_within(Duration::from_millis(300), &cluster.host, FIRST, 80).await.is_ok() { good + 1 } else { 0 };
        assert!(world.monotonic().saturating_sub(dark) < Duration::from_secs(15), "worker-1 is still behind the address");
    }
    eprintln!("only worker-0 after {:?}", world.monotonic().saturating_sub(dark));
    eventually("datagrams find the living node", async || asked()).await;
    cluster.host.run(|| run_ip("link set port1 up")).await.expect("light");
}
