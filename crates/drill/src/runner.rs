//! Plays a drill: set-up, steps, undo, convergence, the record.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use daruma_world::tasks::AbortOnDrop;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use crate::file::Drill;
use crate::observe::Observer;
use crate::record::{Entry, EntryKind, Record};
use crate::recorder::Recorder;
use crate::scene::Scene;
use crate::{Stage, objects, preflight, probes, steps};

/// How long the first look at the cluster may take.
const FIRST_LOOK: Duration = Duration::from_secs(120);
/// Time for the informers to see what the last step did.
const LAST_LOOK: Duration = Duration::from_millis(500);

/// Is shown the timeline as it happens.
pub trait Progress: Send {
    /// A new line. Lines of the set-up come before the time axis begins and have time 0.
    fn entry(&mut self, entry: &Entry);

    /// The set-up is over: the time axis begins.
    fn begins(&mut self) {}
}

/// Shows nobody anything.
impl Progress for () {
    fn entry(&mut self, _: &Entry) {}
}

/// How a drill is run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Where what must be taken back is noted while it must, on the stage's disk; see [`crate::undo::recover`].
    pub journal: Option<PathBuf>,
    /// The virtual world's seed, for the record.
    pub seed: Option<u64>,
    /// The machines end with the drill: where nobody waits for convergence, what was done to them is not taken back.
    pub ends_world: bool,
}

/// Plays a drill with the default [`Options`]; see [`run_with`].
pub async fn run(
    stage: &Stage,
    drill: &Drill,
    watcher: &mut dyn Progress,
    interrupted: impl Future<Output = ()> + Send,
) -> Record {
    run_with(stage, drill, &Options::default(), watcher, interrupted).await
}

/// Plays a drill. When `interrupted` completes, or the drill's limit passes, or a step fails, the steps end there;
/// all faults are undone, whatever happened, unless the world ends ([`Options::ends_world`]). Whoever needs the verdict judges the record's checks.
pub async fn run_with(
    stage: &Stage,
    drill: &Drill,
    options: &Options,
    watcher: &mut dyn Progress,
    interrupted: impl Future<Output = ()> + Send,
) -> Record {
    let mut record = Record::new(&drill.metadata.name, stage.kind, options.seed, stage.world.now());
    record.description.clone_from(&drill.spec.description);
    record.settings = settings(drill);
    let refused = preflight::problems(drill, stage.kind, &|ability| stage.machines.supports(ability));
    if !refused.is_empty() {
        let lines: Vec<String> = refused.iter().map(ToString::to_string).collect();
        record.aborted = Some(format!("refused before anything was touched: {}", lines.join("; ")));
        return record;
    }
    let recorder = Recorder::new(&stage.world, record);
    let client = stage.client.named("daruma-drill", daruma_client::RateLimit::NONE);
    let stage = Stage { client, ..stage.clone() };
    let Ok(observer) = stage.world.timeout(FIRST_LOOK, Observer::start(&stage.client, &recorder)).await else {
        recorder.begin();
        recorder.abort("the API did not answer when the drill began");
        return recorder.finish();
    };
    let scene = Scene::new(&stage, &recorder, observer, objects::Kinds::of(drill), options.journal.clone());
    let takes_back = !(options.ends_world && drill.spec.converge_within.is_zero());
    let mut play = Play { scene: &scene, drill, watcher, takes_back, beside: FuturesUnordered::new() };
    Box::pin(play.all(interrupted)).await
}

struct Play<'a> {
    scene: &'a Scene,
    drill: &'a Drill,
    watcher: &'a mut dyn Progress,
    /// Whether what was done is undone at the end.
    takes_back: bool,
    /// What goes on beside the steps.
    beside: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Play<'_> {
    async fn all(&mut self, interrupted: impl Future<Output = ()> + Send) -> Record {
        let (scene, drill) = (self.scene, self.drill);
        let (recorder, observer) = (scene.recorder(), scene.observer());
        let mut interrupted = pin!(interrupted);
        let prepared = self.drive(prepare(scene, drill), interrupted.as_mut()).await;
        recorder.begin();
        self.watcher.begins();
        observer.write_down();
        let mut nodes = observer.nodes();
        nodes.retain(|node| observer.is_ready(node) == Some(true));
        let before: BTreeSet<String> = observer.unsettled(&nodes).into_iter().collect();
        let probes: Vec<AbortOnDrop> = drill.spec.probes.iter().map(|probe| probes::start(scene, probe)).collect();
        let why = match prepared {
            Some(Ok(())) => Box::pin(self.play_steps(interrupted.as_mut())).await,
            Some(Err(error)) => Some(error),
            None => Some(INTERRUPTED.to_owned()),
        };
        if let Some(why) = &why {
            recorder.abort(why.clone());
        }
        recorder.set_step("");
        if self.takes_back {
            self.drive(scene.undo(None, ""), std::future::pending()).await;
        }
        if why.as_deref() != Some(INTERRUPTED) && !drill.spec.converge_within.is_zero() {
            let limit = drill.spec.converge_within.duration();
            let unsettled = self.drive(steps::settle(scene, &nodes, &before, limit), interrupted.as_mut()).await;
            if let Some(unsettled @ [_, ..]) = unsettled.as_deref() {
                let some: Vec<&str> = unsettled.iter().take(10).map(String::as_str).collect();
                let text = format!("not as specified within {}: {}", drill.spec.converge_within, some.join(", "));
                recorder.say(EntryKind::Check, "", text);
            }
        }
        self.drive(scene.stage().world.sleep(LAST_LOOK), std::future::pending()).await;
        drop(probes);
        self.drive(finish(scene, drill, self.takes_back), std::future::pending()).await;
        let record = recorder.finish();
        self.show();
        record
    }

    /// Gives why the steps ended early, where they did.
    async fn play_steps(&mut self, interrupted: impl Future<Output = ()> + Send) -> Option<String> {
        let (scene, drill) = (self.scene, self.drill);
        let limit = drill.spec.limit;
        let work = async {
            match scene.stage().world.timeout(limit.duration(), play(scene, drill)).await {
                Ok(outcome) => outcome.err(),
                Err(_) => Some(format!("the steps took more than {limit} (spec.limit)")),
            }
        };
        self.drive(work, interrupted).await.unwrap_or_else(|| Some(INTERRUPTED.to_owned()))
    }

    /// Runs `work`, and what goes on beside it, and shows lines, until `work` is done or `stop` says so (`None`).
    async fn drive<T>(&mut self, work: impl Future<Output = T> + Send, stop: impl Future<Output = ()> + Send) -> Option<T> {
        let (mut work, mut stop) = (pin!(work), pin!(stop));
        let recorder = self.scene.recorder().clone();
        let mut line = Box::pin(recorder.changed());
        let outcome = std::future::poll_fn(|context| {
            if stop.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            if let Poll::Ready(output) = work.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            loop {
                let more = self.scene.take_later();
                let nothing_new = more.is_empty();
                self.beside.extend(more);
                while let Poll::Ready(Some(())) = self.beside.poll_next_unpin(context) {}
                if nothing_new {
                    break;
                }
            }
            self.show();
            while line.as_mut().poll(context).is_ready() {
                self.show();
                line = Box::pin(recorder.changed());
            }
            Poll::Pending
        })
        .await;
        self.show();
        outcome
    }

    fn show(&mut self) {
        while let Some(entry) = self.scene.recorder().take_line() {
            self.watcher.entry(&entry);
        }
    }
}

