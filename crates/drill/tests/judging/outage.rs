//! A record of one of three zones lost, with 5,000 nodes and 100,000 pods.

use daruma_drill::WorldKind;
use daruma_drill::record::{Entry, EntryKind, NodeState, PodState, Record, ReplicaState, Request};

const NODES: u32 = 5000;
const PODS: u32 = 100_000;
const MINUTES_15_MS: u64 = 900_000;
const LOST_AT_MS: u64 = 10_000;

fn node(at_ms: u64, index: u32, ready: &str, taints: &[&str]) -> NodeState {
    NodeState {
        at_ms,
        node: format!("worker-{index}"),
        ready: ready.to_owned(),
        taints: taints.iter().map(|taint| format!("node.kubernetes.io/unreachable:{taint}")).collect(),
        pressure: Vec::new(),
        unschedulable: false,
        zone: zone(index).to_owned(),
    }
}

fn zone(index: u32) -> &'static str {
    ["a", "b", "c"][index as usize % 3]
}

fn pod(at_ms: u64, index: u32, node: &str, status: &str, available: bool) -> PodState {
    let workload = index % 500;
    PodState {
        at_ms,
        uid: format!("uid-{index}"),
        namespace: "default".to_owned(),
        name: format!("load-{workload}-{index}"),
        workload: format!("deployment/load-{workload}"),
        node: node.to_owned(),
        status: status.to_owned(),
        ready: u32::from(status == "Running"),
        containers: 1,
        available,
        restarts: 0,
        ip: "10.1.2.3".to_owned(),
    }
}

/// Zone b goes at 10 s; nodes are seen from 56 s on, tainted NoExecute one in 10 s, evicted 300 s later.
pub fn outage() -> Record {
    let mut record = Record::new("zone-outage", WorldKind::Sim, Some(1), "2026-11-24T09:00:00Z".parse().unwrap());
    "One of three zones goes dark under 5,000 nodes and 100,000 pods.".clone_into(&mut record.description);
    record.took_ms = LOST_AT_MS + MINUTES_15_MS;
    let lost: Vec<u32> = (0..NODES).filter(|index| zone(*index) == "b").collect();
    let mut fault = Entry::new(LOST_AT_MS, EntryKind::Fault, "drill", "zone/b", "every machine of zone b loses power");
    "zone".clone_into(&mut fault.step);
    fault.machines = lost.iter().map(|index| format!("worker-{index}")).collect();
    record.timeline.push(fault);
    record.nodes.extend((0..NODES).map(|index| node(0, index, "True", &[])));
    record.pods.extend((0..PODS).map(|index| pod(0, index, &format!("worker-{}", index % NODES), "Running", true)));
    record.replicas.extend((0..500).map(|index| ReplicaState {
        at_ms: 0,
        workload: format!("default/deployment/load-{index}"),
        desired: 200,
        available: 200,
    }));
    let (mut nodes, mut pods, mut fresh) = (Vec::new(), Vec::new(), PODS);
    for (order, index) in lost.iter().copied().enumerate() {
        let order = order as u64;
        let name = format!("worker-{index}");
        let seen = 56_000 + order % 5000;
        nodes.push(node(seen, index, "Unknown", &["NoSchedule"]));
        record.timeline.push(Entry::new(
            seen,
            EntryKind::Change,
            "node-controller",
            &format!("node/{name}"),
            "Ready True → Unknown",
        ));
        let tainted = 56_000 + order * 10_000;
        if tainted < record.took_ms {
            nodes.push(node(tainted.max(seen), index, "Unknown", &["NoExecute", "NoSchedule"]));
        }
        for of_node in (index..PODS).step_by(NODES as usize) {
            // 20 pods a second: what the controller's client may write.
            pods.push(pod(seen + order * 500, of_node, &name, "Running", false));
            let evicted = tainted.max(seen) + 300_000;
            if evicted < record.took_ms {
                pods.push(pod(evicted, of_node, &name, "Terminating", false));
                fresh += 1;
                let successor = format!("worker-{}", (index + 1) % NODES);
                let mut made = pod(evicted + 100, fresh, &successor, "ContainerCreating", false);
                made.workload = format!("deployment/load-{}", of_node % 500);
                pods.push(made.clone());
                (made.at_ms, made.status, made.available) = (evicted + 2000, "Running".to_owned(), true);
                pods.push(made);
            }
        }
    }
    pods.retain(|state| state.at_ms <= record.took_ms);
    nodes.sort_by_key(|state| state.at_ms);
    pods.sort_by_key(|state| state.at_ms);
    record.nodes.extend(nodes);
    record.pods.extend(pods);
    record.timeline.sort_by_key(|entry| entry.at_ms);
    record.replicas.extend((0..500u64).map(|index| ReplicaState {
        at_ms: 60_000 + index * 100,
        workload: format!("default/deployment/load-{index}"),
        desired: 200,
        available: 134,
    }));
    record.requests.extend((0..910u64).map(|second| Request {
        at_ms: second * 1000,
        probe: "web".to_owned(),
        took_ms: 3,
        error: ((10..56).contains(&second) && second % 3 == 0).then(|| "no answer within 1s".to_owned()),
        by: String::new(),
    }));
    record
}
