//! Figures of the story's day and of compared runs.

use std::collections::BTreeMap;

use daruma_drill::compare::{Row, grid, table};
use daruma_drill::figures::Figures;

use crate::golden;
use crate::outage::outage;
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
