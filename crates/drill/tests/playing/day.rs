//! A worker dies and comes back, under probes and a writer.

use daruma_drill::checks::judge_all;
use daruma_drill::record::EntryKind;

use crate::bench::{Bench, drill, says, timeline};

const DAY: &str = "
  probes:
  - {name: web, http: {to: {service: web}}}
  - {name: worker-0, http: {to: {service: web, node: worker-0}}}
  - {name: inside, from: worker-0, http: {to: {service: web, via: clusterIp}}}
  - {name: name, from: worker-0, dns: {name: web.default.svc.cluster.local}}
  - {name: api, tcp: {address: '10.88.0.20:10250'}}
  - {name: orders, write: {}}
  steps:
  - {name: before, view: get pods -o wide}
  - {at: 10s, fault: power-off, target: {machine: worker-1}, for: 8m}
  - {waitFor: {nodeNotReady: worker-1, limit: 2m}}
  - {waitFor: {event: {reason: TaintManagerEviction}, limit: 6m}}
  - {waitFor: {pods: {workload: deployment/web, status: [Running], node: worker-0, count: {exactly: 4}}, limit: 1m}}
  - {view: get nodes}
  - {waitFor: {nodeReady: worker-1, limit: 10m}}
  - {waitFor: {available: deployment/web, limit: 1m}}
  - {restart: deployment/web}
  - {waitFor: {available: deployment/web, limit: 3m}}
  checks:
  - nodeDetectedWithin: {after: power-off, limit: 60s}
  - nothingAcknowledgedLost: {}
  - nothingLeftBehind: {}
";

#[test]
fn a_worker_dies_and_comes_back() {
    let drill = drill(DAY);
    let (record, lines) = Bench::new(7).play(&drill, None);
    assert_eq!(record.aborted, None, "{}", timeline(&record));
    let of_the_axis = |entry: &&daruma_drill::record::Entry| entry.at_ms > 0;
    assert_eq!(lines.0.iter().filter(of_the_axis).count(), record.timeline.iter().filter(of_the_axis).count());
    says(&record, EntryKind::Fault, "node/worker-1: power-off");
    says(&record, EntryKind::Undo, "node/worker-1: worker-1 has power again");
    says(&record, EntryKind::Change, "node/worker-1: Ready True → Unknown");
    says(&record, EntryKind::Change, "taint +node.kubernetes.io/unreachable:NoExecute");
    says(&record, EntryKind::Change, "1/1 Running → 1/1 Terminating");
    says(&record, EntryKind::Change, "service/web: 2 of 4 endpoints are ready");
    says(&record, EntryKind::Event, "node/worker-1: Node worker-1 status is now: NodeNotReady");
    says(&record, EntryKind::View, "NAME                   READY   STATUS    RESTARTS   AGE");
    says(&record, EntryKind::Step, "deployment/web: restarted");
    for (probe, fails) in [("web", true), ("worker-0", true), ("inside", true), ("name", true), ("api", false)] {
        let of_probe: Vec<_> = record.requests.iter().filter(|request| request.probe == probe).collect();
        assert!(of_probe.len() > 400, "{probe}: {}", of_probe.len());
        let failed: Vec<_> = of_probe.iter().filter(|request| request.error.is_some()).collect();
        assert_eq!(!failed.is_empty(), fails, "{probe}: {:?}", failed.iter().take(3).collect::<Vec<_>>());
        assert!(failed.len() < of_probe.len() / 2, "{probe}: {} of {}, {:?}", failed.len(), of_probe.len(), failed[0]);
    }
    assert!(record.requests.iter().any(|request| request.by.starts_with("web-")));
    assert!(record.writes.len() > 400 && record.writes.iter().all(|write| write.kept), "{}", record.writes.len());
    assert!(record.replicas.iter().any(|one| one.workload == "default/deployment/web" && one.available == 2));
    let verdicts = judge_all(&drill.spec.checks, &record);
    assert!(verdicts.iter().all(|verdict| verdict.held), "{verdicts:#?}\n{}", timeline(&record));
}

#[test]
fn a_seed_run_twice_gives_one_and_the_same_record() {
    let short = drill(
        "
  probes: [{name: web, http: {to: {service: web}}}]
  steps:
  - {at: 5s, fault: reset, target: {nodeOf: {workload: deployment/web}}}
  - {fault: force-delete-pod, target: {pod: {workload: deployment/web, nth: 1}}}
  - {sleep: 30s}
",
    );
    let play = |seed| serde_json::to_string(&Bench::new(seed).play(&short, None).0).unwrap();
    let first = play(3);
    assert!(first == play(3), "two records of one seed differ");
    assert!(first != play(4), "two seeds gave one record");
}
