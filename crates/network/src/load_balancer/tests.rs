//! Tables of services and nodes with the addresses and rules that they must give.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use daruma_api::core::v1::{Node, Service};
use daruma_api::meta::ObjectExt;
use daruma_world::packet_rules::{Statement, Value, Verdict};
use serde_json::{Value as Json, json};

use super::health::Target;
use super::plan::{Pool, Seen, assign, concerns_hosts, hosts, plan, targets};
use super::status::{Act, acts};
use crate::proxy::plan::elements;
use crate::test_objects::object;

fn balancer(name: &str, created: u32, spec: Json, rest: Json) -> Arc<Service> {
    let mut service = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z")},
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.5",
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]
        }
    });
    for (at, changes) in [("/spec", spec), ("/metadata", rest["metadata"].clone()), ("", json!({"status": rest["status"]}))] {
        let place = service.pointer_mut(at).and_then(Json::as_object_mut).expect("an object");
        place.extend(changes.as_object().cloned().unwrap_or_default());
    }
    if service["status"].is_null() {
        service["status"] = json!({});
    }
    object(service)
}

fn node(name: &str, last: u8, labels: Json, spec: Json) -> Arc<Node> {
    object(json!({
        "metadata": {"name": name, "labels": labels}, "spec": spec,
        "status": {"addresses": [{"type": "InternalIP", "address": format!("10.88.0.{last}")}]}
    }))
}

fn has(address: &str) -> Json {
    json!({"status": {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}}})
}

fn pool() -> Pool {
    "10.88.0.230-10.88.0.232".parse().expect("a range")
}

