//! One pod's state, shared by its worker, its probes, its status sender and the server.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use daruma_api::core::v1::{Pod, PodStatus};
use daruma_api::meta::ObjectExt;
use tokio::sync::Notify;

use crate::plan::Probed;
use crate::view::PodView;

/// Where a pod comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The API server.
    Api,
    /// A manifest file.
    File,
}

impl Source {
    /// As annotations spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::File => "file",
        }
    }
}

/// A pod that fails for a reason from outside its containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forced {
    /// `Evicted`, `DeadlineExceeded`, `Terminated` …
    pub reason: String,
    /// For a person.
    pub message: String,
    /// Whether the condition `DisruptionTarget` tells it too.
    pub disrupts: bool,
    /// A pod whose containers have all succeeded stays so.
    pub unless_succeeded: bool,
}

/// What is known of one pod.
#[derive(Default)]
pub struct State {
    /// The pod as it is wanted.
    pub pod: Arc<Pod>,
    /// Of a static pod: its mirror in the API.
    pub mirror: Option<Arc<Pod>>,
    /// Gone from its source.
    pub removed: bool,
    /// The pod has to end within so many seconds.
    pub grace_seconds: Option<i64>,
    /// Failed for a reason from outside its containers.
    pub forced: Option<Forced>,
    /// Whether it was let in.
    pub admitted: bool,
    /// The status generated last.
    pub status: Option<PodStatus>,
    /// Why containers are not started: reason and message by name.
    pub waiting: BTreeMap<String, (String, String)>,
    /// Results of probes.
    pub probed: Probed,
    /// Termination messages by container id.
    pub messages: BTreeMap<String, String>,
    /// What ran at the last look.
    pub view: PodView,
    /// Volumes that are set up.
    pub mounted: BTreeSet<String>,
    /// How often in a row volumes could not be set up.
    pub mount_failures: u32,
    /// Everything has ended and is cleaned up.
    pub finished: bool,
    /// Something other than the runtime's events asked for a look.
    pub look_wanted: bool,
    /// The status has changed since it was sent.
    pub unsent: bool,
}

/// One pod.
pub struct PodCell {
    /// Its UID (of a static pod: the hash).
    pub uid: String,
    /// Where it comes from.
    pub source: Source,
    /// Whether it is measured against limits of its own (they never change).
    pub has_disk_limits: bool,
    state: Mutex<State>,
    /// Wakes the worker.
    wake: Notify,
    /// Wakes the status sender.
    status_changed: Notify,
    /// Wakes what waits for the API to have the status.
    sent: Notify,
    /// Wakes everything that waits on the pod's behalf, when it has to end (sooner).
    hurry: Notify,
    /// Wakes what waits for the pod's containers, status or end to change (probes).
    news: Notify,
}

impl PodCell {
    /// A pod seen for the first time.
    pub fn new(pod: Arc<Pod>, source: Source) -> Self {
        let state = State { pod: pod.clone(), ..State::default() };
        Self {
            uid: pod.uid().to_owned(),
            source,
            has_disk_limits: pod.spec.as_ref().is_some_and(crate::eviction::has_limits),
            state: Mutex::new(state),
            wake: Notify::new(),
            status_changed: Notify::new(),
            sent: Notify::new(),
            hurry: Notify::new(),
            news: Notify::new(),
        }
    }

    /// The state. Hold it briefly, never over an await.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    /// The pod as it is wanted.
    pub fn pod(&self) -> Arc<Pod> {
        self.lock().pod.clone()
    }

    /// Whether it comes from a file.
    pub fn is_static(&self) -> bool {
        self.source == Source::File
    }

    /// Lets the worker look again.
    pub fn wake(&self) {
        self.lock().look_wanted = true;
        self.wake.notify_one();
    }

    /// Lets the worker look again if what runs differs from what it knows: its own doings come back as events.
    pub fn runtime_event(&self) {
        self.wake.notify_one();
    }

    /// The pod fails, for this reason; the first one stays.
    pub fn force(&self, forced: Forced) {
        self.lock().forced.get_or_insert(forced);
    }

    /// Says that containers, status or end have changed.
    pub fn tell_news(&self) {
        self.news.notify_waiters();
    }

