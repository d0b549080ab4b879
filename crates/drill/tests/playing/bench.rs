//! A virtual cluster and the drills that are played on it.

use std::collections::BTreeMap;
use std::time::Duration;

use daruma_drill::file::parse;
use daruma_drill::record::{Entry, EntryKind, Record};
use daruma_drill::{Drill, Options, Progress, Stage, WorldKind, run_with};
use daruma_rehearsal::VirtualCluster;

/// The application that the drills break.
pub const WEB: &str = "
  manifests:
  - apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web}
    spec:
      replicas: 4
      selector: {matchLabels: {app: web}}
      template:
        metadata: {labels: {app: web}}
        spec:
          containers:
          - name: web
            image: gcr.io/google-samples/kubernetes-bootcamp:v1
            ports: [{containerPort: 8080}]
            readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
  - apiVersion: v1
    kind: Service
    metadata: {name: web}
    spec:
      type: NodePort
      selector: {app: web}
      ports: [{port: 8080}]
";

/// Lines that were shown.
#[derive(Default)]
pub struct Lines(pub Vec<Entry>);

impl Progress for Lines {
    fn entry(&mut self, entry: &Entry) {
        self.0.push(entry.clone());
    }
}

/// A drill with this below `spec`, two workers and the application.
pub fn drill(rest: &str) -> Drill {
    let text = format!("apiVersion: daruma.dev/v1\nkind: Drill\nmetadata: {{name: test}}\nspec:{WEB}{rest}");
    parse("test.yaml", &text, &BTreeMap::new(), &|_| Err("there are no files".to_owned()))
        .unwrap_or_else(|error| panic!("{error}"))
}

pub struct Bench {
    pub cluster: VirtualCluster,
    pub stage: Stage,
}

impl Bench {
    pub fn new(seed: u64) -> Self {
        Self::with(daruma_rehearsal::Options { seed, ..Default::default() })
    }

    pub fn with(mut options: daruma_rehearsal::Options) -> Self {
        options.behaviours.read("images: {'nowhere.invalid/*': {pullFails: unreachable}}").unwrap();
        let cluster = VirtualCluster::start(options).unwrap();
        cluster.run(cluster.wait_ready()).unwrap();
        let stage =
            Stage { kind: WorldKind::Sim, world: cluster.world(), client: cluster.client(), machines: cluster.machines() };
        Self { cluster, stage }
    }

    /// Plays a drill; it is interrupted after this time, where one is given.
    pub fn play(&self, drill: &Drill, interrupt: Option<Duration>) -> (Record, Lines) {
        let mut lines = Lines::default();
        let world = self.stage.world.clone();
        let interrupted = async move {
            match interrupt {
                Some(after) => world.sleep(after).await,
                None => std::future::pending().await,
            }
        };
        let record = self.cluster.run(run_with(&self.stage, drill, &Options::default(), &mut lines, interrupted));
        (record, lines)
    }
}

/// Lines of one kind, `who about: text`.
pub fn texts(record: &Record, kind: EntryKind) -> Vec<String> {
    let of_kind = record.timeline.iter().filter(|entry| entry.kind == kind);
    of_kind.map(|entry| format!("{}: {}", entry.about, entry.text)).collect()
}

/// The whole timeline, for messages.
pub fn timeline(record: &Record) -> String {
    let line = |entry: &Entry| format!("{:>8} {:?} {} {} {}", entry.at_ms, entry.kind, entry.who, entry.about, entry.text);
    record.timeline.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Asserts that a line of this kind contains a text.
#[track_caller]
pub fn says(record: &Record, kind: EntryKind, text: &str) {
    assert!(texts(record, kind).iter().any(|line| line.contains(text)), "no {kind:?} says {text:?}\n{}", timeline(record));
}