const INTERRUPTED: &str = "interrupted";

/// Applies the manifests, waits for their workloads and for all else to be settled.
async fn prepare(scene: &Scene, drill: &Drill) -> Result<(), String> {
    let spec = &drill.spec;
    steps::apply(scene, &spec.manifests).await?;
    let workloads: Vec<_> = spec.manifests.iter().filter_map(objects::workload_of).collect();
    let world = &scene.stage().world;
    let deadline = world.monotonic() + spec.ready_within.duration();
    loop {
        let missing: Vec<String> =
            workloads.iter().filter(|workload| !steps::complete(scene, workload)).map(ToString::to_string).collect();
        if missing.is_empty() {
            break;
        }
        if world.monotonic() >= deadline {
            return Err(format!("not available within {} before the drill began: {}", spec.ready_within, missing.join(", ")));
        }
        world.sleep(Duration::from_millis(200)).await;
    }
    // The cluster's own pods (DNS, say) too; where one never gets ready, the drill shows that.
    let rest = deadline.saturating_sub(world.monotonic());
    steps::settle(scene, &scene.observer().nodes(), &BTreeSet::new(), rest).await;
    Ok(())
}

/// The steps on their time axis.
async fn play(scene: &Scene, drill: &Drill) -> Result<(), String> {
    for step in &drill.spec.steps {
        if let Some(at) = step.at {
            let wait = at.as_ms().saturating_sub(scene.recorder().now_ms());
            scene.stage().world.sleep(Duration::from_millis(wait)).await;
        }
        scene.recorder().set_step(step.identity());
        steps::perform(scene, step).await?;
    }
    Ok(())
}

/// Verifies writes and looks for what was left behind.
async fn finish(scene: &Scene, drill: &Drill, took_back: bool) {
    let recorder = scene.recorder();
    match probes::verify(scene, drill).await {
        Ok(()) => {
            let lines = recorder.read(|record| {
                let of = |(writer, (acknowledged, kept)): (&str, (usize, usize))| {
                    format!("writer {writer}: {kept} of {acknowledged} acknowledged writes are there")
                };
                probes::summary(&record.writes).into_iter().map(of).collect::<Vec<_>>()
            });
            for line in lines {
                recorder.say(EntryKind::Check, "", line);
            }
        }
        Err(error) => recorder.abort(format!("acknowledged writes could not be verified: {error}")),
    }
    // Where nobody waits for the cluster to be itself again, kubelets have had no time to tell of what they start and end.
    let suspects = if drill.spec.converge_within.is_zero() { BTreeSet::new() } else { scene.suspects() };
    for machine in suspects {
        let Ok(living) = scene.hands().living_containers(&machine).await else { continue };
        let known: BTreeSet<String> =
            scene.observer().pods_on(&machine).iter().flat_map(|pod| pod.container_ids().collect::<Vec<_>>()).collect();
        for id in living.difference(&known) {
            recorder.left_behind(format!("container {id} lives on {machine}, and no pod of the API has it"));
        }
    }
    for promise in scene.promised().into_iter().filter(|_| took_back) {
        recorder.left_behind(format!("not taken back: {promise}"));
    }
}

/// Settings that matter to a reader.
fn settings(drill: &Drill) -> BTreeMap<String, String> {
    let settings = &drill.spec.settings;
    let grace = settings.node_monitor_grace_period.unwrap_or(crate::Span::seconds(50));
    let mut all: BTreeMap<String, String> = settings.set.clone();
    all.insert("nodeMonitorGracePeriod".to_owned(), grace.to_string());
    all.insert("defaultTolerationSeconds".to_owned(), settings.default_toleration_seconds.unwrap_or(300).to_string());
    all
}
