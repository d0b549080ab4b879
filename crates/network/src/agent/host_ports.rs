//! Ports of the node that lead to its pods (`hostPort`): pure.
//!
//! Source: containernetworking plugins/meta/portmap. Connections to 127.0.0.0/8 are not led on.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use daruma_api::core::v1::{ContainerPort, Pod};
use daruma_world::links::Prefix;
use daruma_world::packet_rules::{
    Base, Chain, ChainKind, Field, Hook, Is, Key, Protocol, Rule, Set, SetKind, Statement, Table, Value, Verdict,
};

/// Name of the table.
pub const TABLE: &str = "daruma-host-ports";
const LOOPBACK: Prefix = Prefix::new(Ipv4Addr::new(127, 0, 0, 0), 8);
const PORT_KEY: [Field; 2] = [Field::Protocol, Field::DestinationPort];
const HAIRPIN_KEY: [Field; 4] = [Field::SourceAddress, Field::DestinationAddress, Field::Protocol, Field::DestinationPort];
/// Before the services' rules, which are at -100.
const BEFORE_SERVICES: i32 = -101;

/// Whether the pod asks for ports of its node.
pub fn has_host_ports(pod: &Pod) -> bool {
    ports(pod).next().is_some()
}

fn ports(pod: &Pod) -> impl Iterator<Item = &ContainerPort> {
    let spec = pod.spec.iter().filter(|spec| spec.host_network != Some(true));
    let containers = spec.flat_map(|spec| {
        let sidecars = spec.init_containers.iter().flatten().filter(|one| one.restart_policy.as_deref() == Some("Always"));
        spec.containers.iter().chain(sidecars)
    });
    containers.flat_map(|container| container.ports.iter().flatten()).filter(|port| port.host_port.is_some_and(|port| port > 0))
}

/// The rules for the node's pods; `None` where no pod asks for a port.
pub fn table(pods: &[Arc<Pod>]) -> Option<Table> {
    use Statement as S;
    let mut leading: BTreeMap<(Protocol, u16), Vec<Rule>> = BTreeMap::new();
    let mut hairpin = Set::new(SetKind::Plain, &HAIRPIN_KEY);
    for pod in pods {
        let status = pod.status.as_ref();
        let ended =
            status.and_then(|status| status.phase.as_deref()).is_some_and(|phase| phase == "Succeeded" || phase == "Failed");
        let Some(address) = status.and_then(|status| status.pod_ip.as_ref()?.parse::<Ipv4Addr>().ok()).filter(|_| !ended) else {
            continue;
        };
        for port in ports(pod) {
            let protocol = match port.protocol.as_deref().unwrap_or("TCP") {
                "UDP" => Protocol::Udp,
                "SCTP" => Protocol::Sctp,
                _ => Protocol::Tcp,
            };
            let (Some(Ok(outer)), Ok(inner)) = (port.host_port.map(u16::try_from), u16::try_from(port.container_port)) else {
                continue;
            };
            let mut rule = Vec::new();
            let only = port.host_ip.as_deref().and_then(|text| text.parse::<Ipv4Addr>().ok()).filter(|ip| !ip.is_unspecified());
            rule.extend(only.map(|ip| S::Destination(Is::In, Prefix::host(ip))));
            rule.extend([S::Protocol(protocol), S::TranslateDestination(vec![(address, inner)])]);
            leading.entry((protocol, outer)).or_default().push(rule);
            let itself = Value::Address(address);
            hairpin.elements.insert(vec![itself, itself, Value::Protocol(protocol), Value::Port(inner)], None);
        }
    }
    if leading.is_empty() {
        return None;
    }
    let mut map = Set::new(SetKind::Verdicts, &PORT_KEY);
    let base = |hook, priority| Some(Base { kind: ChainKind::Nat, hook, priority });
    let dispatch: Rule = vec![
        S::DestinationIsLocal,
        S::Destination(Is::NotIn, LOOPBACK),
        S::Dispatch { fields: PORT_KEY.to_vec(), map: "ports".into() },
    ];
    let back: Rule = vec![
        S::WasDestinationTranslated,
        S::Lookup { fields: HAIRPIN_KEY.to_vec(), is: Is::In, set: "hairpin-connections".into() },
        S::Masquerade,
    ];
    let mut chains = BTreeMap::from([
        ("nat-prerouting".to_owned(), Chain { base: base(Hook::Prerouting, BEFORE_SERVICES), rules: vec![dispatch.clone()] }),
        ("nat-output".to_owned(), Chain { base: base(Hook::Output, BEFORE_SERVICES), rules: vec![dispatch] }),
        ("nat-postrouting".to_owned(), Chain { base: base(Hook::Postrouting, 100), rules: vec![back] }),
    ]);
    for ((protocol, outer), rules) in leading {
        let chain = format!("port-{}-{outer}", protocol.name());
        let key: Key = vec![Value::Protocol(protocol), Value::Port(outer)];
        map.elements.insert(key, Some(Verdict::Goto(chain.clone())));
        chains.insert(chain, Chain { base: None, rules });
    }
    Some(Table { chains, sets: BTreeMap::from([("ports".to_owned(), map), ("hairpin-connections".to_owned(), hairpin)]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pods: &[serde_json::Value], expected: &[&str]) {
        let pods: Vec<Arc<Pod>> = pods.iter().map(|pod| Arc::new(serde_json::from_value(pod.clone()).expect("a pod"))).collect();
        let mut shown = Vec::new();
        for (name, chain) in table(&pods).map(|table| table.chains).unwrap_or_default() {
            for rule in chain.rules.iter().filter(|_| chain.base.is_none()) {
                let mut line = name.clone();
                for statement in rule {
                    match statement {
                        Statement::Destination(_, only) => line += &format!(" at {only}"),
                        Statement::TranslateDestination(targets) => line += &format!(" to {}:{}", targets[0].0, targets[0].1),
                        _ => {}
                    }
                }
                shown.push(line);
            }
        }
        assert_eq!(shown, expected);
    }

    #[test]
    fn rules() {
        let pod = |ip: &str, phase: &str, host: bool, port: serde_json::Value| {
            serde_json::json!({
                "spec": {"hostNetwork": host, "containers": [{"name": "a", "ports": [port]}]},
                "status": {"phase": phase, "podIP": ip}
            })
        };
        let port = serde_json::json!({"containerPort": 80, "hostPort": 8081});
        let bound = serde_json::json!({"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "10.88.0.20"});
        check(&[pod("10.244.1.2", "Running", false, serde_json::json!({"containerPort": 80}))], &[]);
        check(&[pod("10.244.1.2", "Succeeded", false, port.clone())], &[]);
        check(&[pod("10.88.0.20", "Running", true, port.clone())], &[]);
        check(
            &[pod("10.244.1.2", "Running", false, port), pod("10.244.1.3", "Pending", false, bound)],
            &["port-tcp-8081 to 10.244.1.2:80", "port-udp-53 at 10.88.0.20/32 to 10.244.1.3:53"],
        );
    }
}
