//! A table a check: what is asked of a record, whether it held, and what is said.

use daruma_drill::checks::{Check, Known};
use daruma_drill::record::Record;

use crate::outage::outage;
use crate::records::Pen;
use crate::story::story;

/// Judges one check written as in a drill.
fn check(record: &Record, yaml: &str, held: bool, said: &str) {
    let check: Check = serde_yaml_ng::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
    let verdict = check.judge(record);
    assert_eq!((verdict.held, verdict.text.contains(said)), (held, true), "{yaml}\n{}\nwanted: {said}", verdict.text);
}

#[test]
fn the_storys_day() {
    let record = story();
    for (yaml, held, said) in [
        ("nodeDetectedWithin: {after: power-off, limit: 60s}", true, "worker-1 after 45.6 s"),
        ("nodeDetectedWithin: {after: power-off, limit: 45s}", false, "worker-1 after 45.6 s"),
        ("nodeDetectedWithin: {after: reset, node: worker-0, limit: 45s}", false, "never seen"),
        ("nodeDetectedWithin: {after: restart, limit: 45s}", false, "acted on no machine"),
        ("nodeDetectedWithin: {after: flood, limit: 45s}", false, "step flood was never reached"),
        ("staysReady: {node: worker-1, after: reset, until: power-off}", true, "Ready throughout 30.0 s"),
        ("staysReady: {node: worker-1, after: reset}", false, "not Ready 1 min 15.6 s after"),
        ("evictedWithin: {after: power-off, notBefore: 300s, limit: 365s}", true, "2 pods after 5 min 45.6 s"),
        ("evictedWithin: {after: power-off, notBefore: 346s, limit: 365s}", false, "2 pods after 5 min 45.6 s"),
        ("evictedWithin: {after: power-off, limit: 340s}", false, "after 5 min 45.6 s"),
        ("evictedWithin: {after: reset, node: controller-0, limit: 340s}", false, "no pod to evict"),
        ("recoveredWithin: {after: power-off, limit: 400s}", true, "all available again after 5 min 47.1 s"),
        ("recoveredWithin: {after: power-off, limit: 300s}", false, "5 min 47.1 s"),
        ("recoveredWithin: {after: reset, limit: 10s, workload: deployment/kubernetes-bootcamp}", true, "after 8.6 s"),
        ("recoveredWithin: {after: reset, limit: 10s, workload: deployment/other}", false, "never seen"),
        ("availableAtLeast: {probe: worker-1, percent: 15}", true, "386 of 480 requests failed; longest down 6 min 17.0 s"),
        ("availableAtLeast: {probe: worker-0, percent: 90, neverDownLongerThan: 1s}", true, "longest down 1.0 s"),
        ("availableAtLeast: {probe: worker-0, percent: 99}", false, "16 of 480 requests failed"),
        (
            "availableAtLeast: {workload: deployment/kubernetes-bootcamp, percent: 65, neverDownLongerThan: 0s}",
            true,
            "below its desired replicas for 5 min 10.4 s; never down",
        ),
        (
            "availableAtLeast: {workload: deployment/kubernetes-bootcamp, percent: 10, minimum: 3, neverDownLongerThan: 5m}",
            false,
            "longest down 5 min 1.5 s",
        ),
        (
            "noLongerOutage: {probe: worker-1, limit: 10s, until: power-off}",
            true,
            "longest outage 9.0 s from 30.0 s on (9 failed: no answer within 1s)",
        ),
        ("noLongerOutage: {probe: worker-1, limit: 10s}", false, "longest outage 6 min 17.0 s"),
        ("noLongerOutage: {probe: worker-0, limit: 1s, after: power-on}", true, "were answered"),
        ("failedRequestsAtMost: {probe: worker-0, count: 16}", true, "16 of 480 requests failed (3.33 %)"),
        ("failedRequestsAtMost: {probe: worker-0, percent: 3}", false, "the first: no answer within 1s"),
        ("failedRequestsAtMost: {probe: nobody, count: 3}", false, "sent no request"),
        ("replicasKept: {replicas: 4, neverBelow: 2}", true, "4 of 4 available, lowest 2 at 37.2 s"),
        ("replicasKept: {neverBelow: 3}", false, "lowest 2"),
        ("replicasKept: {at: noticed}", false, "2 of 4 available"),
        (
            "spread: {workload: deployment/kubernetes-bootcamp, exactly: {worker-0: 2, worker-1: 2}}",
            true,
            "worker-0 2, worker-1 2 (skew 0)",
        ),
        ("spread: {workload: deployment/kubernetes-bootcamp, at: restart, exactly: {worker-0: 4, worker-1: 0}}", true, "skew 4"),
        ("spread: {workload: deployment/kubernetes-bootcamp, at: restart, maxSkew: 1}", false, "worker-0 4, worker-1 0"),
        (
            "restarts: {node: worker-1, eachPod: {exactly: 1}, after: reset, until: power-off}",
            true,
            "1 in each of 2 pods, 2 in total",
        ),
        ("restarts: {total: {exactly: 0}}", false, "2 in total"),
        ("restarts: {node: worker-0, eachPod: {atMost: 0}}", true, "0 in each of"),
        (
            "statusesInOrder: {workload: deployment/kubernetes-bootcamp, after: reset, until: power-off, node: worker-1, statuses: [Error|Unknown, Running]}",
            true,
            "2 of 2 pods",
        ),
        (
            "statusesInOrder: {workload: deployment/kubernetes-bootcamp, after: power-off, node: worker-1, statuses: [Running, Terminating, Deleted], pods: {exactly: 2}}",
            true,
            "Running → Terminating → Deleted",
        ),
        (
            "statusesInOrder: {workload: deployment/kubernetes-bootcamp, after: power-off, until: restart, of: new, statuses: [ContainerCreating, Running], pods: {exactly: 2}}",
            true,
            "2 of 2",
        ),
        (
            "statusesInOrder: {workload: deployment/kubernetes-bootcamp, after: power-off, until: power-on, statuses: [Running, Terminating]}",
            false,
            "2 of 4 pods",
        ),
        (
            "eventsSeen: {after: power-off, inOrder: true, events: [{reason: NodeNotReady, regarding: node/worker-1}, {reason: TaintManagerEviction, times: {exactly: 2}}, {reason: SuccessfulCreate}]}",
            true,
            "TaintManagerEviction: 2 times",
        ),
        (
            "eventsSeen: {after: power-off, inOrder: true, events: [{reason: TaintManagerEviction}, {reason: NodeNotReady}]}",
            false,
            "not after the one before it",
        ),
        ("eventsSeen: {events: [{reason: Rebooted, by: kubelet, regarding: node/*, times: {exactly: 1}}]}", false, "2 times"),
        ("eventsSeen: {events: [{reason: Evicted, times: {exactly: 0}}]}", true, "Evicted: not seen"),
        ("nothingAcknowledgedLost: {}", true, "all 48 acknowledged writes are there"),
        ("nothingAcknowledgedLost: {writer: nobody}", false, "no write was acknowledged"),
        ("nothingLeftBehind: {}", true, "nothing"),
        ("notEvictedMoreThan: {after: power-off, evictedPods: {exactly: 2}}", true, "(2 pods)"),
        ("notEvictedMoreThan: {after: power-off, by: 20m, evictedPods: {exactly: 2}}", false, "the run ended"),
    ] {
        check(&record, yaml, held, said);
    }
}

