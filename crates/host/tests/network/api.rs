//! An API of a few collections for tests: list, watch, and patches that change nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use daruma_client::{Body, Client, RateLimit, Transport, TransportError, full_body, stream_body};
use daruma_world::World;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;

type Watchers = BTreeMap<String, Vec<mpsc::UnboundedSender<Value>>>;

/// The API. Clones share it.
#[derive(Clone, Default)]
pub struct FakeApi(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    revision: u64,
    /// By path of the collection and name.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    watchers: Watchers,
    /// Every event with its revision and collection.
    log: Vec<(u64, String, Value)>,
}

impl FakeApi {
    /// A client without limits.
    pub fn client(&self, world: &World) -> Client {
        Client::new(world, Arc::new(self.clone()), "test", RateLimit::NONE)
    }

    /// Creates or replaces an object, or deletes it.
    pub fn put(&self, collection: &str, name: &str, object: Option<Value>) {
        let mut state = self.0.lock().expect("not poisoned");
        state.revision += 1;
        let revision = state.revision.to_string();
        let objects = state.objects.entry(collection.to_owned()).or_default();
        let event = if let Some(mut object) = object {
            object["metadata"]["resourceVersion"] = json!(revision);
            let kind = if objects.insert(name.to_owned(), object.clone()).is_some() { "MODIFIED" } else { "ADDED" };
            json!({"type": kind, "object": object})
        } else {
            let Some(mut object) = objects.remove(name) else { return };
            object["metadata"]["resourceVersion"] = json!(revision);
            json!({"type": "DELETED", "object": object})
        };
        let revision = state.revision;
        state.log.push((revision, collection.to_owned(), event.clone()));
        let watchers = state.watchers.entry(collection.to_owned()).or_default();
        watchers.retain(|watcher| watcher.send(event.clone()).is_ok());
    }

    fn answer(&self, request: &Request<Body>) -> Response<Body> {
        let mut state = self.0.lock().expect("not poisoned");
        let path = request.uri().path().to_owned();
        if request.method() != Method::GET {
            let (collection, rest) = path.split_at(path.find("/nodes").map_or(path.len(), |at| at + "/nodes".len()));
            let name = rest.trim_start_matches('/').trim_end_matches("/status");
            let object = state.objects.get(collection).and_then(|objects| objects.get(name)).cloned();
            return Response::new(full_body(object.unwrap_or_default().to_string()));
        }
        let query = request.uri().query().unwrap_or_default();
        if query.contains("watch=true") {
            let (sender, receiver) = mpsc::unbounded_channel::<Value>();
            let from = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion=")?.parse::<u64>().ok()).unwrap_or(0);
            for (_, _, event) in state.log.iter().filter(|(revision, of, _)| *revision > from && *of == path) {
                let _ = sender.send(event.clone());
            }
            state.watchers.entry(path).or_default().push(sender);
            return Response::new(stream_body(futures::stream::unfold(receiver, |mut receiver| async move {
                let event = receiver.recv().await?;
                Some((Ok(format!("{event}\n").into()), receiver))
            })));
        }
        let items: Vec<Value> = state.objects.get(&path).map(|objects| objects.values().cloned().collect()).unwrap_or_default();
        Response::new(full_body(json!({"metadata": {"resourceVersion": state.revision.to_string()}, "items": items}).to_string()))
    }
}

impl Transport for FakeApi {
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        Box::pin(std::future::ready(Ok(self.answer(&request))))
    }
}
