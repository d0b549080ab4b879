//! A run in progress as its steps and faults see it: the stage, what is seen of the cluster, what must be taken back.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_api::selector::Selector;
use daruma_client::{ClientError, TransportError};
use daruma_world::machines::{LinkFault, Machines, Pressure, Program, Signal};
use futures::future::{BoxFuture, join_all};

use crate::Stage;
use crate::faults::FaultError;
use crate::file::{PodRef, Target, ZONE_LABEL};
use crate::objects::Kinds;
use crate::observe::{Observer, SeenPod};
use crate::record::EntryKind;
use crate::recorder::Recorder;
use crate::undo::{JournalError, Links, UndoLog, UndoRecord, perform};

/// How long the API may take for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Scene(Arc<Inner>);

struct Inner {
    stage: Stage,
    recorder: Recorder,
    observer: Observer,
    kinds: Kinds,
    undo: UndoLog,
    links: Links,
    /// What the fault that is being made reaches, for its line in the timeline.
    reached: Mutex<Reached>,
    /// What goes on beside the steps.
    later: Mutex<Vec<BoxFuture<'static, ()>>>,
    /// Machines on which something may have been left behind.
    suspects: Mutex<BTreeSet<String>>,
}

#[derive(Default)]
struct Reached {
    machines: BTreeSet<String>,
    about: String,
    text: String,
}

/// What a fault reached: the objects it is about, a text, machines.
pub(crate) struct Told {
    pub about: String,
    pub text: String,
    pub machines: Vec<String>,
}

impl Scene {
    pub(crate) fn new(stage: &Stage, recorder: &Recorder, observer: Observer, kinds: Kinds, journal: Option<PathBuf>) -> Self {
        Self(Arc::new(Inner {
            kinds,
            stage: stage.clone(),
            recorder: recorder.clone(),
            observer,
            undo: UndoLog::new(&stage.world, journal),
            links: Links::default(),
            reached: Mutex::default(),
            later: Mutex::default(),
            suspects: Mutex::default(),
        }))
    }

    /// The stage.
    pub fn stage(&self) -> &Stage {
        &self.0.stage
    }

    /// The machines.
    pub fn hands(&self) -> &dyn Machines {
        &*self.0.stage.machines
    }

    /// The kinds that the drill knows.
    pub(crate) fn kinds(&self) -> &Kinds {
        &self.0.kinds
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    pub(crate) fn observer(&self) -> &Observer {
        &self.0.observer
    }

    /// Calls the API, for no longer than a person would wait.
    ///
    /// # Errors
    /// The call's, or that no answer came.
    pub async fn ask<T: Send>(&self, call: impl Future<Output = Result<T, ClientError>> + Send) -> Result<T, ClientError> {
        match self.0.stage.world.timeout(ANSWER_LIMIT, call).await {
            Ok(answer) => answer,
            Err(_) => Err(TransportError(format!("the API gave no answer within {} s", ANSWER_LIMIT.as_secs())).into()),
        }
    }

    /// Machines of a target, ordered; never empty.
    ///
    /// # Errors
    /// There is none.
    pub fn machines(&self, target: &Target) -> Result<BTreeSet<String>, FaultError> {
        let mut machines: BTreeSet<String> = target.machine.iter().chain(&target.machines).cloned().collect();
        if let Some(pod) = &target.node_of {
            machines.insert(self.pod(pod)?.node().to_owned());
        }
        let selector = target.zone.as_ref().map(|zone| format!("{ZONE_LABEL}={zone}"));
        if let Some(text) = target.nodes.as_ref().or(selector.as_ref()) {
            let selector = Selector::parse(text).map_err(|error| FaultError::Target(format!("{text:?}: {error}")))?;
            machines.extend(self.0.observer.nodes_selected(&selector));
            if machines.is_empty() {
                return Err(FaultError::Target(format!("no node has {text}")));
            }
        }
        if machines.is_empty() { Err(FaultError::Target("no machine is named".to_owned())) } else { Ok(machines) }
    }

    /// The machines of a target, or all controllers where none is named.
    pub fn machines_or_controllers(&self, target: &Target) -> Result<BTreeSet<String>, FaultError> {
        if !target.machine_fields().is_empty() {
            return self.machines(target);
        }
        let selector = Selector::parse("node-role.kubernetes.io/control-plane").expect("a constant selector");
        let controllers: BTreeSet<String> = self.0.observer.nodes_selected(&selector).into_iter().collect();
        if controllers.is_empty() { Err(FaultError::Target("no controller is known".to_owned())) } else { Ok(controllers) }
    }

    /// The pod that is described. Pods being deleted do not count, unless they are named.
    ///
    /// # Errors
    /// There is none, or it is on no node yet.
    pub fn pod(&self, pod: &PodRef) -> Result<Arc<SeenPod>, FaultError> {
        let found = self.0.observer.pods_of(pod).map_err(FaultError::Target)?;
        let count = found.len();
        let one =
            found.into_iter().nth(pod.nth).ok_or_else(|| FaultError::Target(format!("there is no {pod}; {count} found")))?;
        if one.node().is_empty() {
            return Err(FaultError::Target(format!("pod {} is on no node yet", one.name())));
        }
        Ok(one)
    }

    /// Engine's id of a pod's container.
    ///
    /// # Errors
    /// It does not run.
    pub fn container(&self, pod: &SeenPod, name: Option<&str>) -> Result<String, FaultError> {
        pod.container_id(name).ok_or_else(|| {
            FaultError::Target(format!("pod {} has no running container {}", pod.name(), name.unwrap_or_default()))
        })
    }

    /// Notes a machine that the fault reaches.
    pub fn reaches(&self, machine: &str) {
        self.0.reached.lock().expect("no panic while held").machines.insert(machine.to_owned());
    }

    /// Notes the object that the fault is about, and what is done to it.
    pub fn tells(&self, about: &str, text: impl Into<String>) {
        let mut reached = self.0.reached.lock().expect("no panic while held");
        about.clone_into(&mut reached.about);
        reached.text = text.into();
    }

    pub(crate) fn take_told(&self) -> Told {
        let reached = std::mem::take(&mut *self.0.reached.lock().expect("no panic while held"));
        let machines: Vec<String> = reached.machines.into_iter().collect();
        let about = match (&reached.about[..], &machines[..]) {
            ("", [machine]) => format!("node/{machine}"),
            (about, _) => about.to_owned(),
        };
        Told { about, text: reached.text, machines }
    }

    /// Notes what takes back what is about to be done. Call it before doing it.
    ///
    /// # Errors
    /// The journal cannot be written; the fault must not be made then.
    pub async fn promise(&self, records: Vec<UndoRecord>) -> Result<(), JournalError> {
        let step = self.0.recorder.step();
        self.0.undo.promise(&step, records).await
    }

    /// Forgets what a step promised: it was over at once, and nothing is left to take back.
    pub(crate) async fn forget(&self, step: &str) -> Result<(), JournalError> {
        let ids: Vec<u64> = self.0.undo.of(Some(step)).into_iter().map(|(id, _)| id).collect();
        self.0.undo.done(&ids).await
    }

    /// Breaks links, and mends them at undo.
    pub async fn break_links(&self, faults: Vec<LinkFault>) -> Result<(), FaultError> {
        self.promise(vec![UndoRecord::Mend { faults: faults.clone() }]).await?;
        self.0.links.add(self.hands(), &faults).await?;
        Ok(())
    }

    /// Mends links.
    pub async fn mend_links(&self, mends: impl Fn(&LinkFault) -> bool) -> Result<(), FaultError> {
        self.0.links.mend(self.hands(), mends).await?;
        Ok(())
    }

    /// Uses machines up, until undo.
    pub async fn press(&self, machine: &str, pressure: Pressure) -> Result<(), FaultError> {
        self.reaches(machine);
        let id = self.hands().press(machine, pressure).await?;
        self.promise(vec![UndoRecord::Release { machine: machine.to_owned(), pressure: id }]).await?;
        Ok(())
    }

    /// Sends a signal; one that lasts is taken back at undo.
    pub async fn signal(&self, machine: &str, program: &Program, signal: Signal) -> Result<(), FaultError> {
        self.reaches(machine);
        let back = match signal {
            Signal::Pause => Some(Signal::Continue),
            Signal::Stop => Some(Signal::Start),
            Signal::Kill | Signal::Terminate | Signal::Continue | Signal::Start => None,
        };
        if let Some(signal) = back {
            let (machine, program) = (machine.to_owned(), program.clone());
            self.promise(vec![UndoRecord::Signal { machine, program, signal }]).await?;
        }
        self.hands().signal(machine, program, signal).await?;
        Ok(())
    }

    /// Does something beside the steps; it ends with the drill at the latest.
    pub fn later(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.later.lock().expect("no panic while held").push(Box::pin(work));
    }

    pub(crate) fn take_later(&self) -> Vec<BoxFuture<'static, ()>> {
        std::mem::take(&mut *self.0.later.lock().expect("no panic while held"))
    }

