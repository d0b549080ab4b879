//! A local copy of a collection, kept current by list and watch.
//!
//! Source of the semantics: client-go tools/cache (reflector, shared informer).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use daruma_api::k8s_openapi::{Metadata, Resource};
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::ObjectMeta;
use daruma_world::tasks::AbortOnDrop;
use daruma_world::{Task, World};
use futures::StreamExt;
use futures::future::{Either, select};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use crate::decoded;
use crate::{Api, ClientError, ListOptions, WatchEvent};

/// The server ends a watch after this many seconds to twice as many (client-go reflector.go minWatchTimeout).
const WATCH_SECONDS: u64 = 300;
/// A watch that should have ended this long ago is taken for dead.
const STUCK: Duration = Duration::from_secs(30);
/// A watch that lasted this long was none that failed.
const STEADY: Duration = Duration::from_secs(1);

/// What changed in the copy. A handler sees it after the copy has changed.
#[derive(Debug, Clone)]
pub enum Delta<K> {
    /// A new object.
    Added(Arc<K>),
    /// Old and new state.
    Updated(Arc<K>, Arc<K>),
    /// The last known state of an object that is gone.
    Deleted(Arc<K>),
}

impl<K> Delta<K> {
    /// The newest state known.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Added(object) | Self::Updated(_, object) | Self::Deleted(object) => object,
        }
    }
}

type Handler<K> = Box<dyn Fn(&Delta<K>) + Send + Sync>;
type Indexer<K> = Box<dyn Fn(&K) -> Vec<String> + Send + Sync>;

struct Index<K> {
    of: Indexer<K>,
    keys: BTreeMap<String, BTreeMap<String, Arc<K>>>,
}

struct Copy<K> {
    objects: BTreeMap<String, Arc<K>>,
    indexes: BTreeMap<&'static str, Index<K>>,
}

/// The local copy. Clones share it. Configure (indexes, handlers) first, then [`Informer::start`].
pub struct Informer<K> {
    api: Api<K>,
    options: ListOptions,
    copy: Arc<RwLock<Copy<K>>>,
    handlers: Arc<Mutex<Vec<Handler<K>>>>,
    synced: Arc<AtomicBool>,
    synced_notify: Arc<Notify>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self {
            api: self.api.clone(),
            options: self.options.clone(),
            copy: self.copy.clone(),
            handlers: self.handlers.clone(),
            synced: self.synced.clone(),
            synced_notify: self.synced_notify.clone(),
        }
    }
}