#[test]
fn what_is_lost_or_left_behind_is_named() {
    let mut record = story();
    record.writes[3].kept = false;
    record.left_behind = vec!["container web of pod x lives on".to_owned(), "a file".to_owned()];
    check(
        &record,
        "nothingAcknowledgedLost: {writer: orders}",
        false,
        "1 of 48 acknowledged writes are lost; the first: configmap/default/orders-3",
    );
    check(&record, "nothingLeftBehind: {}", false, "lives on; and 1 more");
}

#[test]
fn a_workload_that_does_not_come_back() {
    let mut pen = Pen::new("x");
    pen.at(0.0).replicas("default/deployment/web", 3, 3).fault("cut", "node/w", "cut", &["w"]);
    pen.at(5.0).replicas("default/deployment/web", 3, 1);
    let record = pen.end(100.0);
    check(&record, "recoveredWithin: {after: cut, limit: 400s}", false, "still 1 of 3 available after 1 min 40.0 s");
    check(&record, "recoveredWithin: {after: cut, limit: 3s}", true, "no workload fell");
}

#[test]
fn a_lost_zone_is_explained() {
    let record = outage();
    check(
        &record,
        "notEvictedMoreThan: {after: zone, by: 15m, taintedNodes: {atLeast: 80, atMost: 90}, evictedNodes: {atLeast: 50, atMost: 60}}",
        true,
        "of 1667 nodes lost, 86 carry a NoExecute taint and 56 are evicted (1120 pods). NoExecute taints are added at 0.1 nodes/s a zone",
    );
    check(
        &record,
        "notEvictedMoreThan: {after: zone, evictedPods: {atMost: 100}}",
        false,
        "all 1667 nodes would take 4 h 37 min",
    );
    check(&record, "nodeDetectedWithin: {after: zone, limit: 60s}", true, "all 1667 nodes, the last");
}

