//! Figures of the story's day and of compared runs.

use std::collections::BTreeMap;

use daruma_drill::compare::{Row, grid, table};
use daruma_drill::figures::Figures;
use daruma_drill::record::PodState;

use crate::golden;
use crate::outage::outage;
use crate::records::Pen;
use crate::story::story;

#[test]
fn of_the_storys_day() {
    let figures = Figures::of(&story());
    golden::check("figures.txt", &daruma_drill::report::terminal::figures(&figures));
    let off = figures.faults.iter().find(|fault| fault.step == "power-off").unwrap();
    assert_eq!(
        (
            off.detected_after_ms,
            off.evicted_after_ms,
            off.evicted_pods,
            off.replaced_after_ms,
            off.back_after_ms,
            off.undone_after_ms
        ),
        (Some(45_600), Some(345_600), 2, Some(347_100), Some(347_100), Some(370_000))
    );
    let reset = figures.faults.iter().find(|fault| fault.step == "reset").unwrap();
    assert_eq!((reset.detected_after_ms, reset.evicted_after_ms, reset.back_after_ms), (None, None, Some(8600)));
}

#[test]
fn of_a_lost_zone() {
    let figures = Figures::of(&outage());
    let headline = figures.headline();
    assert_eq!(headline.detected_after_ms, Some(46_000));
    assert!(!headline.recovered && headline.back_after_ms.is_none(), "{headline:?}");
    assert_eq!((figures.workloads.len(), figures.faults[0].evicted_pods), (500, 56 * 20));
}

#[test]
fn compared() {
    let axes = [
        ("grace".to_owned(), vec!["40s".to_owned(), "50s".to_owned()]),
        ("tolerationSeconds".to_owned(), vec!["30".to_owned(), "300".to_owned()]),
        ("replicas".to_owned(), vec!["4".to_owned()]),
    ];
    let points = grid(&axes);
    assert_eq!(points.len(), 4);
    let mut rows: Vec<Row> = points.into_iter().map(|point| Row::of(point, &story())).collect();
    rows[3].aborted = Some("worker-1 did not come back".to_owned());
    rows[2].headline.recovered = false;
    golden::check("compare.txt", &table(&rows));
    assert_eq!(grid(&[]), vec![BTreeMap::new()]);
}

/// A full disk leaves a node Ready: what the cluster notices is the condition, and evicted pods are neither Terminating nor gone.
#[test]
fn of_a_full_disk() {
    let mut pen = Pen::new("short-of-disk");
    let on = |node: &'static str| {
        move |pod: &mut PodState| {
            (pod.node, pod.status) = (node.to_owned(), "Running".to_owned());
            pod.available = true;
        }
    };
    pen.node("worker-0", "True", &[]).node("worker-1", "True", &[]).replicas("default/deployment/kubernetes-bootcamp", 2, 2);
    pen.pod("web-0", on("worker-0")).pod("web-1", on("worker-1"));
    pen.at(10.0).fault("disk-full", "node/worker-1", "disk-full: disk full", &["worker-1"]);
    pen.at(17.0).node("worker-1", "True", &["node.kubernetes.io/disk-pressure:NoSchedule"]);
    pen.record.nodes.last_mut().unwrap().pressure = vec!["DiskPressure".to_owned()];
    pen.at(18.0).replicas("default/deployment/kubernetes-bootcamp", 2, 1).pod("web-1", |pod| {
        (pod.status, pod.available) = ("Completed".to_owned(), false);
    });
    // The Event comes by its own way.
    pen.pod("web-2", |pod| pod.node = "worker-0".to_owned());
    pen.at(18.2).event("kubelet", "pod/web-1", "Evicted", "The node was low on resource: ephemeral-storage.");
    pen.at(20.0).pod("web-2", on("worker-0")).replicas("default/deployment/kubernetes-bootcamp", 2, 2);
    pen.at(30.0).undo("disk-full", "node/worker-1", "pressure on worker-1 ends", &["worker-1"]);
    let figures = Figures::of(&pen.end(40.0));
    let fault = &figures.faults[0];
    assert_eq!(
        (fault.detected_after_ms, fault.evicted_after_ms, fault.evicted_pods, fault.replaced_after_ms, fault.back_after_ms),
        (Some(7000), Some(8200), 1, Some(10_000), Some(10_000))
    );
}
