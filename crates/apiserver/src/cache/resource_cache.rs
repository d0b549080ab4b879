//! Objects, recent changes and watchers of one resource.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use daruma_store::{Event, KeyValue};
use tokio::sync::{Notify, mpsc};

use super::filter::IndexKey;
use super::history::{Past, Sieve};
use super::placed::Placed;
use super::watcher::CAPACITY;
use super::{Delivery, EventType, Filter, Watcher};
use crate::storage::{Extractor, Item, keys};

/// Bytes of stored objects that the history of one resource may keep alive.
const HISTORY_BYTES: usize = 8 * 1024 * 1024;
/// Most changes that the history of one resource keeps.
const HISTORY_CHANGES: usize = 20_000;

/// The version of a cache before loading.
pub const NOT_LOADED: u64 = 0;

/// One change of one object.
#[derive(Debug)]
pub struct Change {
    /// When.
    pub revision: u64,
    /// The object's key.
    pub key: Arc<str>,
    /// The new object; `None` where it was deleted.
    pub item: Option<Arc<Item>>,
    /// The object before; `None` where it is new.
    pub previous: Option<Arc<Item>>,
}

impl Change {
    /// What the change is to somebody who sees only what `filter` selects.
    pub fn seen_through(&self, filter: &Filter) -> Option<EventType> {
        let now = self.item.as_deref().is_some_and(|item| filter.matches(item));
        let before = self.previous.as_deref().is_some_and(|item| filter.matches(item));
        match (before, now) {
            (false, true) => Some(EventType::Added),
            (true, true) => Some(EventType::Modified),
            (true, false) => Some(EventType::Deleted),
            (false, false) => None,
        }
    }

    /// The object that an event of this type shows: a deletion shows the last state that was selected.
    pub fn shown(&self, event_type: EventType) -> Option<&Item> {
        match event_type {
            EventType::Added | EventType::Modified => self.item.as_deref(),
            EventType::Deleted => self.previous.as_deref(),
        }
    }

    fn weight(&self) -> usize {
        self.item.as_ref().map_or(64, |item| item.value.len() + 64)
    }
}

/// The wanted revision is older than the history that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {requested} ({oldest})")]
pub struct TooOld {
    /// What was asked.
    pub requested: u64,
    /// The oldest revision that can be continued from.
    pub oldest: u64,
}

/// All objects of one resource at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Objects by key.
    pub objects: imbl::OrdMap<Arc<str>, Arc<Item>>,
    /// The revision up to which this resource is known to be complete.
    pub revision: u64,
    placed: Placed,
}

impl Snapshot {
    fn empty(indexed: Option<usize>) -> Self {
        Self { placed: Placed::by(indexed), ..Self::default() }
    }

    /// The objects whose indexed field has this value, in key order. None where the resource has no index.
    pub fn placed<'a>(&'a self, value: &'a str) -> impl Iterator<Item = &'a Arc<Item>> + Send + 'a {
        self.placed.keys(value).filter_map(|key| self.objects.get(key))
    }

    /// The objects that `filter` selects, after the key `start_after`, in key order.
    pub fn select<'a>(&'a self, filter: &'a Filter, start_after: &'a str) -> Box<dyn Iterator<Item = &'a Arc<Item>> + Send + 'a> {
        if let Some(name) = filter.exact_name()
            && !filter.namespace.is_empty()
        {
            let found = self.objects.get(keys::object(&filter.namespace, name).as_str());
            return Box::new(found.into_iter().filter(move |item| item.key.as_ref() > start_after && filter.matches(item)));
        }
        if let Some(value) = self.placed.field().and_then(|field| filter.exact_field(field)) {
            return Box::new(self.placed(value).filter(move |item| *item.key > *start_after && filter.matches(item)));
        }
        let prefix = if filter.namespace.is_empty() { String::new() } else { format!("{}/", filter.namespace) };
        let from: Arc<str> = if start_after > prefix.as_str() { start_after.into() } else { prefix.as_str().into() };
        Box::new(
            self.objects
                .range(from..)
                .map(|(_, item)| item)
                .take_while(move |item| item.key.starts_with(&prefix))
                .filter(move |item| *item.key > *start_after && filter.matches(item)),
        )
    }
}

#[derive(Debug, Default)]
struct State {
    loaded: bool,
    loading: bool,
    /// Counts resets: what was read from the store before one is of no use after it.
    epoch: u64,
    /// Events that arrived during loading.
    pending: Vec<Event>,
    /// The revision at which the objects were loaded.
    base: u64,
    snapshot: Snapshot,
    history: VecDeque<Past>,
    history_bytes: usize,
    /// Changes up to here have left the history.
    floor: u64,
    watchers: BTreeMap<u64, Registered>,
    general: BTreeSet<u64>,
    indexed: BTreeMap<IndexKey, Vec<u64>>,
    next_watcher: u64,
}

