//! Packets through the tables that the real service proxy and the real network agent make.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use daruma_network::agent::{host_ports, plan::masquerading};
use daruma_network::proxy::plan::{Plan, Seen, plan};
use daruma_world::packet_rules::{Field, Hook, Is, PacketRules, Protocol, Rejection, Statement, Verdict};
use serde_json::{Value, json};

use super::*;

/// This machine, another, a pod here and one there, the service.
const HERE: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 20);
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 5);
const POD_HERE: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

fn object<K: serde::de::DeserializeOwned>(value: Value) -> Arc<K> {
    Arc::new(serde_json::from_value(value).unwrap())
}

pub(crate) fn planned(spec: Value, endpoints: Value) -> Plan {
    let mut base = json!({
        "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"], "type": "NodePort",
        "ports": [{"name": "http", "port": 80, "nodePort": 30080, "protocol": spec["protocol"]}]
    });
    base.as_object_mut().unwrap().extend(spec["spec"].as_object().cloned().unwrap_or_default());
    let service = object(json!({"metadata": {"name": "web", "namespace": "default"}, "spec": base}));
    let slice = object(json!({
        "metadata": {"name": "s", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": spec["protocol"]}], "endpoints": endpoints
    }));
    plan(&Seen {
        services: &[service],
        slices: &[slice],
        node_name: "here",
        zone: None,
        pod_range: "10.244.0.0/16".parse().ok(),
        service_range: "10.96.0.0/12".parse().ok(),
    })
}

fn endpoint(address: &str, node: &str, ready: bool) -> Value {
    json!({"addresses": [address], "nodeName": node, "conditions": {"ready": ready, "serving": ready, "terminating": false}})
}

fn here() -> Value {
    endpoint("10.244.1.2", "here", true)
}

fn there() -> Value {
    endpoint("10.244.2.2", "there", true)
}

fn packet(source: Ipv4Addr, to: (Ipv4Addr, u16)) -> Packet {
    let hook = if source == HERE { Hook::Output } else { Hook::Prerouting };
    Packet { protocol: Protocol::Tcp, source: (source, 40_000), destination: to, hook, input_link: None }
}

