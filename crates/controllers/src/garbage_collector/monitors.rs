//! Watches of every deletable resource, metadata only, that feed the graph.
//!
//! Source: kubernetes pkg/controller/garbagecollector (garbagecollector.go `Sync`, graph_builder.go).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_api::metav1::Status;
use daruma_api::status::ApiError;
use daruma_client::{Client, ClientError, TransportError, split_watch_line};
use daruma_world::tasks::{AbortOnDrop, Task};
use foldhash::fast::FixedState;
use foldhash::quality;
use http::Method;
use http_body_util::BodyExt;
use serde::Deserialize;

use super::Collector;
use super::graph::{Identity, Seen};
use crate::discovery::{self, ApiResource, Discovery, METADATA, METADATA_LIST, Metadata, Partial, PartialList};

/// How often the API is asked for new resources.
const RESYNC: Duration = Duration::from_secs(30);
/// First and longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Hashes what is of concern: one seed, so that a run repeats itself.
const CONCERN: quality::FixedState = quality::FixedState::with_seed(0);

/// Resources that own nothing and are not owned.
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];

/// The running watches and the map from kinds to resources.
#[derive(Default)]
pub(super) struct Monitors {
    running: Mutex<BTreeMap<ApiResource, Running>>,
    resources: Mutex<Vec<ApiResource>>,
}

struct Running {
    listed: Arc<AtomicBool>,
    _task: AbortOnDrop,
}

impl Monitors {
    /// The resource of a kind, in any of its versions.
    pub(super) fn resource(&self, api_version: &str, kind: &str) -> Option<ApiResource> {
        let group = daruma_api::gvk::split_api_version(api_version).0;
        let resources = self.resources.lock().expect("no panic while held");
        resources.iter().find(|one| one.group == group && one.kind == kind).cloned()
    }

    /// Whether all first lists have arrived.
    fn all_listed(&self) -> bool {
        let running = self.running.lock().expect("no panic while held");
        !running.is_empty() && running.values().all(|one| one.listed.load(Ordering::Acquire))
    }
}

/// Keeps a watch on every deletable resource, for ever. `first` is rung when all have listed once, or
/// after 30 s.
pub(super) async fn run(collector: Arc<Collector>, first: tokio::sync::oneshot::Sender<()>) {
    let world = collector.context.world.clone();
    let mut first = Some(first);
    let mut wait = RETRY.0;
    let mut discovery = Discovery::default();
    loop {
        match discovery.ask(&collector.watching).await {
            Ok(found) if !found.resources.is_empty() => {
                adjust(&collector, found.resources);
                if let Some(first) = first.take() {
                    let started = world.monotonic();
                    while !collector.monitors.all_listed() && world.monotonic().saturating_sub(started) < RESYNC {
                        world.sleep(RETRY.0).await;
                    }
                    // The receiver is gone only when everything ends.
                    let _ = first.send(());
                }
                wait = RETRY.0;
                world.sleep(RESYNC).await;
            }
            outcome => {
                tracing::debug!(?outcome, "cannot discover resources, trying again");
                world.sleep(wait).await;
                wait = (wait * 2).min(RETRY.1);
            }
        }
    }
}

/// Starts watches of new resources and ends those of resources that are no more.
fn adjust(collector: &Arc<Collector>, resources: Vec<ApiResource>) {
    let wanted: BTreeSet<ApiResource> = resources
        .iter()
        .filter(|one| ["delete", "list", "watch"].iter().all(|verb| one.supports(verb)))
        .filter(|one| !IGNORED.contains(&(one.group.as_str(), one.resource.as_str())))
        .cloned()
        .collect();
    *collector.monitors.resources.lock().expect("no panic while held") = resources;
    let mut running = collector.monitors.running.lock().expect("no panic while held");
    running.retain(|resource, _| wanted.contains(resource));
    for resource in wanted {
        if running.contains_key(&resource) {
            continue;
        }
        let listed = Arc::new(AtomicBool::new(false));
        let watch =
            Watch { collector: collector.clone(), resource: resource.clone(), listed: listed.clone(), known: HashMap::default() };
        let task: Task = collector.context.world.spawn("garbage-collector-watch", watch.run());
        running.insert(resource, Running { listed, _task: task.abort_on_drop() });
    }
}

