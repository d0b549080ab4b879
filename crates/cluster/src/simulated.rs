//! Simulated nodes beside the real ones of a cluster: what they are called, where they answer, how they are kept apart.
//!
//! They are real kubelets on simulated machines, all in one process (kubemark calls such nodes hollow), with one address at
//! the switch and a port each. Their Node objects carry a label and a taint, so that only what asks for them goes there.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

pub use daruma_api::simulated::{LABEL, TAINT, is_name, name, number};

use crate::machine_files;
use crate::shape::{Machine, POD_CIDR, Role, Shape};

/// Most simulated nodes of a cluster: what was tried.
pub const MOST: u32 = 2000;
/// The mode of the program that their process runs.
pub const MODE: &str = "hollow-nodes";
/// No load balancer sends anything to them.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// Last octet of their address in the node network: after the load balancer's.
const OWN: u32 = 3;
/// The first one's kubelet answers here; the others follow.
const FIRST_PORT: u16 = 10_250;
/// So many nodes have a /24 each in the usual pod network, with some left for machines that are added later.
const FEW: usize = 250;
/// Length of a node's range of pod addresses (kube-controller-manager's --node-cidr-mask-size-ipv4).
const NODE_BITS: u32 = 24;
/// The pod network of clusters with more nodes: a /24 for each of 32,768.
const WIDE_POD_CIDR: &str = "10.128.0.0/9";

/// The numbers of those that a cluster has.
pub fn numbers(shape: &Shape) -> impl Iterator<Item = u32> + '_ {
    (0..shape.simulated).filter(|number| !shape.simulated_gone.contains(number))
}

/// How many a cluster has.
pub fn count(shape: &Shape) -> u32 {
    shape.simulated.saturating_sub(u32::try_from(shape.simulated_gone.len()).unwrap_or(u32::MAX))
}

/// Gives a cluster further ones, of the lowest numbers that are free.
pub fn add(shape: &mut Shape, count: u32) -> Vec<u32> {
    let mut new: Vec<u32> = shape.simulated_gone.iter().copied().take(count as usize).collect();
    for number in &new {
        shape.simulated_gone.remove(number);
    }
    let rest = count - new.len() as u32;
    new.extend(shape.simulated..shape.simulated + rest);
    shape.simulated += rest;
    new
}

/// Takes one away; `false` where there is none of this number.
pub fn remove(shape: &mut Shape, number: u32) -> bool {
    let there = number < shape.simulated && shape.simulated_gone.insert(number);
    // The highest one's number is given up.
    while shape.simulated.checked_sub(1).is_some_and(|last| shape.simulated_gone.remove(&last)) {
        shape.simulated -= 1;
    }
    there
}

/// So many nodes have a range of addresses in the cluster's pod network.
pub fn room(shape: &Shape) -> usize {
    let set = shape.settings.get("kube-controller-manager").and_then(|flags| flags.get("cluster-cidr"));
    let range = set.map_or(POD_CIDR, String::as_str);
    let length = range.split_once('/').and_then(|(_, length)| length.parse::<u32>().ok()).unwrap_or(NODE_BITS);
    1 << NODE_BITS.saturating_sub(length).min(16)
}

/// Their address in the node network; ports tell them apart.
pub fn address(network: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from_bits(network.to_bits() + OWN)
}

/// Port of a kubelet's server at [`address`].
pub fn port(index: u32) -> u16 {
    FIRST_PORT.saturating_add(u16::try_from(index).unwrap_or(u16::MAX))
}

/// One of them as a machine of the cluster.
pub fn machine(shape: &Shape, index: u32) -> Machine {
    Machine { name: name(index), role: Role::Worker, address: address(shape.network) }
}

/// What marks a simulated node's kubelet, as flags of the kubelet.
pub fn flags() -> [String; 2] {
    let ((label, of_label), (taint, of_taint, effect)) = (LABEL, TAINT);
    [format!("--node-labels={label}={of_label},{EXCLUDED}="), format!("--register-with-taints={taint}={of_taint}:{effect}")]
}

/// The command line of one's kubelet, without the program.
pub fn kubelet_command(shape: &Shape, index: u32) -> Vec<String> {
    let mut command = machine_files::kubelet_command(shape, &machine(shape, index)).split_off(1);
    command.extend(flags());
    command.push(format!("--port={}", port(index)));
    // What was set for all kubelets wins, as everywhere.
    shape.set_flags("kubelet", &mut command);
    command
}

