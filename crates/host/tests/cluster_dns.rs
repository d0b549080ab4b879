//! The cluster's DNS server on real sockets, against an API in memory.

#[path = "network/api.rs"]
mod api;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use api::FakeApi;
use daruma_network::dns;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A query for `name` of type A (1) or PTR (12), with an id.
fn query(id: u16, name: &str, kind: u8) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, kind, 0, 1]);
    bytes
}

/// Response code, number of answers, last four bytes (an address, when the last record is one).
fn read(id: u16, answer: &[u8]) -> (u8, u8, [u8; 4]) {
    assert_eq!(answer[..2], id.to_be_bytes());
    assert!(answer[2] & 0x80 != 0, "a response");
    (answer[3] & 0xf, answer[7], answer[answer.len() - 4..].try_into().expect("four bytes"))
}

#[tokio::test]
async fn names_resolve_over_both_transports() {
    let world = daruma_host::world::real();
    let api = FakeApi::default();
    api.put("/api/v1/namespaces", "default", Some(json!({"metadata": {"name": "default"}})));
    let spec = json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": [{"name": "https", "port": 443}]});
    api.put(
        "/api/v1/services",
        "kubernetes",
        Some(json!({"metadata": {"name": "kubernetes", "namespace": "default"}, "spec": spec})),
    );
    let listen: SocketAddr = {
        let free = UdpSocket::bind("127.0.0.1:0").expect("bound");
        free.local_addr().expect("has an address")
    };
    let config = dns::Config {
        domain: "cluster.local".into(),
        listen,
        own_service: ("kube-system".into(), "kube-dns".into()),
        own_addresses: Vec::new(),
        resolv_conf: "/nonexistent/resolv.conf".into(),
    };
    let health = dns::Health::new();
    let server = dns::run(world.clone(), api.client(&world), config, health.clone());
    world.spawn("dns", async move { server.await.expect("serves") });

    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    let ask = async |id: u16, name: &str, kind: u8| {
        let mut buffer = [0; 512];
        for _ in 0..50 {
            // Refused while the server does not listen yet.
            let _ = socket.send_to(&query(id, name, kind), listen).await;
            if let Ok(Ok((length, _))) = world.timeout(Duration::from_millis(100), socket.recv_from(&mut buffer)).await {
                return buffer[..length].to_vec();
            }
        }
        panic!("no answer for {name}");
    };
    let name = "kubernetes.default.svc.cluster.local";
    assert_eq!(read(7, &ask(7, name, 1).await), (0, 1, [10, 96, 0, 1]));
    assert!(health.is_ready());
    let (code, answers, _) = read(8, &ask(8, "nix.default.svc.cluster.local", 1).await);
    assert_eq!((code, answers), (3, 0), "NXDOMAIN");
    let (code, answers, _) = read(9, &ask(9, "1.0.96.10.in-addr.arpa", 12).await);
    assert_eq!((code, answers), (0, 1));
    let (code, ..) = read(10, &ask(10, "example.com", 1).await);
    assert_eq!(code, 2, "SERVFAIL: there is no upstream");

    // A new service is there at once.
    let spec = json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": [{"port": 80}]});
    api.put("/api/v1/services", "web", Some(json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec})));
    world.sleep(Duration::from_millis(50)).await;
    assert_eq!(read(11, &ask(11, "web.default.svc.cluster.local", 1).await), (0, 1, [10, 96, 0, 9]));

    let mut stream = tokio::net::TcpStream::connect(listen).await.expect("connected");
    for id in [20u16, 21] {
        let message = query(id, name, 1);
        stream.write_u16(message.len() as u16).await.expect("written");
        stream.write_all(&message).await.expect("written");
        let mut answer = vec![0; usize::from(stream.read_u16().await.expect("read"))];
        stream.read_exact(&mut answer).await.expect("read");
        assert_eq!(read(id, &answer), (0, 1, [10, 96, 0, 1]));
    }
}