/// The watch of one resource.
struct Watch {
    collector: Arc<Collector>,
    resource: ApiResource,
    listed: Arc<AtomicBool>,
    /// By key; looked up for each change of each object, in no order.
    known: HashMap<String, Known, FixedState>,
}

/// An object as it was told to the graph.
struct Known {
    uid: String,
    /// Of all that is of concern here, its uid among it: nearly every change of an object is about something else, and is
    /// recognised without looking at anything else that was kept of it.
    concern: u64,
}

impl Watch {
    async fn run(mut self) {
        let world = self.collector.context.world.clone();
        let mut wait = RETRY.0;
        loop {
            let started = world.monotonic();
            match self.list_and_watch().await {
                Err(error) if error.is_expired() => continue,
                Err(error) => tracing::debug!(resource = self.resource.resource, %error, "list and watch ended"),
                Ok(()) => {}
            }
            if world.monotonic().saturating_sub(started) > RETRY.1 {
                wait = RETRY.0;
            }
            world.sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
    }

    async fn list_and_watch(&mut self) -> Result<(), ClientError> {
        let client = self.collector.watching.clone();
        let path = self.resource.path("", None);
        let list: PartialList = discovery::get(&client, &format!("{path}?resourceVersion=0"), METADATA_LIST).await?;
        let mut version = list.metadata.resource_version;
        let mut gone: BTreeSet<String> = self.known.keys().cloned().collect();
        for item in list.items {
            gone.remove(&key(&item.metadata));
            self.seen(item.metadata);
        }
        for key in gone {
            self.gone(&key);
        }
        self.listed.store(true, Ordering::Release);
        loop {
            let started = client.world().monotonic();
            self.watch(&client, &path, &mut version).await?;
            if client.world().monotonic().saturating_sub(started) < Duration::from_secs(1) {
                client.world().sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn watch(&mut self, client: &Client, path: &str, version: &mut String) -> Result<(), ClientError> {
        let path = format!("{path}?watch=true&allowWatchBookmarks=true&resourceVersion={version}");
        let mut body = discovery::open(client, Method::GET, &path, METADATA, None).await?.into_body();
        let mut buffer: Vec<u8> = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| TransportError(format!("watch broke off: {error}")))?;
            let Some(data) = frame.data_ref() else { continue };
            buffer.extend_from_slice(data);
            let mut start = 0;
            while let Some(length) = memchr::memchr(b'\n', &buffer[start..]) {
                let line = &buffer[start..start + length];
                start += length + 1;
                if let Some((kind, metadata)) = decode(line)? {
                    metadata.resource_version.clone_into(version);
                    match kind {
                        Kind::Present => self.seen(metadata),
                        Kind::Gone => self.gone(&key(&metadata)),
                        Kind::Bookmark => {}
                    }
                }
            }
            buffer.drain(..start);
        }
        Ok(())
    }

    fn seen(&mut self, metadata: Metadata) {
        let key = key(&metadata);
        let concern = concern(&metadata);
        match self.known.get_mut(&key) {
            Some(known) if known.concern == concern => return,
            Some(known) => {
                known.concern = concern;
                if known.uid != metadata.uid {
                    // The name was taken over by another object.
                    let old = std::mem::replace(&mut known.uid, metadata.uid.clone());
                    self.collector.change(|graph| graph.gone(&old));
                }
            }
            None => {
                self.known.insert(key, Known { uid: metadata.uid.clone(), concern });
            }
        }
        let has = |finalizer: &str| has_finalizer(&metadata, finalizer);
        let (being_deleted, foreground, orphan) = (metadata.deletion_timestamp.is_some(), has(FOREGROUND), has(ORPHAN));
        let identity = Identity {
            kind: self.resource.kind.clone(),
            api_version: self.resource.api_version(),
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
        };
        let seen = Seen { identity, owners: metadata.owner_references, being_deleted, foreground, orphan };
        self.collector.change(|graph| graph.seen(seen));
    }

    fn gone(&mut self, key: &str) {
        if let Some(known) = self.known.remove(key) {
            self.collector.change(|graph| graph.gone(&known.uid));
        }
    }
}

/// A hash of what the graph learns from an object.
fn concern(metadata: &Metadata) -> u64 {
    let has = |finalizer: &str| has_finalizer(metadata, finalizer);
    let being_deleted = metadata.deletion_timestamp.is_some();
    CONCERN.hash_one((&metadata.uid, &metadata.owner_references, being_deleted, has(FOREGROUND), has(ORPHAN)))
}

fn has_finalizer(metadata: &Metadata, finalizer: &str) -> bool {
    metadata.finalizers.iter().any(|one| one == finalizer)
}

fn key(metadata: &Metadata) -> String {
    [&metadata.namespace, "/", &metadata.name].concat()
}

enum Kind {
    Present,
    Gone,
    Bookmark,
}

impl Kind {
    fn of_an_object(event: &str) -> Option<Self> {
        match event {
            "ADDED" | "MODIFIED" => Some(Self::Present),
            "DELETED" => Some(Self::Gone),
            _ => None,
        }
    }
}

fn decode(line: &[u8]) -> Result<Option<(Kind, Metadata)>, ClientError> {
    #[derive(Deserialize)]
    struct Line<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        #[serde(borrow)]
        object: &'a serde_json::value::RawValue,
    }
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    if let Some((kind, object)) = split_watch_line(line)
        && let Some(kind) = Kind::of_an_object(kind)
        && let Ok(partial) = serde_json::from_slice::<Partial>(object)
    {
        return Ok(Some((kind, partial.metadata)));
    }
    let failure = |source: serde_json::Error| ClientError::Decode { what: "watch event".to_owned(), source: Arc::new(source) };
    let line: Line = serde_json::from_slice(line).map_err(failure)?;
    let kind = match (Kind::of_an_object(line.kind), line.kind) {
        (Some(kind), _) => kind,
        (None, "BOOKMARK") => Kind::Bookmark,
        (None, _) => {
            let status: Status = serde_json::from_str(line.object.get()).map_err(failure)?;
            return Err(ApiError::from_status(status).into());
        }
    };
    let partial: Partial = serde_json::from_str(line.object.get()).map_err(failure)?;
    Ok(Some((kind, partial.metadata)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_itself_as_before_is_known() {
        let owner = |blocks| crate::garbage_collector::graph::Owner {
            uid: "o".into(),
            block_owner_deletion: Some(blocks),
            ..Default::default()
        };
        let known = Metadata { uid: "u".into(), owner_references: vec![owner(true)], ..Metadata::default() };
        let deleted = Metadata { deletion_timestamp: Some("2026-01-01T00:00:00Z".into()), ..known.clone() };
        for alike in [
            Metadata { resource_version: "2".into(), ..known.clone() },
            Metadata { finalizers: vec!["mine".into()], ..known.clone() },
        ] {
            assert_eq!(concern(&alike), concern(&known), "{alike:?}");
        }
        for changed in [
            Metadata { uid: "v".into(), ..known.clone() },
            Metadata { owner_references: vec![owner(false)], ..known.clone() },
            Metadata { owner_references: vec![], ..known.clone() },
            Metadata { finalizers: vec![ORPHAN.into()], ..known.clone() },
            Metadata { finalizers: vec![FOREGROUND.into()], ..deleted.clone() },
            deleted,
        ] {
            assert_ne!(concern(&changed), concern(&known), "{changed:?}");
        }
    }

    #[test]
    fn decodes_watch_lines() {
        let line = br#"{"type":"ADDED","object":{"metadata":{"name":"a","namespace":"n","uid":"u","resourceVersion":"7",
            "finalizers":["foregroundDeletion"],"ownerReferences":[{"apiVersion":"v1","kind":"K","name":"o","uid":"x"}]},"spec":{}}}"#;
        let (kind, metadata) = decode(line).expect("valid").expect("an event");
        assert!(matches!(kind, Kind::Present));
        assert_eq!(metadata.owner_references[0].uid, "x");
        assert_eq!(key(&metadata), "n/a");
        assert!(decode(b" ").expect("valid").is_none());
        let expired = br#"{"type":"ERROR","object":{"status":"Failure","code":410,"reason":"Expired","message":"old"}}"#;
        assert!(decode(expired).is_err_and(|error| error.is_expired()));
    }
}
