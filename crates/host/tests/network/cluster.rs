//! Two nodes and a host on one switch, pods on the nodes, and the real components on top.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daruma_host::links::LinuxLinks;
use daruma_host::packet_rules::NfTables;
use daruma_network::{agent, proxy, sandbox};
use daruma_world::World;
use daruma_world::containers::SandboxNetwork;
use daruma_world::links::{Change, Links, Prefix, Route};
use daruma_world::packet_rules::PacketRules;
use serde_json::{Value, json};

use super::api::FakeApi;
use super::namespace::Namespace;

pub const NODES: &str = "/api/v1/nodes";
pub const SERVICES: &str = "/api/v1/services";
pub const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

/// One node: its namespace and what runs on it.
pub struct Node {
    pub name: String,
    pub address: Ipv4Addr,
    pub namespace: Namespace,
    pub rules: Arc<NfTables>,
    pub network: Arc<dyn SandboxNetwork>,
    pub health: proxy::Health,
    pub file: PathBuf,
}

/// A pod's namespace with its address.
pub struct Pod {
    pub id: String,
    pub namespace: Namespace,
    pub address: Ipv4Addr,
}

/// The whole.
pub struct Cluster {
    pub api: FakeApi,
    /// The switch, which is also the machine outside (10.88.0.1).
    pub host: Namespace,
    pub nodes: Vec<Node>,
    _directory: tempfile::TempDir,
}

pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);

impl Cluster {
    /// `None` with a printed reason where this machine cannot hold it.
    pub async fn new(world: &World) -> Option<Self> {
        let Some(host) = Namespace::new() else {
            eprintln!("skipped: needs root");
            return None;
        };
        if let Err(error) = host.run(|| ip("link add switch type bridge")).await {
            eprintln!("skipped: needs the program ip and bridges: {error}");
            return None;
        }
        let api = FakeApi::default();
        let directory = tempfile::tempdir().expect("a directory");
        host.run(|| ip("addr add 10.88.0.1/24 dev switch").and_then(|()| ip("link set switch up"))).await.expect("switch is up");
        let mut nodes = Vec::new();
        for number in 0..2u8 {
            nodes.push(Self::node(world, &api, &host, directory.path(), number).await);
        }
        Some(Self { api, host, nodes, _directory: directory })
    }

    async fn node(world: &World, api: &FakeApi, host: &Namespace, directory: &std::path::Path, number: u8) -> Node {
        let name = format!("worker-{number}");
        let address = Ipv4Addr::new(10, 88, 0, 20 + number);
        let namespace = Namespace::new().expect("a second namespace");
        let links = LinuxLinks::new();
        let port = format!("port{number}");
        let veth = Change::AddVeth {
            name: port.clone(),
            mac: None,
            peer: "eth0".into(),
            peer_mac: None,
            peer_namespace: Some(namespace.path.clone()),
            mtu: 1500,
        };
        let up = |name: &str| Change::SetUp { name: name.into(), up: true };
        links.apply(Some(&host.path), vec![veth, up(&port)]).await.expect("a card");
        host.run(move || ip(&format!("link set {port} master switch"))).await.expect("plugged in");
        let inside = vec![up("lo"), up("eth0"), Change::ReplaceAddress { link: "eth0".into(), prefix: Prefix::new(address, 24) }];
        // The second node has no default route: its own connections to services must work all the same.
        let default = Change::ReplaceRoute(Route::via("eth0", HOST, Prefix::ALL));
        let inside = if number == 0 { [inside, vec![default]].concat() } else { inside };
        links.apply(Some(&namespace.path), inside).await.expect("a node");
        api.put(NODES, &name, Some(node_object(&name, address, number)));

        let links: Arc<dyn Links> = Arc::new(LinuxLinks::inside(namespace.path.clone()));
        let rules = Arc::new(NfTables::inside(namespace.path.clone()));
        let home = directory.join(&name);
        let file = home.join("cni/10-daruma.conf");
        let range = |text: &str| text.parse().expect("a prefix");
        let config = agent::Config {
            node_name: name.clone(),
            pod_range: range("10.244.0.0/16"),
            service_range: range("10.96.0.0/12"),
            file: file.clone(),
            set_node_condition: true,
        };
        world.spawn("agent", agent::run(world.clone(), api.client(world), links.clone(), rules.clone(), config));
        let health = proxy::Health::new(world);
        let config = proxy::Config {
            node_name: name.clone(),
            pod_range: Some(range("10.244.0.0/16")),
            service_range: Some(range("10.96.0.0/12")),
        };
        world.spawn("proxy", proxy::run(world.clone(), api.client(world), rules.clone(), config, health.clone()));
        let config = sandbox::Config { file: file.clone(), state: home.join("state"), volatile: home.join("run") };
        let network = sandbox::PodNetwork::new(world, links, config);
        Node { name, address, namespace, rules, network, health, file }
    }

