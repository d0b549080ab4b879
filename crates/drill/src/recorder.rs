//! The record as it grows, and the lines that somebody is still to be shown.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use daruma_world::World;
use tokio::sync::Notify;

use crate::record::{Entry, EntryKind, NodeState, PodState, Record, ReplicaState, Request, Write};

/// Writes the record. Clones share it. Before [`Recorder::begin`] and after [`Recorder::finish`] nothing is recorded.
#[derive(Clone)]
pub(crate) struct Recorder {
    world: World,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

struct State {
    record: Record,
    begun: Option<Duration>,
    finished: bool,
    /// Lines that were not shown yet.
    waiting: VecDeque<Entry>,
    /// Step that is being done.
    step: String,
    /// Last request of each probe: answered or not.
    probes: BTreeMap<String, bool>,
}

impl Recorder {
    pub fn new(world: &World, record: Record) -> Self {
        let state = State {
            record,
            begun: None,
            finished: false,
            waiting: VecDeque::new(),
            step: String::new(),
            probes: BTreeMap::new(),
        };
        Self { world: world.clone(), state: Arc::new(Mutex::new(state)), changed: Arc::new(Notify::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    /// The time axis begins now.
    pub fn begin(&self) {
        let mut state = self.lock();
        state.begun = Some(self.world.monotonic());
        state.record.started = self.world.now();
    }

    /// Milliseconds since the beginning; 0 before it.
    pub fn now_ms(&self) -> u64 {
        let begun = self.lock().begun;
        begun.map_or(0, |begun| self.world.monotonic().saturating_sub(begun).as_millis() as u64)
    }

    /// Whether things are recorded now.
    pub fn is_on(&self) -> bool {
        let state = self.lock();
        state.begun.is_some() && !state.finished
    }

    /// Names the step to which further lines of the drill belong.
    pub fn set_step(&self, identity: &str) {
        identity.clone_into(&mut self.lock().step);
    }

    /// The step that is being done.
    pub fn step(&self) -> String {
        self.lock().step.clone()
    }

    /// A line of the drill itself.
    pub fn say(&self, kind: EntryKind, about: &str, text: impl Into<String>) {
        let step = self.step();
        self.entry(self.line(kind, "drill", about, text.into(), step));
    }

    /// A line of the drill itself for the step of this identity, with the machines it reaches.
    pub fn say_as(&self, step: &str, kind: EntryKind, about: &str, text: impl Into<String>, machines: Vec<String>) {
        let mut entry = self.line(kind, "drill", about, text.into(), step.to_owned());
        entry.machines = machines;
        self.entry(entry);
    }

    /// A fault was made, or was to be made, at this time.
    pub fn fault(&self, at_ms: u64, about: &str, text: String, machines: Vec<String>) {
        let mut entry = self.line(EntryKind::Fault, "drill", about, text, self.step());
        (entry.at_ms, entry.machines) = (at_ms, machines);
        self.entry(entry);
    }

    /// A line of the cluster.
    pub fn observe(&self, kind: EntryKind, who: &str, about: &str, text: String, reason: &str) {
        let mut entry = self.line(kind, who, about, text, String::new());
        reason.clone_into(&mut entry.reason);
        self.entry(entry);
    }

    fn line(&self, kind: EntryKind, who: &str, about: &str, text: String, step: String) -> Entry {
        Entry {
            at_ms: self.now_ms(),
            kind,
            who: who.to_owned(),
            about: about.to_owned(),
            text,
            step,
            reason: String::new(),
            machines: Vec::new(),
        }
    }

    fn entry(&self, entry: Entry) {
        {
            let mut state = self.lock();
            if state.finished {
                return;
            }
            if state.begun.is_some() {
                state.record.timeline.push(entry.clone());
            }
            state.waiting.push_back(entry);
        }
        self.changed.notify_one();
    }

    fn with_record(&self, change: impl FnOnce(&mut Record)) {
        let mut state = self.lock();
        if state.begun.is_some() && !state.finished {
            change(&mut state.record);
        }
    }

    pub fn node(&self, node: NodeState) {
        self.with_record(|record| record.nodes.push(node));
    }

    pub fn pod(&self, pod: PodState) {
        self.with_record(|record| record.pods.push(pod));
    }

    pub fn replicas(&self, replicas: ReplicaState) {
        self.with_record(|record| record.replicas.push(replicas));
    }

    pub fn request(&self, request: Request) {
        let mut state = self.lock();
        if state.begun.is_some() && !state.finished {
            state.probes.insert(request.probe.clone(), request.error.is_none());
            state.record.requests.push(request);
        }
    }

    /// Whether the probe's last request was answered; `None` before the first.
    pub fn probe(&self, name: &str) -> Option<bool> {
        self.lock().probes.get(name).copied()
    }

    pub fn write(&self, write: Write) {
        self.with_record(|record| record.writes.push(write));
    }

    pub fn left_behind(&self, text: String) {
        self.with_record(|record| record.left_behind.push(text));
    }

    pub fn abort(&self, why: impl Into<String>) {
        self.with_record(|record| {
            record.aborted.get_or_insert(why.into());
        });
    }

    /// Completes once there is a new line (or one that nobody waited for).
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// How many lines the timeline has.
    pub fn lines(&self) -> usize {
        self.lock().record.timeline.len()
    }

    /// The next line to show, where there is one.
    pub fn take_line(&self) -> Option<Entry> {
        self.lock().waiting.pop_front()
    }

    /// Looks at the record.
    pub fn read<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&self.lock().record)
    }

    /// Changes the record where it is not about what was seen (verified writes).
    pub fn amend(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.lock().record);
    }

    /// Ends the record and gives it. Requests are ordered by the time they were sent.
    pub fn finish(&self) -> Record {
        let took_ms = self.now_ms();
        let mut state = self.lock();
        state.finished = true;
        let mut record = state.record.clone();
        record.took_ms = took_ms;
        record.requests.sort_by_key(|request| request.at_ms);
        // A fault's line is written when it is done and counts from when it began.
        record.timeline.sort_by_key(|entry| entry.at_ms);
        record
    }
}