    /// Looks at this machine at the end: is everything that lives there known to the API?
    pub fn suspect(&self, machine: &str) {
        self.0.suspects.lock().expect("no panic while held").insert(machine.to_owned());
    }

    pub(crate) fn suspects(&self) -> BTreeSet<String> {
        self.0.suspects.lock().expect("no panic while held").clone()
    }

    /// Takes back what one step did, or all steps, newest first; machines beside each other. What fails is told and
    /// stays promised. Lines go to the step `tag`.
    pub(crate) async fn undo(&self, step: Option<&str>, tag: &str) {
        let promised = self.0.undo.of(step);
        for group in
            promised.chunk_by(|(_, a), (_, b)| a.machine().is_some() && b.machine().is_some() && a.machine() != b.machine())
        {
            let (stage, links) = (&self.0.stage, &self.0.links);
            let outcomes = join_all(group.iter().map(|(_, record)| perform(stage, links, record))).await;
            let mut done = Vec::new();
            for ((id, record), outcome) in group.iter().zip(outcomes) {
                let text = match outcome {
                    Ok(true) => record.to_string(),
                    Ok(false) => String::new(),
                    Err(error) => format!("cannot take back: {record}: {error}"),
                };
                if !text.starts_with("cannot") {
                    done.push(*id);
                }
                if !text.is_empty() {
                    let about = record.machine().map(|machine| format!("node/{machine}")).unwrap_or_default();
                    let machines = record.machine().map(str::to_owned).into_iter().collect();
                    self.0.recorder.say_as(tag, EntryKind::Undo, &about, text, machines);
                }
            }
            if let Err(error) = self.0.undo.done(&done).await {
                self.0.recorder.say_as(tag, EntryKind::Undo, "", error.to_string(), Vec::new());
            }
        }
    }

    /// What could not be taken back, in words.
    pub(crate) fn promised(&self) -> Vec<String> {
        self.0.undo.of(None).iter().map(|(_, record)| record.to_string()).collect()
    }
}

impl UndoRecord {
    /// The machine it is about.
    pub(crate) fn machine(&self) -> Option<&str> {
        match self {
            Self::PowerOn { machine }
            | Self::Resume { machine }
            | Self::Release { machine, .. }
            | Self::Signal { machine, .. }
            | Self::Clock { machine } => Some(machine),
            Self::Mend { .. } | Self::Patch { .. } => None,
        }
    }
}
