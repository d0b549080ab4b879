//! The network agent's and the sandbox network's own steps on simulated links.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use daruma_network::agent::plan::{Seen, plan};
use daruma_network::sandbox::{Config, NetworkFile, PodNetwork};
use daruma_world::disk::WriteOptions;
use daruma_world::links::{Change, Links, Prefix, Route, Target};
use serde_json::json;

use super::{CARD, SimLinks};

fn links() -> SimLinks {
    SimLinks::new("10.88.0.20/24".parse().unwrap(), 1400, None)
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

#[test]
fn the_agents_plan_settles() {
    crate::run(1, |_| async {
        let links = links();
        let node = |name: &str, range: &str, address: &str| {
            let object = json!({
                "metadata": {"name": name}, "spec": {"podCIDR": range},
                "status": {"addresses": [{"type": "InternalIP", "address": address}]}
            });
            Arc::new(serde_json::from_value(object).unwrap())
        };
        let nodes = [node("here", "10.244.1.0/24", "10.88.0.20"), node("there", "10.244.2.0/24", "10.88.0.21")];
        let mut steps = Vec::new();
        for _ in 0..2 {
            let (all, addresses, routes) = (
                links.list_links(None).await.unwrap(),
                links.list_addresses(None).await.unwrap(),
                links.list_routes(None).await.unwrap(),
            );
            let plan = plan(&Seen {
                nodes: &nodes,
                node_name: "here",
                pod_range: prefix("10.244.0.0/16"),
                service_range: prefix("10.96.0.0/12"),
                links: &all,
                addresses: &addresses,
                routes: &routes,
            })
            .unwrap();
            assert_eq!(plan.file.mtu, 1400);
            let routing = plan.changes.iter().filter(|change| matches!(change, Change::ReplaceRoute(_)));
            steps.push(routing.count());
            links.apply(None, plan.changes).await.unwrap();
        }
        assert_eq!(steps, [3, 0]);
        let way = |a: [u8; 4]| links.lookup(Ipv4Addr::from(a)).map(|route| route.target);
        let via = |router| Some(Target::Link { link: CARD.to_owned(), via: router, on_link: false, source: None });
        assert_eq!(way([10, 244, 2, 7]), via(Some(Ipv4Addr::new(10, 88, 0, 21))));
        assert_eq!(way([10, 244, 3, 7]), Some(Target::Unreachable));
        assert_eq!(way([203, 0, 113, 1]), None);
        assert_eq!(links.parameter("ipv4/ip_forward").as_deref(), Some("1"));
    });
}

#[test]
fn sandboxes_are_attached() {
    crate::run(1, |world| async move {
        let links = links();
        let file = NetworkFile { pod_range: "10.244.1.0/24".to_owned(), mtu: 1400 };
        let network = PodNetwork::new(&world, Arc::new(links.clone()), Config::default());
        assert!(network.problem().await.is_some());
        world.disk.create_dir_all(Path::new("/etc/cni/net.d"), 0o755).await.unwrap();
        let at = Path::new("/etc/cni/net.d/10-daruma.conf");
        world.disk.write(at, file.to_json(), WriteOptions::default()).await.unwrap();
        assert_eq!(network.problem().await, None);

        let namespace = Path::new("/run/netns/a");
        assert!(network.attach("0123456789", namespace.to_owned()).await.unwrap_err().contains("open namespace"));
        links.add_namespace(namespace);
        let addresses = network.attach("0123456789", namespace.to_owned()).await.unwrap();
        let inside = links.list_addresses(Some(namespace)).await.unwrap();
        assert_eq!(inside.last().map(|found| found.prefix.address.into()), addresses.first().copied());
        assert_eq!(links.list_routes(Some(namespace)).await.unwrap().len(), 2);
        assert!(links.list_links(None).await.unwrap().iter().any(|link| link.name == "veth01234567" && link.up));

        network.detach("0123456789").await.unwrap();
        assert_eq!(links.list_links(None).await.unwrap().len(), 2);
        assert_eq!(links.list_links(Some(namespace)).await.unwrap().len(), 1, "the peer has gone as well");
        assert!(links.list_routes(None).await.unwrap().iter().all(|listed| !listed.ours));
    });
}

#[test]
fn what_a_kernel_refuses() {
    crate::run(1, |_| async {
        let links = links();
        let pair = |name: &str| Change::AddVeth {
            name: name.to_owned(),
            mac: None,
            peer: "far".to_owned(),
            peer_mac: None,
            peer_namespace: None,
            mtu: 1500,
        };
        links.apply(None, vec![pair("near")]).await.unwrap();
        let up = |name: &str, up| Change::SetUp { name: name.to_owned(), up };
        let route = |link: &str, to: &str| Change::ReplaceRoute(Route::on(link, prefix(to)));
        for (change, wanted) in [
            (pair("near"), ErrorKind::AlreadyExists),
            (up("nothing", true), ErrorKind::NotFound),
            (route("near", "10.1.0.0/16"), ErrorKind::NetworkDown),
            (route(CARD, "10.1.0.1/16"), ErrorKind::InvalidInput),
            (Change::ReplaceRoute(Route::via(CARD, Ipv4Addr::new(10, 1, 0, 1), Prefix::ALL)), ErrorKind::NetworkUnreachable),
            (
                Change::SetKernelParameter { name: "ipv6/conf/all/x".to_owned(), value: "1".to_owned(), optional: false },
                ErrorKind::NotFound,
            ),
        ] {
            let shown = format!("{change:?}");
            let error = links.apply(None, vec![change]).await.unwrap_err();
            assert_eq!(error.kind(), wanted, "{shown}");
            assert!(error.to_string().starts_with(&shown));
        }
        // What is turned off loses its routes; deleting one end deletes both.
        links.apply(None, vec![up("near", true), route("near", "10.1.0.0/16")]).await.unwrap();
        assert!(links.lookup(Ipv4Addr::new(10, 1, 2, 3)).is_some());
        links.apply(None, vec![up("near", false)]).await.unwrap();
        assert!(links.lookup(Ipv4Addr::new(10, 1, 2, 3)).is_none());
        links.apply(None, vec![Change::DeleteLink { name: "far".to_owned() }]).await.unwrap();
        assert_eq!(links.list_links(None).await.unwrap().len(), 2);
    });
}