/// All that may become of a packet: `address:port`, `+` where it is masqueraded.
fn fates(rules: &SimPacketRules, packet: &Packet) -> String {
    let show = |outcome: Outcome| match outcome.fate {
        Fate::Accept => {
            let (address, port) = outcome.destination;
            format!("{address}:{port}{}", if outcome.masquerade { "+" } else { "" })
        }
        Fate::Drop => "drop".to_owned(),
        Fate::Reject(Rejection::PortUnreachable) => "reject".to_owned(),
        Fate::Reject(Rejection::TcpReset) => "reset".to_owned(),
    };
    let all: BTreeSet<String> = (0..40).map(|_| show(rules.open(packet))).collect();
    all.into_iter().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn check(spec: Value, endpoints: Value, cases: &[(Ipv4Addr, (Ipv4Addr, u16), &str)]) {
    crate::run(1, |world| async move {
        let rules = SimPacketRules::new(&world, HERE);
        rules.replace_table("kube-proxy", planned(spec, endpoints).table).await.unwrap();
        rules.replace_table("daruma-pod-network", masquerading("10.244.0.0/16".parse().unwrap())).await.unwrap();
        for (source, to, wanted) in cases {
            assert_eq!(fates(&rules, &packet(*source, *to)), *wanted, "{source} to {to:?}");
        }
    });
}

#[test]
fn services() {
    let local = || json!({"spec": {"externalTrafficPolicy": "Local"}});
    check(
        json!({}),
        json!([here(), there()]),
        &[
            // From a pod: as it is, but for itself as its own server.
            (POD_HERE, (SERVICE, 80), "10.244.1.2:8080+ 10.244.2.2:8080"),
            // From the machine, and from elsewhere: masqueraded.
            (HERE, (SERVICE, 80), "10.244.1.2:8080+ 10.244.2.2:8080+"),
            (OUTSIDE, (HERE, 30080), "10.244.1.2:8080+ 10.244.2.2:8080+"),
            (HERE, (HERE, 30080), "10.244.1.2:8080+ 10.244.2.2:8080+"),
            // The loopback address has no node ports; other ports of the service are refused, other services lost.
            (HERE, (Ipv4Addr::LOCALHOST, 30080), "127.0.0.1:30080"),
            (POD_HERE, (SERVICE, 81), "reject"),
            (POD_HERE, (Ipv4Addr::new(10, 96, 0, 6), 80), "drop"),
            // What is no service passes; a pod's packets to the world are masqueraded.
            (HERE, (OUTSIDE, 443), "203.0.113.9:443"),
            (POD_HERE, (OUTSIDE, 443), "203.0.113.9:443+"),
            (POD_HERE, (Ipv4Addr::new(10, 244, 2, 2), 8080), "10.244.2.2:8080"),
            (OUTSIDE, (HERE, 22), "10.88.0.20:22"),
        ],
    );
    check(
        json!({}),
        json!([]),
        &[(POD_HERE, (SERVICE, 80), "reject"), (OUTSIDE, (HERE, 30080), "reject"), (HERE, (HERE, 30080), "reject")],
    );
    check(
        json!({}),
        json!([endpoint("10.244.1.2", "here", false), there()]),
        &[(POD_HERE, (SERVICE, 80), "10.244.2.2:8080"), (OUTSIDE, (HERE, 30080), "10.244.2.2:8080+")],
    );
    // Local: the client's address is kept, other machines' pods are not used; pods go anywhere.
    check(
        local(),
        json!([here(), there()]),
        &[
            (OUTSIDE, (HERE, 30080), "10.244.1.2:8080"),
            (POD_HERE, (SERVICE, 80), "10.244.1.2:8080+ 10.244.2.2:8080"),
            (HERE, (HERE, 30080), "10.244.1.2:8080+ 10.244.2.2:8080+"),
        ],
    );
    check(local(), json!([there()]), &[(OUTSIDE, (HERE, 30080), "drop"), (POD_HERE, (SERVICE, 80), "10.244.2.2:8080")]);
}

#[test]
fn clients_stick_to_their_endpoint_for_a_time() {
    crate::run(3, |world| async move {
        let rules = SimPacketRules::new(&world, HERE);
        let spec =
            json!({"spec": {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}}}});
        rules.replace_table("kube-proxy", planned(spec, json!([here(), there()])).table).await.unwrap();
        let ask = |client: u8| rules.open(&packet(Ipv4Addr::new(10, 244, 1, client), (SERVICE, 80))).destination.0;
        for client in 10..20 {
            let first = ask(client);
            assert!((0..20).all(|_| ask(client) == first), "client {client}");
        }
        let firsts: Vec<_> = (10..20).map(ask).collect();
        assert!(firsts.iter().any(|other| *other != firsts[0]), "clients are spread");
        world.sleep(Duration::from_secs(11)).await;
        assert_ne!((10..20).map(ask).collect::<Vec<_>>(), firsts, "after the time the choice is free again");
    });
}

#[test]
fn host_ports_come_before_services() {
    crate::run(1, |world| async move {
        let rules = SimPacketRules::new(&world, HERE);
        let pod = object(json!({
            "spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80, "hostPort": 30080}]}]},
            "status": {"phase": "Running", "podIP": "10.244.1.9"}
        }));
        rules.replace_table("kube-proxy", planned(json!({}), json!([there()])).table).await.unwrap();
        rules.replace_table(host_ports::TABLE, host_ports::table(&[pod]).unwrap()).await.unwrap();
        assert_eq!(fates(&rules, &packet(OUTSIDE, (HERE, 30080))), "10.244.1.9:80");
        rules.delete_table(host_ports::TABLE).await.unwrap();
        assert_eq!(fates(&rules, &packet(OUTSIDE, (HERE, 30080))), "10.244.2.2:8080+");
    });
}