impl<K> Informer<K>
where
    K: Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
{
    /// A copy of what `api` and `options` select; empty until started.
    pub fn new(api: Api<K>, options: ListOptions) -> Self {
        Self {
            api,
            options,
            copy: Arc::new(RwLock::new(Copy { objects: BTreeMap::new(), indexes: BTreeMap::new() })),
            handlers: Arc::default(),
            synced: Arc::default(),
            synced_notify: Arc::new(Notify::new()),
        }
    }

    /// Adds an index: `of` gives the values under which an object is found. Before [`Informer::start`] only.
    pub fn add_index(&self, name: &'static str, of: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) {
        let index = Index { of: Box::new(of), keys: BTreeMap::new() };
        self.copy.write().expect("no panic while held").indexes.insert(name, index);
    }

    /// Calls `handler` for every change from now on, and for what is there already as `Added`.
    /// Handlers must be quick and must not call back into `on_delta`; they may read the copy.
    pub fn on_delta(&self, handler: impl Fn(&Delta<K>) + Send + Sync + 'static) {
        // Holding the handlers keeps the copy from changing in between.
        let mut handlers = self.handlers.lock().expect("no panic while held");
        for object in self.list() {
            handler(&Delta::Added(object));
        }
        handlers.push(Box::new(handler));
    }

    /// Starts to list and watch, for as long as the world's scope lives.
    pub fn start(&self) {
        self.spawn();
    }

    /// As [`Informer::start`], until the guard is dropped. Handlers that hold the guard's owner must hold it weakly.
    #[must_use = "the copy is no longer kept current once the guard is dropped"]
    pub fn start_scoped(&self) -> AbortOnDrop {
        self.spawn().abort_on_drop()
    }

    fn spawn(&self) -> Task {
        let informer = self.clone();
        let end = Farewell(self.handlers.clone());
        let world = self.api.client().world().clone();
        world.clone().spawn("informer", async move {
            let _end = end;
            informer.run(world).await;
        })
    }

    /// Whether the first list has arrived.
    pub fn has_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// Completes once the first list has arrived.
    pub async fn wait_synced(&self) {
        loop {
            let notified = self.synced_notify.notified();
            if self.has_synced() {
                // Passes the wake-up on to the next that waits.
                self.synced_notify.notify_one();
                return;
            }
            notified.await;
        }
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        if namespace.is_empty() { self.by_key(name) } else { self.by_key(&format!("{namespace}/{name}")) }
    }

    /// One object by its `namespace/name` key.
    pub fn by_key(&self, key: &str) -> Option<Arc<K>> {
        self.copy.read().expect("no panic while held").objects.get(key).cloned()
    }

    /// All objects in key order.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.copy.read().expect("no panic while held").objects.values().cloned().collect()
    }

    /// All objects of one namespace in key order.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let copy = self.copy.read().expect("no panic while held");
        let start = format!("{namespace}/");
        copy.objects
            .range(start.clone()..)
            .take_while(|(key, _)| key.starts_with(&start))
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// The objects that the index `name` files under `value`, in key order.
    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        let copy = self.copy.read().expect("no panic while held");
        let found = copy.indexes.get(name).and_then(|index| index.keys.get(value));
        found.map(|objects| objects.values().cloned().collect()).unwrap_or_default()
    }

    /// The values under which the index `name` files anything, in order.
    pub fn index_values(&self, name: &str) -> Vec<String> {
        let copy = self.copy.read().expect("no panic while held");
        copy.indexes.get(name).map(|index| index.keys.keys().cloned().collect()).unwrap_or_default()
    }

    async fn run(self, world: World) {
        let mut position = Position::default();
        let mut failures = 0u32;
        loop {
            if position.must_list {
                match self.relist(&mut position).await {
                    Ok(()) => {}
                    Err(error) => {
                        tracing::debug!(kind = K::KIND, %error, "cannot list");
                        self.pause(&world, &mut failures).await;
                        continue;
                    }
                }
            }
            let started = world.monotonic();
            match self.watch(&world, &mut position).await {
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(kind = K::KIND, %error, "the watch broke off");
                    // A server that is away may well know the position when it is back.
                    position.must_list = !matches!(error, ClientError::Transport(_));
                }
            }
            if world.monotonic().saturating_sub(started) >= STEADY {
                failures = 0;
            }
            self.pause(&world, &mut failures).await;
        }
    }

    /// Waits before the next call. Retries are quick until the first list has arrived: a component
    /// that waits for its API server must not cost start-up time.
    async fn pause(&self, world: &World, failures: &mut u32) {
        let most = if self.has_synced() { Duration::from_secs(2) } else { Duration::from_millis(200) };
        let pause = Duration::from_millis(50).saturating_mul(1 << (*failures).min(6)).min(most);
        *failures += 1;
        world.sleep(pause.mul_f64(1.0 + world.random.unit() / 2.0)).await;
    }

    /// Lists and makes the copy equal. The list may come from a cache, but not from before what the
    /// copy has shown already (client-go reflector.go relistResourceVersion).
    async fn relist(&self, position: &mut Position) -> Result<(), ClientError> {
        let version = match position.version.as_str() {
            _ if position.is_unknown => None,
            "" => Some("0".to_owned()),
            version => Some(version.to_owned()),
        };
        let options = ListOptions { resource_version: version, ..self.options.clone() };
        let list = match self.api.list_as(&options, decoded::decode::<K>).await {
            Ok(list) => list,
            Err(error) => {
                // 410: compacted. 504: the server has not got that far, and may never.
                position.is_unknown |= error.is_expired() || error.api().is_some_and(|error| error.code == 504);
                return Err(error);
            }
        };
        self.replace(list.items);
        *position = Position { version: list.resource_version, must_list: false, is_unknown: false };
        self.synced.store(true, Ordering::Release);
        self.synced_notify.notify_one();
        Ok(())
    }

    /// Follows the collection until the server ends the watch, which it is asked to do after five to
    /// ten minutes (client-go reflector.go), or for a little longer where it has fallen silent.
    async fn watch(&self, world: &World, position: &mut Position) -> Result<(), ClientError> {
        let seconds = WATCH_SECONDS + world.random.below(WATCH_SECONDS);
        let mut deadline = world.sleep(Duration::from_secs(seconds) + STUCK);
        let stream = self.api.watch_as(&self.options, &position.version, Some(seconds), decoded::decode::<K>).await?;
        futures::pin_mut!(stream);
        while let Either::Left((Some(event), _)) = select(stream.next(), &mut deadline).await {
            let event = event?;
            if let WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) = &event
                && let Some(version) = &object.metadata().resource_version
            {
                position.version.clone_from(version);
            }
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => self.store(object),
                WatchEvent::Deleted(object) => self.remove(&object.key(), Some(object)),
                WatchEvent::Bookmark(version) => position.version = version,
            }
        }
        Ok(())
    }

    fn replace(&self, items: Vec<Arc<K>>) {
        let mut gone: BTreeSet<String> = self.copy.read().expect("no panic while held").objects.keys().cloned().collect();
        for item in items {
            gone.remove(&item.key());
            self.store(item);
        }
        for key in &gone {
            self.remove(key, None);
        }
    }

    fn store(&self, object: Arc<K>) {
        let key = object.key();
        let handlers = self.handlers.lock().expect("no panic while held");
        let old = {
            let mut copy = self.copy.write().expect("no panic while held");
            let old = copy.objects.insert(key.clone(), object.clone());
            copy.reindex(&key, old.as_deref(), Some(&object));
            old
        };
        let delta = match old {
            // A list after a broken watch repeats what is known.
            Some(old) if old.metadata().resource_version == object.metadata().resource_version => return,
            // The name was taken over by another object while nobody watched.
            Some(old) if old.uid() != object.uid() => {
                tell(&handlers, &Delta::Deleted(old));
                Delta::Added(object)
            }
            Some(old) => Delta::Updated(old, object),
            None => Delta::Added(object),
        };
        tell(&handlers, &delta);
    }

    fn remove(&self, key: &str, last: Option<Arc<K>>) {
        let handlers = self.handlers.lock().expect("no panic while held");
        let old = {
            let mut copy = self.copy.write().expect("no panic while held");
            let old = copy.objects.remove(key);
            copy.reindex(key, old.as_deref(), None);
            old
        };
        if let Some(old) = old {
            tell(&handlers, &Delta::Deleted(last.unwrap_or(old)));
        }
    }
}

