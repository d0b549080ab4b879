//! What the invariants are shown beside the store: a watching client, and the living containers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use daruma_api::core::v1::{Node, Pod};
use daruma_api::k8s_openapi::{Metadata, Resource};
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::ObjectMeta;
use daruma_apiserver::storage::keys;
use daruma_client::{Client, ClientError, ListOptions, WatchEvent};
use futures::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::invariants::{Changed, Guard, Running, Watched};
use crate::programs;

/// How often the engines are asked.
const PERIOD: Duration = Duration::from_secs(1);
/// Pause after a watch broke off.
const PAUSE: Duration = Duration::from_secs(1);

/// Begins to look, as somebody outside of the cluster.
pub fn start(guard: &Guard, client: &Client, machines: &programs::Running) {
    let world = client.world();
    world.spawn("lookout pods", watch::<Pod>(guard.clone(), client.clone(), keys::prefix("", "pods")));
    world.spawn("lookout nodes", watch::<Node>(guard.clone(), client.clone(), keys::prefix("", "nodes")));
    world.spawn("lookout containers", look(guard.clone(), client.clone(), machines.clone()));
}

async fn look(guard: Guard, client: Client, machines: programs::Running) {
    let world = client.world();
    // What lived at the last look, with the count of turns that its engine had made.
    let mut known: BTreeMap<String, (Option<u64>, BTreeSet<Running>)> = BTreeMap::new();
    loop {
        let mut changed = Changed::default();
        for (name, machine) in &*machines.lock().expect("no panic while held") {
            let engine = machine.engine();
            let turns = engine.turns();
            let (last, living) = known.entry(name.clone()).or_default();
            if *last == turns {
                continue;
            }
            let mut now = BTreeSet::new();
            engine.each_living(|sandbox, container| {
                now.insert(Running {
                    namespace: sandbox.namespace.clone(),
                    pod: sandbox.name.clone(),
                    uid: sandbox.uid.clone(),
                    container: container.name.clone(),
                    machine: name.clone(),
                });
            });
            changed.began.extend(now.difference(living).cloned());
            changed.ended.extend(living.difference(&now).cloned());
            (*last, *living) = (turns, now);
        }
        guard.running(world.monotonic(), &changed);
        world.sleep(PERIOD).await;
    }
}

/// Watches all objects of a kind for ever, from where the last watch ended.
async fn watch<K>(guard: Guard, client: Client, prefix: String)
where
    K: Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
{
    let world = client.world();
    let mut last: Option<String> = None;
    loop {
        match go_on::<K>(&guard, &client, &prefix, &mut last).await {
            Err(error) if error.is_expired() => last = None,
            Err(error) => tracing::debug!(%error, prefix, "a watch broke off"),
            Ok(()) => {}
        }
        world.sleep(PAUSE).await;
    }
}

async fn go_on<K>(guard: &Guard, client: &Client, prefix: &str, last: &mut Option<String>) -> Result<(), ClientError>
where
    K: Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
{
    let (world, api) = (client.world(), client.all::<K>());
    let from = match last {
        Some(version) => version.clone(),
        None => {
            guard.watched(world.monotonic(), &Watched::Asked { prefix: prefix.to_owned() });
            let version = api.list(&ListOptions::default()).await?.resource_version;
            let revision = version.parse().unwrap_or_default();
            guard.watched(world.monotonic(), &Watched::Listed { prefix: prefix.to_owned(), revision });
            *last = Some(version.clone());
            version
        }
    };
    let mut events = std::pin::pin!(api.watch(&ListOptions::default(), &from).await?);
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
                let version = object.metadata().resource_version.clone().unwrap_or_default();
                let revision = version.parse().unwrap_or_default();
                *last = Some(version);
                let key = object.key();
                guard.watched(world.monotonic(), &Watched::Event { prefix: prefix.to_owned(), key, revision });
            }
            WatchEvent::Bookmark(version) => *last = Some(version),
        }
    }
    Ok(())
}
