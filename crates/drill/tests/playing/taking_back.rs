//! What was broken is taken back: at the end, when a step fails, when somebody interrupts, and after a kill.

use std::path::Path;
use std::time::Duration;

use daruma_drill::record::EntryKind;
use daruma_drill::{Options, WorldKind, preflight, run_with, undo};
use daruma_world::machines::PowerState;

use crate::bench::{Bench, Lines, drill, says, timeline};

const OUT: &str = "
  steps:
  - {fault: power-off, target: {machine: worker-1}}
  - {fault: hang, target: {machine: worker-0}}
  - {fault: cut, target: {machine: controller-0, to: {machine: worker-0}}}
  - {fault: scheduler, with: {how: pause}}
";

impl Bench {
    fn powers(&self) -> Vec<PowerState> {
        self.cluster.run(self.stage.machines.list()).unwrap().into_iter().map(|machine| machine.power).collect()
    }
}

#[test]
fn in_reverse_order_when_a_step_fails() {
    let bench = Bench::new(1);
    let (record, _) = bench.play(&drill(&format!("{OUT}  - {{waitFor: {{nodeReady: worker-1, for: 5m, limit: 10s}}}}\n")), None);
    assert_eq!(record.aborted.as_deref(), Some("waited 10s in vain: worker-1 is Ready for 5m"), "{}", timeline(&record));
    let undone: Vec<_> =
        record.timeline.iter().filter(|entry| entry.kind == EntryKind::Undo).map(|entry| entry.text.as_str()).collect();
    assert!(undone[0].starts_with("container ") && undone[0].ends_with(" on controller-0 goes on"), "{undone:?}");
    assert_eq!(undone[1..], ["2 links are mended", "worker-0 goes on", "worker-1 has power again"]);
    assert_eq!(bench.powers(), [PowerState::On; 3]);
}

#[test]
fn when_somebody_interrupts() {
    let bench = Bench::new(1);
    let (record, _) = bench.play(&drill(&format!("{OUT}  - {{sleep: 10m}}\n")), Some(Duration::from_secs(60)));
    assert_eq!(record.aborted.as_deref(), Some("interrupted"));
    assert_eq!(bench.powers(), [PowerState::On; 3], "{}", timeline(&record));
    assert!(record.took_ms < 90_000, "{}", record.took_ms);
}

#[test]
fn when_the_time_is_over() {
    let (record, _) = Bench::new(1).play(&drill("\n  steps: [{sleep: 1m}]\n  limit: 30s\n"), None);
    assert_eq!(record.aborted.as_deref(), Some("the steps took more than 30s (spec.limit)"));
}

#[test]
fn by_the_next_command_after_a_kill() {
    let bench = Bench::new(1);
    let journal = Path::new("/undo.json");
    let (stage, drill) = (bench.stage.clone(), drill(&format!("{OUT}  - {{sleep: 10m}}\n")));
    let killed = bench.stage.world.spawn("a drill", async move {
        let options = Options { journal: Some(journal.to_owned()), ..Options::default() };
        run_with(&stage, &drill, &options, &mut Lines::default(), std::future::pending()).await;
    });
    bench.cluster.run_for(Duration::from_secs(60));
    killed.abort();
    bench.cluster.run_for(Duration::from_secs(1));
    assert_eq!(bench.powers(), [PowerState::On, PowerState::Hung, PowerState::Off]);
    let done = bench.cluster.run(undo::recover(&bench.stage, journal)).unwrap();
    assert_eq!(done.len(), 4, "{done:?}");
    assert_eq!(bench.powers(), [PowerState::On; 3]);
    assert_eq!(bench.cluster.run(undo::recover(&bench.stage, journal)).unwrap(), Vec::<String>::new());
    bench.cluster.run_for(Duration::from_secs(120));
    let (record, _) = bench.play(&crate::bench::drill("\n  steps: [{view: get nodes}]\n"), None);
    says(&record, EntryKind::View, "worker-1       Ready");
}

#[test]
fn what_cannot_be_done_is_refused_before() {
    let mut bench = Bench::new(1);
    let drill = drill("\n  steps: [{note: x}, {fault: clock-skew, target: {machine: worker-0}, with: {offsetMs: 5}}]\n");
    let problems = |world| preflight::problems(&drill, world, &|ability| bench.stage.machines.supports(ability));
    assert_eq!(problems(WorldKind::Sim), []);
    let refused = problems(WorldKind::Real);
    assert_eq!((refused.len(), refused[0].place.as_str()), (1, "spec.steps[1].fault"));
    bench.stage.kind = WorldKind::Real;
    let (record, lines) = bench.play(&drill, None);
    assert!(record.aborted.unwrap().starts_with("refused before anything was touched: spec.steps[1].fault: clock-skew"));
    assert!(lines.0.is_empty());
}
