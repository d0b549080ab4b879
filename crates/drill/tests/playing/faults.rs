//! Every fault is made and taken back.

use daruma_drill::record::{EntryKind, Record};

use crate::bench::{Bench, drill, says, timeline};

/// Plays steps on a fresh cluster; nothing may be left of what they did.
fn play(steps: &str) -> Record {
    let drill = drill(&format!("\n  steps:\n{steps}\n  convergeWithin: 10m\n"));
    let (record, _) = Bench::new(11).play(&drill, None);
    assert_eq!(record.aborted, None, "{steps}\n{}", timeline(&record));
    assert_eq!(record.left_behind, Vec::<String>::new(), "{steps}\n{}", timeline(&record));
    let unsettled = record.timeline.iter().any(|entry| entry.text.starts_with("not as specified"));
    assert!(!unsettled, "{steps}\n{}", timeline(&record));
    record
}

#[test]
fn of_pods() {
    let record = play(
        "
  - {fault: delete-pod, target: {pod: {workload: deployment/web}}}
  - {waitFor: {available: deployment/web}}
  - {fault: force-delete-pod, target: {pod: {selector: app=web, nth: 1}}}
  - {sleep: 10s}
  - {waitFor: {available: deployment/web}}
  - {fault: kill-container, target: {pod: {workload: deployment/web}}}
  - {sleep: 30s}
  - {waitFor: {available: deployment/web}}
  - {fault: readiness-failure, target: {pod: {workload: deployment/web}}}
  - {waitFor: {pods: {workload: deployment/web, ready: false, count: {exactly: 1}}}}
  - {undo: readiness-failure}
  - {waitFor: {available: deployment/web}}",
    );
    says(&record, EntryKind::Fault, "force-delete-pod: force deleted on worker-");
    says(&record, EntryKind::Step, "s after the pod was gone from the API");
    says(&record, EntryKind::Change, "restarts 1");
}

#[test]
fn of_workloads() {
    let record = play(
        "
  - {fault: image-pull-failure, target: {workload: deployment/web}}
  - {waitFor: {pods: {workload: deployment/web, status: [ErrImagePull, ImagePullBackOff], count: {atLeast: 1}}}}
  - {undo: image-pull-failure}
  - {waitFor: {available: deployment/web}}
  - {fault: out-of-memory, target: {workload: deployment/web}}
  - {waitFor: {pods: {workload: deployment/web, status: [OOMKilled, CrashLoopBackOff], count: {atLeast: 1}}}}
  - {undo: out-of-memory}
  - {waitFor: {available: deployment/web}}",
    );
    says(&record, EntryKind::Undo, "deployments/web is as before");
}

#[test]
fn of_machines() {
    let record = play(
        "
  - {fault: reset, target: {machine: worker-0}}
  - {waitFor: {event: {reason: Rebooted, about: node/worker-0, ever: true}}}
  - {fault: hang, target: {machine: worker-1}}
  - {waitFor: {nodeNotReady: worker-1}}
  - {fault: resume, target: {machine: worker-1}}
  - {waitFor: {nodeReady: worker-1}}
  - {fault: reboot, target: {machine: worker-1}}
  - {fault: shutdown, target: {machine: worker-1}}
  - {sleep: 10s}
  - {fault: power-on, target: {machine: worker-1}}
  - {fault: disk-full, target: {machine: worker-0}}
  - {waitFor: {event: {reason: NodeHasDiskPressure}}}
  - {undo: disk-full}
  - {fault: inodes-full, target: {machine: worker-0}, for: 5s}
  - {fault: cpu-starvation, target: {machine: worker-0}, for: 5s}
  - {fault: pid-exhaustion, target: {machine: worker-0}, for: 5s}
  - {fault: clock-skew, target: {machine: worker-0}, with: {offsetMs: -1500}, for: 5s}
  - {fault: store-slow, for: 5s}
  - {sleep: 20s}",
    );
    says(&record, EntryKind::Undo, "node/worker-0: pressure on worker-0 ends");
    says(&record, EntryKind::Undo, "the clock of worker-0 is right again");
}