#[test]
fn what_cannot_be_evaluated_is_refused() {
    let known = Known {
        steps: ["off", "on"].map(str::to_owned).into(),
        probes: ["web"].map(str::to_owned).into(),
        writers: [].into(),
        workloads: Some(["default/deployment/web"].map(str::to_owned).into()),
        nodes: Some(["worker-0", "worker-1"].map(str::to_owned).into()),
    };
    for (yaml, said) in [
        ("recoveredWithin: {after: of, limit: 5s}", "after: no step \"of\"; there is off, on"),
        ("recoveredWithin: {after: off, limit: 0}", "limit: nothing happens within no time"),
        ("recoveredWithin: {after: off, limit: 5s, workload: deployment/wob}", "no workload"),
        ("availableAtLeast: {percent: 101, probe: web}", "no share in percent"),
        ("availableAtLeast: {percent: 99}", "probe or workload"),
        ("availableAtLeast: {percent: 99, probe: web, minimum: 2}", "goes with workload"),
        ("noLongerOutage: {probe: wob, limit: 5s}", "no probe \"wob\"; there is web"),
        ("failedRequestsAtMost: {probe: web}", "count or percent"),
        ("replicasKept: {replicas: 2, neverBelow: 3}", "neverBelow: 3 is more than"),
        ("spread: {workload: deployment/web}", "maxSkew or exactly"),
        ("spread: {workload: deployment/web, exactly: {worker-7: 1}}", "no node \"worker-7\""),
        ("restarts: {eachPod: {atLeast: 3, atMost: 2}}", "contradicts itself"),
        ("restarts: {total: {}}", "says neither"),
        ("eventsSeen: {events: []}", "none is named"),
        ("eventsSeen: {inOrder: true, events: [{reason: A, times: {exactly: 0}}]}", "no place in an order"),
        ("evictedWithin: {after: off, limit: 5s, notBefore: 6s}", "later than the limit"),
        ("statusesInOrder: {workload: deployment/web, statuses: [Running, \"\"]}", "empty word"),
        ("nothingAcknowledgedLost: {}", "no probe of this drill writes"),
        ("notEvictedMoreThan: {after: off}", "one of them is needed"),
        ("nodeDetectedWithin: {after: off, limit: 5s, node: master}", "no node \"master\""),
        ("staysReady: {until: never}", "no step \"never\""),
    ] {
        let check: Check = serde_yaml_ng::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
        let complaints = check.validate(&known);
        assert!(complaints.iter().any(|complaint| complaint.contains(said)), "{yaml}: {complaints:?}");
    }
}
