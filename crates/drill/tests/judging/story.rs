//! A record of the story's day, with the times that the real controllers show.

use daruma_drill::record::{EntryKind, Record, Write};

use crate::records::Pen;

pub const BOOTCAMP: &str = "default/deployment/kubernetes-bootcamp";
const UNREACHABLE: [&str; 2] = ["node.kubernetes.io/unreachable:NoExecute", "node.kubernetes.io/unreachable:NoSchedule"];
const OLD: &str = "kubernetes-bootcamp-69fbc6f4cf-";
const NEW: &str = "kubernetes-bootcamp-7c8d9f6b55-";

fn run(pen: &mut Pen, seconds: f64, name: &str, node: &str, ip: &str) {
    pen.at(seconds).pod(name, |pod| {
        node.clone_into(&mut pod.node);
        "ContainerCreating".clone_into(&mut pod.status);
    });
    pen.at(seconds + 1.4).pod(name, |pod| {
        (pod.status, pod.ready, pod.available, pod.ip) = ("Running".to_owned(), 1, true, ip.to_owned());
    });
}

/// The start, a force delete, a reset, a power cut for good, the return, a rolling restart.
pub fn story() -> Record {
    let mut pen = Pen::new("story");
    "A worker dies in every way that comes to mind: force delete, reset, power cut, return, rolling restart."
        .clone_into(&mut pen.record.description);
    for (name, value) in [("node-monitor-grace-period", "50s"), ("tolerationSeconds", "300"), ("replicas", "4")] {
        pen.record.settings.insert(name.to_owned(), value.to_owned());
    }
    pen.at(0.0).node("controller-0", "True", &["node-role.kubernetes.io/control-plane:NoSchedule"]);
    pen.node("worker-0", "True", &[]).node("worker-1", "True", &[]);
    for (suffix, node, ip) in [
        ("jx8l5", "worker-0", "10.244.1.2"),
        ("5bz9r", "worker-1", "10.244.2.2"),
        ("q2m4w", "worker-0", "10.244.1.3"),
        ("vt7hd", "worker-1", "10.244.2.3"),
    ] {
        pen.pod(&format!("{OLD}{suffix}"), |pod| {
            (pod.node, pod.ip) = (node.to_owned(), ip.to_owned());
            (pod.status, pod.ready, pod.available) = ("Running".to_owned(), 1, true);
        });
    }
    pen.replicas(BOOTCAMP, 4, 4);
    pen.step("start", EntryKind::View, "get pods -o wide\nNAME                                   READY   STATUS    RESTARTS   AGE   IP           NODE\nkubernetes-bootcamp-69fbc6f4cf-5bz9r   1/1     Running   0          18m   10.244.2.2   worker-1\nkubernetes-bootcamp-69fbc6f4cf-jx8l5   1/1     Running   0          18m   10.244.1.2   worker-0");

    // 1. Force delete.
    pen.at(10.0).fault("force-delete", "pod/kubernetes-bootcamp-69fbc6f4cf-q2m4w", "force delete, grace period 0", &["worker-0"]);
    pen.pod(&format!("{OLD}q2m4w"), |pod| "Deleted".clone_into(&mut pod.status)).replicas(BOOTCAMP, 4, 3);
    let first = format!("{OLD}zk9fp");
    pen.event(
        "replicaset-controller",
        "replicaset/kubernetes-bootcamp-69fbc6f4cf",
        "SuccessfulCreate",
        &format!("Created pod: {first}"),
    );
    run(&mut pen, 10.1, &first, "worker-0", "10.244.1.4");
    pen.replicas(BOOTCAMP, 4, 4);

    // 2. Hard reset.
    let both = ["5bz9r", "vt7hd"].map(|suffix| format!("{OLD}{suffix}"));
    pen.at(30.0).fault("reset", "node/worker-1", "hard reset: power cut, and power again after 5 s", &["worker-1"]);
    pen.at(37.2).event("kubelet", "node/worker-1", "Rebooted", "Node worker-1 has been rebooted, boot id: 5a1c…");
    for pod in &both {
        pen.pod(pod, |pod| {
            (pod.status, pod.ready, pod.available) = ("Error".to_owned(), 0, false);
            pod.ip.clear();
        });
    }
    pen.replicas(BOOTCAMP, 4, 2);
    for (index, pod) in both.iter().enumerate() {
        pen.at(38.6).pod(pod, |pod| {
            (pod.status, pod.ready, pod.available, pod.restarts) = ("Running".to_owned(), 1, true, 1);
            pod.ip = format!("10.244.2.{}", 4 + index);
        });
    }
    pen.replicas(BOOTCAMP, 4, 4);

    // 3. Power off for good.
    pen.at(60.0).fault("power-off", "node/worker-1", "power cut", &["worker-1"]);
    pen.at(105.6).node("worker-1", "Unknown", &UNREACHABLE);
    pen.event("node-controller", "node/worker-1", "NodeNotReady", "Node worker-1 status is now: NodeNotReady");
    for pod in &both {
        pen.pod(pod, |pod| pod.available = false);
        pen.event("node-controller", &format!("pod/{pod}"), "NodeNotReady", "Node is not ready");
    }
    pen.replicas(BOOTCAMP, 4, 2);
    pen.step("noticed", EntryKind::Step, "waited until worker-1 is NotReady");
    for pod in &both {
        pen.at(405.6).pod(pod, |pod| "Terminating".clone_into(&mut pod.status));
        pen.event(
            "taint-eviction-controller",
            &format!("pod/{pod}"),
            "TaintManagerEviction",
            &format!("Marking for deletion Pod default/{pod}"),
        );
    }
    let more = ["m4c6n", "x8wqz"].map(|suffix| format!("{OLD}{suffix}"));
    for (index, pod) in more.iter().enumerate() {
        pen.event(
            "replicaset-controller",
            "replicaset/kubernetes-bootcamp-69fbc6f4cf",
            "SuccessfulCreate",
            &format!("Created pod: {pod}"),
        );
        run(&mut pen, 405.7, pod, "worker-0", &format!("10.244.1.{}", 5 + index));
    }
    pen.replicas(BOOTCAMP, 4, 4);
    pen.step("evicted", EntryKind::Step, "waited until four pods run on worker-0");

    pen.at(430.0).undo("power-on", "node/worker-1", "power on", &["worker-1"]);
    pen.at(437.0).node("worker-1", "True", &[]);
    pen.event("kubelet", "node/worker-1", "Rebooted", "Node worker-1 has been rebooted, boot id: 7be2…");
    for pod in &both {
        pen.at(437.4).pod(pod, |pod| "Deleted".clone_into(&mut pod.status));
    }

    // 4. Rolling restart.
    pen.at(460.0).step("restart", EntryKind::Step, "rollout restart deployment/kubernetes-bootcamp");
    let gone = [&first, &format!("{OLD}jx8l5"), &more[0], &more[1]];
    for (index, old) in gone.into_iter().enumerate() {
        let at = 460.2 + 2.0 * index as f64;
        let new = format!("{NEW}{}", ["8hs2k", "bq6zt", "n5c9x", "w7rpl"][index]);
        let node = format!("worker-{}", (index + 1) % 2);
        run(&mut pen, at, &new, &node, &format!("10.244.{}.{}", 2 - index % 2, 8 + index));
        pen.at(at + 1.5).pod(old, |pod| (pod.status, pod.available) = ("Terminating".to_owned(), false));
        pen.at(at + 1.9).pod(old, |pod| "Deleted".clone_into(&mut pod.status));
    }
    pen.at(462.0).replicas(BOOTCAMP, 4, 3);
    pen.at(468.0).replicas(BOOTCAMP, 4, 4);

    let off = |at: u64| (30_000..38_600).contains(&at) || (60_000..437_000).contains(&at);
    pen.requests("worker-0", (0.0, 480.0), 1000, |at| {
        ((60_000..105_600).contains(&at) && at % 3000 == 0).then_some("no answer within 1s")
    });
    pen.requests("worker-1", (0.0, 480.0), 1000, |at| off(at).then_some("no answer within 1s"));
    for number in 0..48u64 {
        let object = format!("configmap/default/orders-{number}");
        pen.record.writes.push(Write { at_ms: number * 10_000, writer: "orders".to_owned(), object, kept: true });
    }
    pen.record.timeline.sort_by_key(|entry| entry.at_ms);
    pen.record.pods.sort_by_key(|state| state.at_ms);
    pen.end(480.0)
}
