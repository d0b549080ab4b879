//! Built-in drills played in the virtual world: every check holds, and each reports.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use daruma_drill::builtin;
use daruma_drill::record::Entry;
use daruma_drill::report::html;
use daruma_drill::report::terminal::{Style, line, summary};
use daruma_drill::{Progress, WorldKind};
use daruma_rehearsal::Rehearsal;

struct Silent;

impl Progress for Silent {
    fn entry(&mut self, _: &Entry) {}
}

/// Plays a built-in drill; `DARUMA_KEEP_PICTURES=FOLDER` keeps its report.
fn check(name: &str) {
    let builtin = builtin::find(name).unwrap();
    assert_ne!(builtin.only_in, Some(WorldKind::Real));
    let drill = builtin.drill(&BTreeMap::new()).unwrap();
    let rehearsed = Rehearsal { seed: 7, invariants: true, keeps_log: false }.play(&drill, &mut Silent, &|| false).unwrap();
    let report = rehearsed.report(&drill);
    if let Some(folder) = std::env::var_os("DARUMA_KEEP_PICTURES") {
        fs::create_dir_all(&folder).unwrap();
        fs::write(Path::new(&folder).join(format!("{name}.html")), html(&report)).unwrap();
    }
    let lines: String = report.record.timeline.iter().map(|entry| line(entry, Style::Plain)).collect();
    assert!(report.held, "{lines}\n{}", summary(&report, Style::Plain));
}

macro_rules! drills {
    ($($test:ident => $name:literal),* $(,)?) => {
        $(#[test] fn $test() { check($name); })*
    };
}

drills! {
    start => "start",
    force_delete => "force-delete",
    reset => "reset",
    power_off => "power-off",
    rolling_restart => "rolling-restart",
    story => "story",
    load_balancer => "load-balancer",
    rebalancer => "rebalancer",
    short_of_memory => "short-of-memory",
    short_of_disk => "short-of-disk",
    short_of_cpu => "short-of-cpu",
    partition => "partition",
    hang => "hang",
    rolling_restart_under_load => "rolling-restart-under-load",
    statefulset_node_lost => "statefulset-node-lost",
    statefulset_out_of_service => "statefulset-out-of-service",
    control_plane => "control-plane",
    slow_store => "slow-store",
    zone_mostly_gone => "zone-mostly-gone",
}

#[test]
#[ignore = "a minute in a development build"]
fn large_zone_mostly_gone() {
    check("large-zone-mostly-gone");
}