fn behind() -> BTreeMap<String, Ipv4Addr> {
    hosts(&[
        node("controller-0", 10, json!({"node.kubernetes.io/exclude-from-external-load-balancers": ""}), json!({})),
        node("worker-0", 20, json!({}), json!({})),
        node("worker-1", 21, json!({}), json!({})),
        node("worker-2", 22, json!({}), json!({"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]})),
    ])
}

#[test]
fn pools() {
    let check = |text: &str, expected: Option<usize>| {
        let count =
            text.parse::<Pool>().ok().map(|pool| (0..=255).filter(|last| pool.contains(Ipv4Addr::new(10, 0, 0, *last))).count());
        assert_eq!(count, expected, "{text}");
    };
    check("10.0.0.200-10.0.0.250", Some(51));
    check("10.0.0.1,10.0.0.3-10.0.0.4", Some(3));
    check("", None);
    check("10.0.0.9-10.0.0.1", None);
    check("10.0.0.0/24", None);
}

#[test]
fn addresses_are_stable() {
    let check = |services: &[Arc<Service>], expected: &[(&str, u8)]| {
        let found: Vec<(String, u8)> = assign(services, &pool()).into_iter().map(|(key, ip)| (key, ip.octets()[3])).collect();
        let expected: Vec<(String, u8)> = expected.iter().map(|(name, last)| (format!("default/{name}"), *last)).collect();
        assert_eq!(found, expected);
    };
    let plain = |name, created| balancer(name, created, json!({}), json!({}));
    // The oldest is served first, one beyond the last address not at all.
    check(&[plain("a", 9), plain("b", 1), plain("c", 2), plain("d", 3)], &[("b", 230), ("c", 231), ("d", 232)]);
    // What one has it keeps, though another one is older.
    check(&[balancer("a", 9, json!({}), has("10.88.0.230")), plain("b", 1)], &[("a", 230), ("b", 231)]);
    // The same address twice: the older one has it.
    let twice = |name, created| balancer(name, created, json!({}), has("10.88.0.231"));
    check(&[twice("a", 9), twice("b", 1)], &[("a", 230), ("b", 231)]);
    // An address that is no longer ours is given up.
    check(&[balancer("a", 1, json!({}), has("192.0.2.1"))], &[("a", 230)]);
    // Wishes count where they can be met.
    let wish = |name, created, ip: &str, rest| balancer(name, created, json!({"loadBalancerIP": ip}), rest);
    check(&[wish("a", 1, "10.88.0.232", json!({})), wish("b", 2, "10.88.0.232", json!({}))], &[("a", 232), ("b", 230)]);
    check(&[wish("a", 1, "192.0.2.1", json!({})), wish("b", 2, "10.88.0.232", has("10.88.0.231"))], &[("a", 230), ("b", 232)]);
    // Others' classes are not ours.
    let class = |name, class: &str| balancer(name, 1, json!({"loadBalancerClass": class}), json!({}));
    check(&[class("a", "example.com/other"), class("b", "daruma.dev/load-balancer")], &[("b", 230)]);
}

/// `SET KEY: VERDICT`, and targets of the chain of the service.
fn shown(services: &[Arc<Service>], is_up: impl Fn(&Target) -> bool) -> Vec<String> {
    let hosts = behind();
    let planned = plan(&Seen { services, hosts: &hosts, pool: &pool(), is_up: &is_up });
    let table = &planned.rules.table;
    let mut lines = Vec::new();
    for set in ["service-ips", "no-endpoint-services", "service-nodeports", "firewall-ips"] {
        for (key, verdict) in elements(table, set) {
            let value = |value: &Value| match value {
                Value::Address(address) => address.to_string(),
                Value::Protocol(protocol) => protocol.name().to_owned(),
                Value::Port(port) => port.to_string(),
            };
            let key = key.iter().map(value).collect::<Vec<_>>().join(" ");
            let chain = match verdict {
                Some(Verdict::Goto(chain)) if chain == "reject-chain" => "refused".to_owned(),
                Some(Verdict::Goto(chain)) => {
                    let targets = table.chains[chain].rules.iter().flatten().find_map(|statement| match statement {
                        Statement::TranslateDestination(targets) => Some(targets.clone()),
                        _ => None,
                    });
                    let text = |(address, port): &(Ipv4Addr, u16)| format!("{address}:{port}");
                    targets.unwrap_or_default().iter().map(text).collect::<Vec<_>>().join(" ")
                }
                other => format!("{other:?}"),
            };
            lines.push(format!("{set} {key}: {chain}"));
        }
    }
    lines
}

#[test]
fn healthy_nodes_are_behind_an_address() {
    let web = || balancer("web", 1, json!({}), json!({}));
    let address = |last| move |target: &Target| target.address == Ipv4Addr::new(10, 88, 0, last);
    assert_eq!(shown(&[web()], |_| true), ["service-ips 10.88.0.230 tcp 80: 10.88.0.20:30080 10.88.0.21:30080"]);
    assert_eq!(shown(&[web()], address(21)), ["service-ips 10.88.0.230 tcp 80: 10.88.0.21:30080"]);
    assert_eq!(shown(&[web()], |_| false), ["no-endpoint-services 10.88.0.230 tcp 80: refused"]);
    let ranges = balancer("web", 1, json!({"loadBalancerSourceRanges": ["10.88.0.0/24"]}), json!({}));
    assert_eq!(
        shown(&[ranges], address(20)),
        ["service-ips 10.88.0.230 tcp 80: 10.88.0.20:30080", "firewall-ips 10.88.0.230 tcp 80: "]
    );
    let deleted = balancer("web", 1, json!({}), json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    assert_eq!(shown(&[deleted], |_| true), [""; 0]);
    let node_port = balancer("web", 1, json!({"type": "NodePort"}), json!({}));
    assert_eq!(shown(&[node_port], |_| true), [""; 0]);
    // Without node ports there is nothing to pass connections on to.
    let without = balancer("web", 1, json!({"ports": [{"port": 80}]}), json!({}));
    assert_eq!(shown(&[without], |_| true), ["no-endpoint-services 10.88.0.230 tcp 80: refused"]);
}

#[test]
fn everything_is_masqueraded() {
    let web = balancer("web", 1, json!({}), json!({}));
    let hosts = behind();
    let planned = plan(&Seen { services: &[web], hosts: &hosts, pool: &pool(), is_up: &|_| true });
    let marks = planned.rules.table.chains["services"].rules.iter().flatten();
    assert_eq!(marks.filter(|statement| matches!(statement, Statement::SetMark { .. })).count(), 1);
    assert_eq!(elements(&planned.rules.table, "cluster-ips").len(), 1);
}

#[test]
fn what_is_asked() {
    let check = |spec: Json, port: u16| {
        let found = targets(&[balancer("web", 1, spec, json!({}))], &behind());
        let expected = [20, 21].map(|last| Target { address: Ipv4Addr::new(10, 88, 0, last), port });
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
    };
    check(json!({}), 10256);
    check(json!({"healthCheckNodePort": 31000}), 10256);
    check(json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": 31000}), 31000);
    let udp = json!([{"port": 53, "nodePort": 30053, "protocol": "UDP"}]);
    check(json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": 31000, "ports": udp}), 31000);
    assert!(targets(&[balancer("web", 1, json!({"type": "ClusterIP"}), json!({}))], &behind()).is_empty());
}

#[test]
fn which_changes_of_nodes_concern_load_balancers() {
    let check = |labels: Json, spec: Json, expected: bool| {
        let old = node("worker-0", 20, json!({}), json!({}));
        assert_eq!(concerns_hosts(&old, &node("worker-0", 20, labels.clone(), spec.clone())), expected, "{labels} {spec}");
    };
    check(json!({}), json!({}), false);
    check(json!({"node.kubernetes.io/exclude-from-external-load-balancers": "false"}), json!({}), true);
    // Such a node is taken out by its health checks, and left out the next time that nodes are looked at.
    check(json!({}), json!({"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}), false);
    assert_eq!(behind().into_keys().collect::<Vec<_>>(), ["worker-0", "worker-1"]);
}

#[test]
fn what_services_are_told() {
    let check = |spec: Json, rest: Json, expected: Option<Act>| {
        let found = acts(&[balancer("web", 1, spec, rest.clone())], &pool(), &BTreeSet::new());
        assert_eq!(found.first().map(|(_, act)| act.clone()), expected, "{rest}");
        assert!(found.iter().all(|(service, _)| service.name() == "web"));
    };
    let ensure = || Some(Act::Ensure(Ipv4Addr::new(10, 88, 0, 230)));
    let ours = json!(["service.kubernetes.io/load-balancer-cleanup"]);
    let with = |rest: Json, finalizers: &Json| {
        let mut rest = rest;
        rest["metadata"]["finalizers"] = finalizers.clone();
        rest
    };
    check(json!({}), json!({}), ensure());
    check(json!({}), has("10.88.0.230"), ensure());
    check(json!({}), with(json!({}), &ours), ensure());
    check(json!({}), with(has("10.88.0.230"), &ours), None);
    // One that is new here, or has changed, is made sure of again.
    let sound = [balancer("web", 1, json!({}), with(has("10.88.0.230"), &ours))];
    let again = acts(&sound, &pool(), &BTreeSet::from(["web".to_owned()]));
    assert_eq!(again.into_iter().map(|(_, act)| act).collect::<Vec<_>>(), Vec::from_iter(ensure()));
    check(json!({"type": "ClusterIP"}), with(json!({}), &ours), Some(Act::Clean));
    check(json!({"type": "ClusterIP"}), json!({}), None);
    let mut deleted = with(has("10.88.0.230"), &ours);
    deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    check(json!({}), deleted, Some(Act::Clean));
    check(json!({"loadBalancerClass": "example.com/other"}), with(json!({}), &ours), None);
    let four: Vec<_> = ["a", "b", "c", "d"].map(|name| balancer(name, 1, json!({}), json!({}))).to_vec();
    assert_eq!(acts(&four, &pool(), &BTreeSet::new()).last().map(|(_, act)| act.clone()), Some(Act::Starve));
}
