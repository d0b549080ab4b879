//! The life of CustomResourceDefinitions: who gets which names, what is served, and how it ends.
//!
//! One task follows the definitions by the watch cache. What a definition is due is decided by pure functions ([`names`],
//! [`approval`]); [`serving`] carries it into the registry, [`finalizing`] empties what is deleted, [`api_services`] keeps
//! the APIServices of custom groups.
//!
//! Facts: kubernetes apiextensions-apiserver pkg/controller and pkg/apiserver.

mod api_services;
mod approval;
mod definition;
mod deletion;
mod finalizing;
mod names;
mod serving;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_api::status::ApiError;
use daruma_store::{Expect, Outcome};
use futures::FutureExt;
use futures::future::{Either, select};
use serde_json::Value;
use tokio::sync::Notify;

use crate::cache::Filter;
use crate::registry::Resource;
use crate::server::ApiServer;
use crate::verbs::managed_fields::Target;
use definition::Definition;
use serving::Serving;

pub use deletion::mark;

/// Group of definitions.
const GROUP: &str = "apiextensions.k8s.io";
/// Plural of definitions.
const PLURAL: &str = "customresourcedefinitions";
/// The finalizer that waits for the objects of a definition.
const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Condition of a definition that is being deleted.
const TERMINATING: &str = "Terminating";
/// As whom conditions are written.
const MANAGER: &str = "kube-apiserver";
/// How soon what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Whether `resource` is that of definitions.
pub fn are_definitions(resource: &Resource) -> bool {
    resource.is(GROUP, PLURAL)
}

/// What the server's parts know of the custom resources' task.
#[derive(Debug, Default)]
pub struct CustomResources {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    is_synced: bool,
    /// Definitions whose objects are being deleted.
    finalizing: BTreeSet<String>,
}

impl CustomResources {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    /// Waits until the definitions of the start are served.
    pub async fn wait_synced(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.state().is_synced {
                return;
            }
            changed.await;
        }
    }

    fn synced(&self) {
        self.state().is_synced = true;
        self.changed.notify_waiters();
    }
}

/// Follows the definitions for ever.
pub async fn follow(server: Arc<ApiServer>) {
    let find = |group, plural| server.registry.built_in(group, "v1", plural).cloned();
    let (Some(definitions), Some(api_services)) = (find(GROUP, PLURAL), find("apiregistration.k8s.io", "apiservices")) else {
        return server.custom_resources.synced();
    };
    let filter = Arc::new(Filter::default());
    let mut follower =
        Follower { server: server.clone(), definitions, api_services, known: BTreeMap::new(), serving: Serving::default() };
    loop {
        if follower.load().await.is_err() {
            server.world.sleep(RETRY).await;
            continue;
        }
        let (_, mut changed) = follower.definitions.cache.watch_from_now(&filter, 0);
        let (_, mut services_changed) = follower.api_services.cache.watch_from_now(&filter, 0);
        loop {
            let outcome = follower.round().await;
            if let Err(error) = &outcome {
                tracing::debug!(%error, "custom resources are not up to date");
            }
            server.custom_resources.synced();
            let happening = async {
                let (one, other) = (std::pin::pin!(changed.next()), std::pin::pin!(services_changed.next()));
                match select(one, other).await {
                    Either::Left((event, _)) | Either::Right((event, _)) => event.is_some(),
                }
            };
            let pause = if outcome.is_ok() { futures::future::pending().boxed() } else { server.world.sleep(RETRY) };
            if let Either::Left((false, _)) = select(std::pin::pin!(happening), pause).await {
                break;
            }
            // What comes in one burst is looked at once.
            while let Some(Some(_)) = changed.next().now_or_never() {}
            while let Some(Some(_)) = services_changed.next().now_or_never() {}
        }
    }
}

struct Follower {
    server: Arc<ApiServer>,
    definitions: Arc<Resource>,
    api_services: Arc<Resource>,
    /// Definitions by name, decoded.
    known: BTreeMap<String, Definition>,
    serving: Serving,
}

impl Follower {
    async fn load(&self) -> Result<(), ApiError> {
        for resource in [&self.definitions, &self.api_services] {
            self.server.feed.load(&resource.prefix, &resource.cache).await?;
        }
        Ok(())
    }

    /// Looks at all definitions once.
    async fn round(&mut self) -> Result<(), ApiError> {
        self.read();
        let mut all: Vec<Definition> = self.known.values().cloned().collect();
        self.serving.update(&self.server, &all);
        for index in 0..all.len() {
            if let Some(new) = self.judge(index, &all)
                && let Some(written) = self.write(&all[index], new).await?
            {
                all[index] = written;
            }
        }
        self.serving.update(&self.server, &all);
        for definition in &mut all {
            if definition.is(names::NAMES_ACCEPTED) && !definition.is(names::ESTABLISHED) {
                let mut new = Value::clone(&definition.object);
                names::established().set(&mut new, self.server.world.now());
                if let Some(written) = self.write(definition, new).await? {
                    *definition = written;
                }
            }
        }
        self.serving.update(&self.server, &all);
        for definition in &all {
            finalizing::begin(&self.server, &self.definitions, definition);
        }
        api_services::sync(&self.server, &self.api_services, &all).await
    }

    /// Decodes what has changed.
    fn read(&mut self) {
        let snapshot = self.definitions.cache.snapshot(0);
        self.known.retain(|name, _| snapshot.objects.contains_key(name.as_str()));
        for item in snapshot.objects.values() {
            if self.known.get(&*item.key).is_some_and(|known| known.revision == item.revision) {
                continue;
            }
            match self.definitions.head.decode(&item.value, item.revision) {
                Ok(object) => {
                    let definition = Definition { revision: item.revision, object: Arc::new(object) };
                    self.known.insert(item.key.to_string(), definition);
                }
                Err(error) => tracing::warn!(%error, name = &*item.key, "a stored definition does not parse"),
            }
        }
    }

    /// The definition with the names and conditions that are due; `None` where it has them.
    fn judge(&self, index: usize, all: &[Definition]) -> Option<Value> {
        let definition = &all[index];
        let now = self.server.world.now();
        let named = names::accept(definition, all, now);
        let approval = approval::condition(&definition.object).filter(|approval| !approval.is_in(&definition.object));
        let Some(approval) = approval else { return named };
        let mut new = named.unwrap_or_else(|| Value::clone(&definition.object));
        approval.set(&mut new, now);
        Some(new)
    }

    /// Writes a status; `None` where somebody else was faster, who will be heard of.
    async fn write(&self, before: &Definition, mut new: Value) -> Result<Option<Definition>, ApiError> {
        let (server, resource) = (&self.server, &self.definitions);
        Target::of(resource, "status").track(server.world.now(), &before.object, &mut new, MANAGER);
        let key = resource.key("", before.name());
        let put = server.put(resource, &key, Expect::Revision(before.revision), resource.head.encode(&new));
        match put.await? {
            Outcome::Committed { revision } => {
                crate::document::set_metadata(&mut new, "resourceVersion", Some(revision.to_string().into()));
                Ok(Some(Definition { revision, object: Arc::new(new) }))
            }
            Outcome::Conflict { .. } => Ok(None),
        }
    }
}