#[derive(Debug)]
struct Registered {
    sender: mpsc::Sender<Arc<Delivery>>,
    index: Option<IndexKey>,
}

/// The cache of one resource.
#[derive(Debug)]
pub struct ResourceCache {
    extractor: Extractor,
    /// The selectable field by which objects are filed.
    indexed: Option<usize>,
    state: Mutex<State>,
    version: AtomicU64,
    pub(super) loaded: Notify,
}

/// Whose task it is to load the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loading {
    Done,
    /// With the cache's epoch.
    Mine(u64),
    Anothers,
}

impl ResourceCache {
    /// An empty cache that knows how to read its objects, and files them by the selectable field of this number.
    pub fn new(extractor: Extractor, indexed: Option<usize>) -> Self {
        let state = State { snapshot: Snapshot::empty(indexed), ..State::default() };
        Self { extractor, indexed, state: Mutex::new(state), version: AtomicU64::new(NOT_LOADED), loaded: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    /// How objects are read.
    pub fn extractor(&self) -> &Extractor {
        &self.extractor
    }

    /// The revision of the newest change or of loading; [`NOT_LOADED`] before. Changes whenever an object does.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// All objects now, complete up to at least `seen`.
    pub fn snapshot(&self, seen: u64) -> Snapshot {
        let state = self.state();
        let mut snapshot = state.snapshot.clone();
        snapshot.revision = snapshot.revision.max(seen);
        snapshot
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Item>> {
        let state = self.state();
        state.snapshot.objects.get(keys::object(namespace, name).as_str()).cloned()
    }

    /// Whether the objects have been loaded.
    pub fn is_loaded(&self) -> bool {
        self.state().loaded
    }

    /// How many objects there are; `None` before loading.
    pub fn object_count(&self) -> Option<usize> {
        let state = self.state();
        state.loaded.then(|| state.snapshot.objects.len())
    }

    /// How many watchers there are.
    pub fn watchers(&self) -> usize {
        self.state().watchers.len()
    }

    /// Registers a watcher for what happens after `revision`.
    ///
    /// # Errors
    /// [`TooOld`] where the history does not reach back that far.
    pub fn watch(&self, revision: u64, filter: &Arc<Filter>) -> Result<Watcher, TooOld> {
        let mut state = self.state();
        if revision < state.floor {
            return Err(TooOld { requested: revision, oldest: state.floor });
        }
        let start = state.history.partition_point(|past| past.change.revision <= revision);
        // Most watchers of a large cluster want little of it: they do not keep the rest alive, nor look at it.
        let sieve = Sieve::of(filter, self.indexed);
        let wanted =
            state.history.range(start..).filter(|past| sieve.may_pass(past) && past.change.seen_through(filter).is_some());
        let backlog: VecDeque<Arc<Change>> = wanted.map(|past| past.change.clone()).collect();
        Ok(state.register(backlog, revision, filter))
    }

    /// Registers a watcher together with the objects that it starts from.
    pub fn watch_from_now(&self, filter: &Arc<Filter>, seen: u64) -> (Snapshot, Watcher) {
        let mut state = self.state();
        let mut snapshot = state.snapshot.clone();
        snapshot.revision = snapshot.revision.max(seen);
        let watcher = state.register(VecDeque::new(), 0, filter);
        (snapshot, watcher)
    }

    pub(super) fn begin_loading(&self) -> Loading {
        let mut state = self.state();
        if state.loaded {
            return Loading::Done;
        }
        let epoch = state.epoch;
        if std::mem::replace(&mut state.loading, true) { Loading::Anothers } else { Loading::Mine(epoch) }
    }

    pub(super) fn give_up_loading(&self) {
        let mut state = self.state();
        state.loading = false;
        state.pending.clear();
        drop(state);
        self.loaded.notify_waiters();
    }

    /// Takes the objects of a range at `revision`, then what arrived meanwhile.
    pub(super) fn finish_loading(&self, epoch: u64, prefix: &str, items: Vec<KeyValue>, revision: u64) {
        let mut snapshot = Snapshot { revision, ..Snapshot::empty(self.indexed) };
        for one in items {
            let Some(key) = one.key.strip_prefix(prefix) else { continue };
            let item = Arc::new(Item::new(key, one.mod_revision, one.value, &self.extractor));
            snapshot.placed.change(None, Some(&item));
            snapshot.objects.insert(item.key.clone(), item);
        }
        let mut state = self.state();
        if state.epoch != epoch {
            drop(state);
            self.loaded.notify_waiters();
            return;
        }
        state.snapshot = snapshot;
        (state.base, state.floor) = (revision, revision);
        state.history.clear();
        state.history_bytes = 0;
        (state.loaded, state.loading) = (true, false);
        let pending = std::mem::take(&mut state.pending);
        for event in pending {
            state.apply(prefix, event, &self.extractor);
        }
        self.version.store(state.snapshot.revision.max(1), Ordering::Release);
        drop(state);
        self.loaded.notify_waiters();
    }

    /// Takes a batch of the store's events on this resource.
    pub(super) fn apply(&self, prefix: &str, events: impl Iterator<Item = Event>) {
        let mut state = self.state();
        if state.loading {
            state.pending.extend(events);
            return;
        }
        if !state.loaded {
            return;
        }
        for event in events {
            state.apply(prefix, event, &self.extractor);
        }
        self.version.store(state.snapshot.revision, Ordering::Release);
    }

    /// Closes all watchers: the resource is gone, or has become another. What they have not read yet, they still read.
    pub fn end_watches(&self) {
        let mut state = self.state();
        state.watchers.clear();
        state.general.clear();
        state.indexed.clear();
    }

    /// Forgets everything and closes all watchers: the store's history was lost in between.
    pub(super) fn reset(&self) {
        let mut state = self.state();
        let snapshot = Snapshot::empty(self.indexed);
        *state = State { next_watcher: state.next_watcher, epoch: state.epoch + 1, snapshot, ..State::default() };
        self.version.store(NOT_LOADED, Ordering::Release);
    }
}

impl State {
    fn register(&mut self, backlog: VecDeque<Arc<Change>>, after: u64, filter: &Arc<Filter>) -> Watcher {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let id = self.next_watcher;
        self.next_watcher += 1;
        let index = filter.index_key();
        match &index {
            Some(key) => self.indexed.entry(key.clone()).or_default().push(id),
            None => {
                self.general.insert(id);
            }
        }
        self.watchers.insert(id, Registered { sender, index });
        Watcher { backlog, receiver, after, filter: filter.clone() }
    }

    fn unregister(&mut self, id: u64) {
        let Some(gone) = self.watchers.remove(&id) else { return };
        match gone.index {
            None => {
                self.general.remove(&id);
            }
            Some(key) => {
                if let Some(ids) = self.indexed.get_mut(&key) {
                    ids.retain(|one| *one != id);
                    if ids.is_empty() {
                        self.indexed.remove(&key);
                    }
                }
            }
        }
    }

    fn apply(&mut self, prefix: &str, event: Event, extractor: &Extractor) {
        if event.revision <= self.base {
            return;
        }
        let Some(key) = event.key.strip_prefix(prefix) else { return };
        let previous = self.snapshot.objects.get(key).cloned();
        let key: Arc<str> = previous.as_ref().map_or_else(|| Arc::from(key), |item| item.key.clone());
        let item = event.value.map(|value| Arc::new(Item::new(key.clone(), event.revision, value.value, extractor)));
        self.snapshot.placed.change(previous.as_ref(), item.as_ref());
        match &item {
            Some(item) => {
                self.snapshot.objects.insert(key.clone(), item.clone());
            }
            None => {
                self.snapshot.objects.remove(&key);
            }
        }
        self.snapshot.revision = event.revision;
        if item.is_none() && previous.is_none() {
            return;
        }
        let change = Arc::new(Change { revision: event.revision, key, item, previous });
        self.dispatch(&change);
        self.remember(change);
    }

    fn remember(&mut self, change: Arc<Change>) {
        self.history_bytes += change.weight();
        self.history.push_back(Past::new(change, self.snapshot.placed.field()));
        while self.history_bytes > HISTORY_BYTES || self.history.len() > HISTORY_CHANGES {
            let Some(old) = self.history.pop_front() else { break };
            self.history_bytes -= old.change.weight();
            self.floor = old.change.revision;
        }
    }

    fn dispatch(&mut self, change: &Arc<Change>) {
        if self.watchers.is_empty() {
            return;
        }
        let mut to: Vec<u64> = self.general.iter().copied().collect();
        for key in self.index_keys(change) {
            to.extend(self.indexed.get(&key).into_iter().flatten());
        }
        let delivery = Arc::new(Delivery::new(change.clone()));
        let mut gone = Vec::new();
        for id in to {
            let Some(watcher) = self.watchers.get(&id) else { continue };
            if watcher.sender.try_send(delivery.clone()).is_err() {
                gone.push(id);
            }
        }
        for id in gone {
            self.unregister(id);
        }
    }

    /// Every key under which a watcher may be filed that sees this change. Fields that no watcher is
    /// filed under cost a look-up each.
    fn index_keys(&self, change: &Change) -> Vec<IndexKey> {
        if self.indexed.is_empty() {
            return Vec::new();
        }
        let mut keys = Vec::new();
        let name = change.key.split_once('/').map_or(&*change.key, |(_, name)| name);
        keys.push(IndexKey::Name(name.into()));
        for item in change.item.iter().chain(&change.previous) {
            for (index, value) in item.fields().enumerate() {
                let key = IndexKey::Field(index, value.into());
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        keys
    }
}