/// Widens the pod network of a new cluster of so many nodes where they need that; what somebody has set stays.
pub fn make_room(settings: &mut BTreeMap<String, BTreeMap<String, String>>, nodes: usize) {
    if nodes > FEW {
        for component in ["kube-controller-manager", "kube-proxy", "network-agent"] {
            let flags = settings.entry(component.to_owned()).or_default();
            flags.entry("cluster-cidr".to_owned()).or_insert_with(|| WIDE_POD_CIDR.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::Component;

    #[test]
    fn names() {
        for (name, theirs) in
            [("simulated-0", true), ("simulated-4999", true), ("simulated-", false), ("simulated-01", false), ("worker-0", false)]
        {
            assert_eq!(is_name(name), theirs, "{name}");
        }
    }

    #[test]
    fn the_command_is_one() {
        let shape: Shape = serde_json::from_value(serde_json::json!({
            "name": "c", "network": "10.88.3.0", "machines": [], "cpuMillis": 1, "memoryBytes": 1, "diskBytes": 1,
            "bootTimeMs": 1, "nodeMonitorGracePeriod": "50s", "defaultTolerationSeconds": 300,
            "settings": {"kubelet": {"max-pods": "7"}}
        }))
        .expect("a shape of before there were simulated nodes");
        assert_eq!(shape.simulated, 0);
        let command = kubelet_command(&shape, MOST - 1);
        for wanted in ["--port=12249", "--node-ip=10.88.3.3", "--hostname-override=simulated-1999", "--max-pods=7"] {
            assert_eq!(command.iter().filter(|argument| *argument == wanted).count(), 1, "{wanted}: {command:?}");
        }
        assert!(matches!(Component::parse(command), Ok(Component::Kubelet(_))));
        // Nobody else has the address.
        assert!(Shape::place(shape.network, 9, 200).iter().all(|machine| machine.address != address(shape.network)));
        assert_ne!(crate::load_balancer::own_address(&shape), address(shape.network));
    }

    #[test]
    fn they_come_and_go() {
        let mut shape: Shape = serde_json::from_value(serde_json::json!({
            "name": "c", "network": "10.88.3.0", "machines": [], "simulated": 4, "cpuMillis": 1, "memoryBytes": 1, "diskBytes": 1,
            "bootTimeMs": 1, "nodeMonitorGracePeriod": "50s", "defaultTolerationSeconds": 300, "settings": {}
        }))
        .expect("a shape");
        let check = |shape: &Shape, wanted: &[u32], below: u32| {
            assert_eq!((numbers(shape).collect::<Vec<_>>(), count(shape) as usize), (wanted.to_vec(), wanted.len()));
            assert_eq!(shape.simulated, below);
        };
        assert!(remove(&mut shape, 1) && !remove(&mut shape, 1) && !remove(&mut shape, 4));
        check(&shape, &[0, 2, 3], 4);
        assert!(remove(&mut shape, 3));
        check(&shape, &[0, 2], 3);
        assert_eq!(add(&mut shape, 3), [1, 3, 4]);
        check(&shape, &[0, 1, 2, 3, 4], 5);
        assert!((0..5).rev().all(|number| remove(&mut shape, number)));
        check(&shape, &[], 0);
        assert!(shape.simulated_gone.is_empty());
        assert_eq!(room(&shape), 256);
        make_room(&mut shape.settings, 1003);
        assert_eq!(room(&shape), 32_768);
    }

    #[test]
    fn many_nodes_need_a_wide_network() {
        let mut settings = BTreeMap::new();
        make_room(&mut settings, 250);
        assert!(settings.is_empty());
        let own = BTreeMap::from([("cluster-cidr".to_owned(), "10.192.0.0/10".to_owned())]);
        settings.insert("kube-proxy".to_owned(), own);
        make_room(&mut settings, 1003);
        assert_eq!(settings["kube-proxy"]["cluster-cidr"], "10.192.0.0/10");
        assert_eq!(settings["network-agent"]["cluster-cidr"], WIDE_POD_CIDR);
    }
}
