//! The one watch of the store that feeds every resource's cache, and the wait for a revision.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_api::status::ApiError;
use daruma_store::{Event, Store, StoreError};
use daruma_world::World;
use tokio::sync::Notify;

use super::resource_cache::{Loading, ResourceCache};
use crate::http::answer;
use crate::storage::keys;

/// How long a consistent read waits for the cache (apiserver cacher `blockTimeout`).
const FRESHNESS_LIMIT: Duration = Duration::from_secs(3);

/// Feeds the caches.
pub struct Feed {
    world: World,
    store: Arc<dyn Store>,
    caches: Mutex<BTreeMap<String, Arc<ResourceCache>>>,
    seen: AtomicU64,
    following: AtomicBool,
    advanced: Notify,
}

impl Feed {
    /// A feed that has seen nothing yet; [`Feed::run`] drives it.
    pub fn new(world: &World, store: Arc<dyn Store>) -> Self {
        Self {
            world: world.clone(),
            store,
            caches: Mutex::default(),
            seen: AtomicU64::new(0),
            following: AtomicBool::new(false),
            advanced: Notify::new(),
        }
    }

    /// Registers the cache of the resource below `prefix`, in the place of the one before.
    pub fn register(&self, prefix: &str, cache: Arc<ResourceCache>) {
        self.caches.lock().expect("no panic while held").insert(prefix.to_owned(), cache);
    }

    /// Forgets the cache of the resource below `prefix`: it hears of nothing any more.
    pub fn unregister(&self, prefix: &str) {
        self.caches.lock().expect("no panic while held").remove(prefix);
    }

    /// The revision up to which all caches have seen everything.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    /// Whether the store is being watched.
    pub fn is_following(&self) -> bool {
        self.following.load(Ordering::Acquire)
    }

    /// Watches the store for ever.
    pub async fn run(self: Arc<Self>) {
        let mut from = None;
        loop {
            match self.follow(&mut from).await {
                Ok(()) => {}
                Err(StoreError::Compacted { .. } | StoreError::Future { .. }) => {
                    tracing::warn!("the store's history was lost between two watches; caches start anew");
                    self.following.store(false, Ordering::Release);
                    for cache in self.caches.lock().expect("no panic while held").values() {
                        cache.reset();
                    }
                    from = None;
                }
                Err(error) => {
                    tracing::warn!(%error, "the watch of the store failed");
                    self.world.sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn follow(&self, from: &mut Option<u64>) -> Result<(), StoreError> {
        let start = match *from {
            Some(revision) => revision,
            None => self.store.revision().await?,
        };
        let mut events = self.store.watch(keys::ROOT, start).await?;
        *from = Some(start);
        self.following.store(true, Ordering::Release);
        self.advance(start);
        while let Some(batch) = events.recv().await {
            let Some(last) = batch.last().map(|event| event.revision) else { continue };
            self.distribute(batch);
            *from = Some(last);
            self.advance(last);
        }
        Ok(())
    }

    fn distribute(&self, batch: Vec<Event>) {
        let caches = self.caches.lock().expect("no panic while held");
        let mut rest = batch.into_iter().peekable();
        while let Some(first) = rest.next() {
            let Some((prefix, _)) = keys::split(&first.key) else { continue };
            let Some((prefix, cache)) = caches.get_key_value(prefix) else { continue };
            let mut run = vec![first];
            while let Some(next) = rest.next_if(|event| event.key.starts_with(prefix.as_str())) {
                run.push(next);
            }
            cache.apply(prefix, run.into_iter());
        }
    }

    fn advance(&self, revision: u64) {
        self.seen.fetch_max(revision, Ordering::AcqRel);
        self.advanced.notify_waiters();
    }

    /// Loads the objects of a resource, if nobody has.
    ///
    /// # Errors
    /// 500 where the store fails.
    pub async fn load(&self, prefix: &str, cache: &ResourceCache) -> Result<(), ApiError> {
        if cache.is_loaded() {
            return Ok(());
        }
        // What is read before the watch has begun could miss what happens in between.
        self.wait(|| self.following.load(Ordering::Acquire)).await?;
        loop {
            let mut loaded = std::pin::pin!(cache.loaded.notified());
            loaded.as_mut().enable();
            match cache.begin_loading() {
                Loading::Done => return Ok(()),
                Loading::Anothers => loaded.await,
                Loading::Mine(epoch) => {
                    // The guard lets another caller load where this one is dropped half-way.
                    let guard = GiveUp(Some(cache));
                    let range = self.store.range(prefix, None, 0, None).await.map_err(answer::from_store)?;
                    guard.defuse();
                    cache.finish_loading(epoch, prefix, range.items, range.revision);
                }
            }
        }
    }

    /// Waits until the caches have seen `revision`.
    ///
    /// # Errors
    /// 504 when they do not within three seconds.
    pub async fn wait_for(&self, revision: u64) -> Result<(), ApiError> {
        self.wait(|| self.seen() >= revision).await.map_err(|_| answer::too_large_version(revision, self.seen()))
    }

    async fn wait(&self, done: impl Fn() -> bool + Send + Sync) -> Result<(), ApiError> {
        if done() {
            return Ok(());
        }
        let waiting = async {
            loop {
                let mut advanced = std::pin::pin!(self.advanced.notified());
                advanced.as_mut().enable();
                if done() {
                    return;
                }
                advanced.await;
            }
        };
        let waited = self.world.timeout(FRESHNESS_LIMIT, waiting).await;
        waited.map_err(|_| ApiError::timeout("the watch cache is not ready"))
    }

    /// Waits until the caches show every write that has been acknowledged.
    ///
    /// # Errors
    /// As [`Feed::wait_for`]; 500 where the store fails.
    pub async fn wait_until_current(&self) -> Result<(), ApiError> {
        let revision = self.store.revision().await.map_err(answer::from_store)?;
        self.wait_for(revision).await
    }
}

struct GiveUp<'a>(Option<&'a ResourceCache>);

impl GiveUp<'_> {
    fn defuse(mut self) {
        self.0 = None;
    }
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        if let Some(cache) = self.0 {
            cache.give_up_loading();
        }
    }
}