#[test]
fn of_links() {
    let record = play(
        "
  - {fault: cut, target: {machine: worker-1}}
  - {waitFor: {nodeNotReady: worker-1}}
  - {undo: cut}
  - {waitFor: {nodeReady: worker-1}}
  - {fault: cut-one-way, target: {machine: worker-1}, for: 10s}
  - {fault: partition, target: {machine: worker-0, to: {machine: worker-1}}, for: 10s}
  - {fault: loss, target: {machine: worker-1}, with: {percent: 10}, for: 10s}
  - {fault: delay, target: {machine: worker-1}, with: {time: 20ms}, for: 10s}
  - {fault: bandwidth, target: {machine: worker-1}, with: {bitsPerSecond: 10000000}}
  - {sleep: 20s}
  - {fault: mend}",
    );
    says(&record, EntryKind::Fault, "cut: worker-1 ↔ everybody");
    says(&record, EntryKind::Undo, "links are mended");
}

#[test]
fn of_software() {
    let record = play(
        "
  - {fault: kubelet, target: {machine: worker-1}, with: {how: stop}}
  - {waitFor: {nodeNotReady: worker-1}}
  - {undo: kubelet}
  - {waitFor: {nodeReady: worker-1}}
  - {fault: container-engine, target: {machine: worker-1}, with: {how: pause}, for: 10s}
  - {fault: kube-proxy, target: {machine: worker-0}, with: {how: kill}}
  - {fault: network-agent, target: {machine: worker-0}, with: {how: restart}}
  - {fault: dns, with: {how: kill}}
  - {fault: scheduler, with: {how: pause}, for: 20s}
  - {fault: controller-manager, with: {how: kill}}
  - {fault: api-server, with: {how: kill}}
  - {sleep: 60s}",
    );
    says(&record, EntryKind::Undo, "kubelet on worker-1 starts");
    says(&record, EntryKind::Fault, "api-server: kube-apiserver killed");
}

#[test]
fn of_changes() {
    let record = play(
        "
  - {cordon: {machine: worker-1}}
  - {uncordon: {machine: worker-1}}
  - {scale: {workload: deployment/web, replicas: 6}}
  - {waitFor: {available: deployment/web}}
  - {patch: {kind: Node, name: worker-0, patch: {metadata: {labels: {disk: fast}}}}}
  - {view: get nodes -l disk=fast}
  - {view: top nodes}
  - {apply: [{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, data: {a: b}}]}
  - {apply: [{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, data: {a: c}}]}
  - {delete: [{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}]}",
    );
    for text in ["configmap/x: created", "configmap/x: configured", "configmap/x: deleted", "deployment/web: scaled to 6"] {
        says(&record, EntryKind::Step, text);
    }
    says(&record, EntryKind::View, "worker-0   Ready    <none>");
}

/// Where a pod is, only the running cluster knows.
#[test]
fn that_do_not_reach_a_node() {
    let rest = "
  - apiVersion: v1
    kind: Pod
    metadata: {name: one, labels: {app: one}}
    spec:
      tolerations: [{operator: Exists}]
      affinity:
        nodeAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - {weight: 100, preference: {matchExpressions: [{key: type, operator: In, values: [simulated]}]}}
      containers: [{name: one, image: 'gcr.io/google-samples/kubernetes-bootcamp:v1'}]
  cluster: {simulated: 1}
  steps:
  - {waitFor: {pods: {selector: app=one, ready: true, count: {exactly: 1}}}}
  - {fault: kube-proxy, target: {nodeOf: {name: one}}, with: {how: kill}}
";
    let bench = Bench::with(daruma_rehearsal::Options { seed: 12, simulated: 1, ..Default::default() });
    let (record, _) = bench.play(&drill(rest), None);
    let why = "step kube-proxy: kube-proxy does not run on simulated-0: it is simulated";
    assert_eq!(record.aborted.as_deref(), Some(why), "{}", timeline(&record));
}