/// Lets the handlers go with the task that calls them: most know somebody who knows the informer.
struct Farewell<K>(Arc<Mutex<Vec<Handler<K>>>>);

impl<K> Drop for Farewell<K> {
    fn drop(&mut self) {
        let handlers = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        drop(handlers);
    }
}

fn tell<K>(handlers: &[Handler<K>], delta: &Delta<K>) {
    for handler in handlers {
        handler(delta);
    }
}

/// Where in the collection's history the copy stands.
struct Position {
    /// Revision that the copy shows; empty before the first list.
    version: String,
    /// Whether the copy has to be made anew before it can be followed.
    must_list: bool,
    /// Whether the server does not know this version.
    is_unknown: bool,
}

impl Default for Position {
    fn default() -> Self {
        Self { version: String::new(), must_list: true, is_unknown: false }
    }
}

impl<K> Copy<K> {
    fn reindex(&mut self, key: &str, old: Option<&K>, new: Option<&Arc<K>>) {
        for index in self.indexes.values_mut() {
            let before = old.map(&index.of).unwrap_or_default();
            let after = new.map(|new| (index.of)(new)).unwrap_or_default();
            for value in before.iter().filter(|value| !after.contains(value)) {
                if let Some(objects) = index.keys.get_mut(value) {
                    objects.remove(key);
                    if objects.is_empty() {
                        index.keys.remove(value);
                    }
                }
            }
            let Some(new) = new else { continue };
            for value in after {
                // Nearly always it stays where it is.
                let objects = match index.keys.get_mut(&value) {
                    Some(objects) => objects,
                    None => index.keys.entry(value).or_default(),
                };
                match objects.get_mut(key) {
                    Some(place) => *place = new.clone(),
                    None => drop(objects.insert(key.to_owned(), new.clone())),
                }
            }
        }
    }
}
