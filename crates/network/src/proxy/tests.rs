//! Tables of services and endpoints with the rules that they must give.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use daruma_world::packet_rules::{Connection, Protocol, Statement, Table, Value, Verdict};
use serde_json::{Value as Json, json};

use super::connections::stale;
use super::plan::{Plan, Seen, elements, plan};
use crate::test_objects::{service, slice};

fn planned(spec: Json, endpoints: Json) -> Plan {
    let (services, slices) = ([service(spec)], [slice(endpoints)]);
    let pod_range = "10.244.0.0/16".parse().ok();
    plan(&Seen { services: &services, slices: &slices, node_name: "here", zone: Some("a"), pod_range, service_range: None })
}

/// `SET KEY: VERDICT` for every element, names without their hash, and `CHAIN: targets` for every chain of a service.
fn shown(table: &Table) -> Vec<String> {
    let bare = |name: &str| {
        let mut parts = name.splitn(3, '-');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(kind), Some(hash), Some(_)) if hash.len() == 8 => kind.to_owned(),
            _ => name.to_owned(),
        }
    };
    let mut lines = Vec::new();
    for set in [
        "service-ips",
        "service-nodeports",
        "no-endpoint-services",
        "no-endpoint-nodeports",
        "firewall-ips",
        "hairpin-connections",
    ] {
        for (key, verdict) in elements(table, set) {
            let value = |value: &Value| match value {
                Value::Address(address) => address.to_string(),
                Value::Protocol(protocol) => protocol.name().to_owned(),
                Value::Port(port) => port.to_string(),
            };
            let key: Vec<String> = key.iter().map(value).collect();
            let verdict = match verdict {
                Some(Verdict::Goto(chain)) => bare(chain),
                Some(other) => format!("{other:?}").to_lowercase(),
                None => "yes".to_owned(),
            };
            lines.push(format!("{set} {}: {verdict}", key.join(" ")));
        }
    }
    let elements = lines.len();
    for (name, chain) in table.chains.iter().filter(|(name, _)| bare(name) != **name) {
        let targets = chain.rules.iter().flatten().filter_map(|statement| match statement {
            Statement::TranslateDestination(targets) => {
                Some(targets.iter().map(|(address, port)| format!("{address}:{port}")).collect::<Vec<_>>().join(" "))
            }
            Statement::Verdict(Verdict::Goto(chain)) => Some(format!("goto {}", bare(chain))),
            Statement::Verdict(other) => Some(format!("{other:?}").to_lowercase()),
            Statement::DispatchRandom(of) => Some(format!("any of {}", of.len())),
            Statement::SetMark { .. } => Some("mark".to_owned()),
            _ => None,
        });
        lines.push(format!("{}: {}", bare(name), targets.collect::<Vec<_>>().join(", ")));
    }
    // Names begin with a hash: their own order says nothing.
    lines[elements..].sort();
    lines
}

#[track_caller]
fn check(spec: Json, endpoints: Json, expected: &[&str]) {
    assert_eq!(shown(&planned(spec, endpoints).table), expected);
}

fn endpoint(address: &str, node: &str, ready: bool, serving: bool, terminating: bool) -> Json {
    json!({"addresses": [address], "nodeName": node, "conditions": {"ready": ready, "serving": serving, "terminating": terminating}})
}

fn ready(address: &str, node: &str) -> Json {
    endpoint(address, node, true, true, false)
}

#[test]
fn cluster_ip_goes_to_ready_endpoints() {
    check(
        json!({}),
        json!([ready("10.244.1.2", "here"), ready("10.244.2.2", "there"), endpoint("10.244.2.3", "there", false, false, false)]),
        &[
            "service-ips 10.96.0.5 tcp 80: service",
            "hairpin-connections 10.244.1.2 10.244.1.2 tcp 8080: yes",
            "service: 10.244.1.2:8080 10.244.2.2:8080",
        ],
    );
}

#[test]
fn ending_endpoints_serve_where_no_other_does() {
    let ending = endpoint("10.244.2.2", "there", false, true, true);
    check(json!({}), json!([ending]), &["service-ips 10.96.0.5 tcp 80: service", "service: 10.244.2.2:8080"]);
    let ended = endpoint("10.244.2.2", "there", false, false, true);
    check(json!({}), json!([ended]), &["no-endpoint-services 10.96.0.5 tcp 80: reject-chain"]);
}