#[test]
fn changes_are_all_or_nothing() {
    crate::run(1, |world| async move {
        let rules = SimPacketRules::new(&world, HERE);
        let (before, after) = (planned(json!({}), json!([here(), there()])).table, planned(json!({}), json!([])).table);
        rules.replace_table("kube-proxy", before.clone()).await.unwrap();
        let first = rules.table_identity("kube-proxy").await.unwrap();
        let to_pod = packet(POD_HERE, (SERVICE, 80));

        let nowhere = Statement::Verdict(Verdict::Goto("nowhere".to_owned()));
        let unknown = Statement::Lookup { fields: vec![Field::Protocol], is: Is::In, set: "unknown".to_owned() };
        let rules_of = |statement| Change::ReplaceRules { chain: "services".to_owned(), rules: vec![vec![statement]] };
        for (last, wanted) in [
            (Change::DeleteChain { name: "services".to_owned() }, io::ErrorKind::ResourceBusy),
            (Change::DeleteSet { name: "service-ips".to_owned() }, io::ErrorKind::ResourceBusy),
            (rules_of(nowhere), io::ErrorKind::NotFound),
            (rules_of(unknown), io::ErrorKind::NotFound),
        ] {
            let mut wrong = before.difference(&after).unwrap().changes;
            wrong.push(last.clone());
            assert_eq!(rules.change_table("kube-proxy", wrong).await.unwrap_err().kind(), wanted, "{last:?}");
            assert_eq!(fates(&rules, &to_pod), "10.244.1.2:8080+ 10.244.2.2:8080");
        }

        let difference = before.difference(&after).unwrap();
        rules.change_table("kube-proxy", difference.changes).await.unwrap();
        let stale = difference.stale_chains.into_iter().map(|name| Change::DeleteChain { name }).collect();
        rules.change_table("kube-proxy", stale).await.unwrap();
        assert_eq!(fates(&rules, &to_pod), "reject");
        assert_eq!(rules.table_identity("kube-proxy").await.unwrap(), first);

        rules.delete_table("kube-proxy").await.unwrap();
        assert_eq!(rules.table_identity("kube-proxy").await.unwrap(), None);
        assert_eq!(fates(&rules, &to_pod), "10.96.0.5:80");
        assert!(rules.change_table("kube-proxy", Vec::new()).await.is_err());
        rules.replace_table("kube-proxy", after).await.unwrap();
        assert_ne!(rules.table_identity("kube-proxy").await.unwrap(), first);
    });
}

#[test]
fn datagrams_of_a_flow_stay_together() {
    crate::run(1, |world| async move {
        let rules = SimPacketRules::new(&world, HERE);
        let udp = json!({"protocol": "UDP"});
        rules.replace_table("kube-proxy", planned(udp.clone(), json!([here(), there()])).table).await.unwrap();
        let ask = |source: Ipv4Addr, port: u16| {
            let one = packet(source, (SERVICE, 80));
            rules.datagram(&Packet { protocol: Protocol::Udp, source: (source, port), ..one })
        };
        let client = Ipv4Addr::new(10, 244, 1, 9);
        let first = ask(client, 5000).unwrap();
        assert_eq!(first.source, (client, 5000));
        assert!((0..20).all(|_| ask(client, 5000) == Ok(first)));
        let back = rules.answer(first.destination, first.source);
        assert_eq!(back, Some(Flow { source: (SERVICE, 80), destination: (client, 5000) }));

        // From the machine itself to the ClusterIP: masqueraded, and led back all the same.
        let own = ask(HERE, 6000).unwrap();
        assert_eq!(own.source.0, HERE);
        assert_eq!(rules.answer(own.destination, own.source), Some(Flow { source: (SERVICE, 80), destination: (HERE, 6000) }));

        let known = rules.connections(Protocol::Udp).await.unwrap();
        assert_eq!(known.len(), 2);
        // The endpoints change; the flow goes on until it is forgotten.
        rules.replace_table("kube-proxy", planned(udp, json!([])).table).await.unwrap();
        assert_eq!(ask(client, 5000), Ok(first));
        rules.forget_connections(known).await.unwrap();
        assert_eq!(ask(client, 5000), Err(Fate::Reject(Rejection::PortUnreachable)));
        assert_eq!(rules.answer(first.destination, first.source), None);
        assert!(rules.connections(Protocol::Tcp).await.is_err());
    });
}