    /// Waits until the agents have written their files and the proxies their tables.
    pub async fn wait_ready(&self) {
        for node in &self.nodes {
            eventually("the pod network is ready", async || node.network.problem().await.is_none()).await;
            let rules = node.rules.clone();
            eventually("packet rules are there", async || matches!(rules.table_identity(proxy::TABLE).await, Ok(Some(_)))).await;
        }
    }

    /// A pod on a node.
    pub async fn pod(&self, node: usize, id: &str) -> Pod {
        let namespace = Namespace::new().expect("a namespace");
        let addresses = self.nodes[node].network.attach(id, namespace.path.clone()).await.expect("attached");
        let std::net::IpAddr::V4(address) = addresses[0] else { panic!("an IPv4 address") };
        Pod { id: id.to_owned(), namespace, address }
    }

    /// Creates or changes a service with its endpoints (address, node name).
    pub fn service(&self, name: &str, spec: Value, endpoints: &[(Ipv4Addr, u16, &str)]) {
        let metadata = json!({"name": name, "namespace": "default"});
        let protocol = spec["ports"][0]["protocol"].as_str().unwrap_or("TCP").to_owned();
        self.api.put(SERVICES, name, Some(json!({"metadata": metadata, "spec": spec})));
        let mut by_port: BTreeMap<u16, Vec<Value>> = BTreeMap::new();
        for (address, port, node) in endpoints {
            by_port
                .entry(*port)
                .or_default()
                .push(json!({"addresses": [address.to_string()], "nodeName": node, "conditions": {"ready": true}}));
        }
        let (port, list) = by_port.pop_first().unwrap_or((8080, Vec::new()));
        let slice = json!({
            "metadata": {"name": format!("{name}-1"), "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": [{"name": "", "port": port, "protocol": protocol}], "endpoints": list
        });
        self.api.put(SLICES, &format!("{name}-1"), Some(slice));
    }
}

pub fn node_object(name: &str, address: Ipv4Addr, number: u8) -> Value {
    json!({
        "metadata": {"name": name}, "spec": {"podCIDR": format!("10.244.{number}.0/24")},
        "status": {"addresses": [{"type": "InternalIP", "address": address.to_string()}]}
    })
}

/// Runs `ip` in the namespace of this thread.
pub fn ip(arguments: &str) -> io::Result<()> {
    let output = std::process::Command::new("ip").args(arguments.split(' ')).output()?;
    if output.status.success() { Ok(()) } else { Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned())) }
}

/// Asks until it holds, for at most 5 seconds.
pub async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..500 {
        if holds().await {
            return;
        }
        #[allow(clippy::disallowed_methods, reason = "the kernel keeps its own time")]
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not within 5 s");
}

/// Serves TCP: tells every client the server's name and the address that it sees of the client.
pub async fn serve(namespace: &Namespace, name: &str, port: u16) {
    let listener = namespace.run(move || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))).await.expect("listens");
    let name = name.to_owned();
    std::thread::Builder::new()
        .spawn(move || {
            while let Ok((mut stream, peer)) = listener.accept() {
                let _ = stream.write_all(format!("{name} {}", peer.ip()).as_bytes());
            }
        })
        .expect("a thread");
}

/// Serves UDP likewise.
pub async fn serve_udp(namespace: &Namespace, name: &str, port: u16) {
    let socket = namespace.run(move || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))).await.expect("bound");
    let name = name.to_owned();
    std::thread::Builder::new()
        .spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(name.as_bytes(), peer);
            }
        })
        .expect("a thread");
}

/// Connects from inside a namespace and gives what the server says.
pub async fn ask(from: &Namespace, address: Ipv4Addr, port: u16) -> io::Result<String> {
    ask_within(Duration::from_millis(1500), from, address, port).await
}

/// The same with a limit for the connection.
pub async fn ask_within(limit: Duration, from: &Namespace, address: Ipv4Addr, port: u16) -> io::Result<String> {
    from.run(move || {
        let to = SocketAddr::V4(SocketAddrV4::new(address, port));
        let mut stream = TcpStream::connect_timeout(&to, limit)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })
    .await
}