#[test]
fn node_port_is_masqueraded() {
    let spec = json!({"type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
    check(
        spec.clone(),
        json!([ready("10.244.2.2", "there")]),
        &[
            "service-ips 10.96.0.5 tcp 80: service",
            "service-nodeports tcp 30080: external",
            "external: mark, goto service",
            "service: 10.244.2.2:8080",
        ],
    );
    check(
        spec,
        json!([]),
        &["no-endpoint-services 10.96.0.5 tcp 80: reject-chain", "no-endpoint-nodeports tcp 30080: reject-chain"],
    );
}

#[test]
fn external_policy_local() {
    let spec = || json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
    check(
        spec(),
        json!([ready("10.244.1.2", "here"), ready("10.244.2.2", "there")]),
        &[
            "service-ips 10.96.0.5 tcp 80: service",
            "service-nodeports tcp 30080: external",
            "hairpin-connections 10.244.1.2 10.244.1.2 tcp 8080: yes",
            "external: goto service, mark, goto service, goto local",
            "local: 10.244.1.2:8080",
            "service: 10.244.1.2:8080 10.244.2.2:8080",
        ],
    );
    check(
        spec(),
        json!([ready("10.244.2.2", "there")]),
        &[
            "service-ips 10.96.0.5 tcp 80: service",
            "service-nodeports tcp 30080: external",
            "no-endpoint-nodeports tcp 30080: drop",
            "external: goto service, mark, goto service",
            "service: 10.244.2.2:8080",
        ],
    );
}

#[test]
fn internal_policy_local() {
    let spec = || json!({"internalTrafficPolicy": "Local"});
    check(
        spec(),
        json!([ready("10.244.1.2", "here"), ready("10.244.2.2", "there")]),
        &[
            "service-ips 10.96.0.5 tcp 80: local",
            "hairpin-connections 10.244.1.2 10.244.1.2 tcp 8080: yes",
            "local: 10.244.1.2:8080",
        ],
    );
    check(spec(), json!([ready("10.244.2.2", "there")]), &["no-endpoint-services 10.96.0.5 tcp 80: drop"]);
}

#[test]
fn session_affinity_remembers_clients() {
    let plan = planned(
        json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}}}),
        json!([ready("10.244.2.2", "there"), ready("10.244.2.3", "there")]),
    );
    let shown = shown(&plan.table);
    assert_eq!(
        shown,
        [
            "service-ips 10.96.0.5 tcp 80: service",
            "endpoint: 10.244.2.2:8080",
            "endpoint: 10.244.2.3:8080",
            "service: goto endpoint, goto endpoint, any of 2",
        ]
    );
    assert_eq!(plan.table.sets.keys().filter(|name| name.starts_with("affinity-")).count(), 2);
}

#[test]
fn external_and_load_balancer_addresses() {
    check(
        json!({"externalIPs": ["192.0.2.7"]}),
        json!([ready("10.244.2.2", "there")]),
        &[
            "service-ips 10.96.0.5 tcp 80: service",
            "service-ips 192.0.2.7 tcp 80: external",
            "external: mark, goto service",
            "service: 10.244.2.2:8080",
        ],
    );
}

#[test]
fn hints_keep_traffic_in_the_zone() {
    let hinted = |address: &str, zone: &str| {
        let mut endpoint = ready(address, "there");
        endpoint["hints"] = json!({"forZones": [{"name": zone}]});
        endpoint
    };
    let expected = ["service-ips 10.96.0.5 tcp 80: service", "service: 10.244.2.2:8080"];
    check(json!({}), json!([hinted("10.244.2.2", "a"), hinted("10.244.2.3", "b")]), &expected);
    let expected = ["service-ips 10.96.0.5 tcp 80: service", "service: 10.244.2.2:8080 10.244.2.3:8080"];
    check(json!({}), json!([hinted("10.244.2.2", "c"), hinted("10.244.2.3", "b")]), &expected);
}

#[test]
fn what_is_not_proxied() {
    for spec in [
        json!({"type": "ExternalName", "externalName": "example.com", "clusterIP": null, "clusterIPs": null}),
        json!({"clusterIP": "None", "clusterIPs": ["None"]}),
        json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"]}),
    ] {
        check(spec, json!([ready("10.244.2.2", "there")]), &[]);
    }
}

#[test]
fn a_change_of_endpoints_is_a_small_difference() {
    let before = planned(json!({}), json!([ready("10.244.2.2", "there"), ready("10.244.2.3", "there")]));
    let after = planned(json!({}), json!([ready("10.244.2.2", "there")]));
    let difference = before.table.difference(&after.table).expect("alike");
    assert_eq!(difference.changes.len(), 1, "{difference:?}");
    assert_eq!(before.table.difference(&before.table).expect("alike").changes, []);
}

#[test]
fn stale_udp_connections() {
    let (services, slices) = (
        [service(json!({"ports": [{"name": "http", "port": 53, "protocol": "UDP", "nodePort": 30053}]}))],
        [crate::test_objects::object(json!({
            "metadata": {"name": "s", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": 5353, "protocol": "UDP"}],
            "endpoints": [ready("10.244.1.2", "here")]
        }))],
    );
    let plan =
        plan(&Seen { services: &services, slices: &slices, node_name: "here", zone: None, pod_range: None, service_range: None });
    let connection = |destination: ([u8; 4], u16), answers_from: ([u8; 4], u16)| Connection {
        protocol: Protocol::Udp,
        source: (Ipv4Addr::new(10, 244, 1, 9), 4000),
        destination: (Ipv4Addr::from(destination.0), destination.1),
        answers_from: (Ipv4Addr::from(answers_from.0), answers_from.1),
    };
    let table = BTreeMap::from([
        ((([10, 96, 0, 5], 53), ([10, 244, 1, 2], 5353)), false),
        ((([10, 96, 0, 5], 53), ([10, 244, 1, 3], 5353)), true),
        ((([10, 96, 0, 5], 53), ([10, 96, 0, 5], 53)), true),
        ((([10, 88, 0, 20], 30053), ([10, 244, 1, 3], 5353)), true),
        ((([10, 96, 0, 6], 53), ([10, 244, 1, 3], 5353)), false),
    ]);
    for ((destination, answers_from), expected) in table {
        let found = !stale(&[connection(destination, answers_from)], &plan.frontends).is_empty();
        assert_eq!(found, expected, "{destination:?} {answers_from:?}");
    }
}