    /// Completes after the next [`PodCell::tell_news`]. Counts from the call on, not from the first poll.
    pub fn news(&self) -> Pin<Box<tokio::sync::futures::Notified<'_>>> {
        let mut news = Box::pin(self.news.notified());
        news.as_mut().enable();
        news
    }

    /// Completes once everything of the pod has ended and is cleaned up.
    pub async fn ended(&self) {
        loop {
            let news = self.news();
            if self.lock().finished {
                return;
            }
            news.await;
        }
    }

    /// Says that the API has the status, as far as it can be told.
    pub fn status_sent(&self) {
        self.lock().unsent = false;
        self.sent.notify_waiters();
    }

    /// Completes once the API has the status.
    pub async fn sent(&self) {
        loop {
            let sent = self.sent.notified();
            tokio::pin!(sent);
            sent.as_mut().enable();
            if !self.lock().unsent {
                return;
            }
            sent.await;
        }
    }

    /// Completes when the worker should look again.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Lets the status sender look again.
    pub fn status_changed(&self) {
        self.lock().unsent = true;
        self.status_changed.notify_one();
    }

    /// Completes when the status may have changed.
    pub async fn status_woken(&self) {
        self.status_changed.notified().await;
    }

    /// Asks for the pod's end within `grace_seconds`; an earlier, shorter wish stays.
    pub fn end(&self, grace_seconds: i64) {
        {
            let mut state = self.lock();
            let grace = grace_seconds.max(1);
            if state.grace_seconds.is_some_and(|present| present <= grace) {
                return;
            }
            state.grace_seconds = Some(grace);
        }
        self.hurry.notify_waiters();
        self.wake.notify_one();
    }

    /// Whether the pod has to end.
    pub fn is_ending(&self) -> bool {
        self.lock().grace_seconds.is_some()
    }

    /// Completes once the pod has to end.
    pub async fn ending(&self) {
        self.ending_within(i64::MAX).await;
    }

    /// Completes once the pod has to end within less than `seconds`.
    pub async fn ending_within(&self, seconds: i64) -> i64 {
        loop {
            let hurry = self.hurry.notified();
            tokio::pin!(hurry);
            hurry.as_mut().enable();
            if let Some(grace) = self.lock().grace_seconds.filter(|grace| *grace < seconds) {
                return grace;
            }
            hurry.await;
        }
    }
}

/// All pods of the node by UID. Clones share them.
#[derive(Clone, Default)]
pub struct Registry {
    pods: Arc<Mutex<Pods>>,
}

#[derive(Default)]
struct Pods {
    by_uid: BTreeMap<String, Arc<PodCell>>,
    /// Those of them that [`PodCell::has_disk_limits`] names: mostly none, and looked for every 10 s.
    with_disk_limits: BTreeMap<String, Arc<PodCell>>,
}

impl Registry {
    fn pods(&self) -> MutexGuard<'_, Pods> {
        self.pods.lock().expect("no panic while held")
    }

    /// One pod.
    pub fn get(&self, uid: &str) -> Option<Arc<PodCell>> {
        self.pods().by_uid.get(uid).cloned()
    }

    /// All pods, ordered by UID.
    pub fn list(&self) -> Vec<Arc<PodCell>> {
        self.pods().by_uid.values().cloned().collect()
    }

    /// Those that are measured against limits of their own.
    pub fn with_disk_limits(&self) -> Vec<Arc<PodCell>> {
        self.pods().with_disk_limits.values().cloned().collect()
    }

    /// Adds a pod; `false` where its UID is known already.
    pub fn insert(&self, cell: &Arc<PodCell>) -> bool {
        let mut pods = self.pods();
        if pods.by_uid.contains_key(&cell.uid) {
            return false;
        }
        pods.by_uid.insert(cell.uid.clone(), cell.clone());
        if cell.has_disk_limits {
            pods.with_disk_limits.insert(cell.uid.clone(), cell.clone());
        }
        true
    }

    /// Forgets a pod.
    pub fn remove(&self, uid: &str) {
        let mut pods = self.pods();
        pods.with_disk_limits.remove(uid);
        pods.by_uid.remove(uid);
    }

    /// The pod of a name; one that is not ending is preferred.
    pub fn by_name(&self, namespace: &str, name: &str) -> Option<Arc<PodCell>> {
        let mut found: Vec<Arc<PodCell>> = self
            .list()
            .into_iter()
            .filter(|cell| {
                let state = cell.lock();
                state.pod.namespace() == namespace && state.pod.name() == name
            })
            .collect();
        found.sort_by_key(|cell| cell.is_ending());
        found.into_iter().next()
    }
}
