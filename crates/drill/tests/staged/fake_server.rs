//! A server small enough to hold in the hand: objects by URL path, with list, watch, patches and tables.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use daruma_api::patch::{json_patch, merge_patch};
use daruma_client::{Body, BodyError, Client, RateLimit, Transport, TransportError, full_body, stream_body};
use daruma_world::World;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;

#[derive(Default)]
struct State {
    revision: u64,
    /// By path, e.g. `/api/v1/namespaces/a/configmaps/x`.
    objects: BTreeMap<String, Value>,
    watchers: Vec<(String, mpsc::UnboundedSender<Result<Bytes, BodyError>>)>,
    /// Requests that change something.
    writes: Vec<String>,
}

/// Clones share it.
#[derive(Clone, Default)]
pub struct FakeServer(Arc<Mutex<State>>);

impl FakeServer {
    pub fn client(&self, world: &World) -> Client {
        Client::new(world, Arc::new(self.clone()), "test", RateLimit::NONE)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Method and path of the requests that changed something so far.
    pub fn take_writes(&self) -> Vec<String> {
        std::mem::take(&mut self.state().writes)
    }

    pub fn object(&self, path: &str) -> Option<Value> {
        self.state().objects.get(path).cloned()
    }

    pub fn set(&self, path: &str, object: Value) {
        self.state().set(path, Some(object));
    }

    fn answer(&self, head: &http::request::Parts, body: &[u8]) -> (u16, Value) {
        let mut state = self.state();
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        let header = |name: http::HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if head.method != Method::GET {
            state.writes.push(format!("{} {path}", head.method));
        }
        let mut body: Value = serde_json::from_slice(body).unwrap_or_default();
        let present = state.objects.get(path).cloned();
        match (head.method.as_str(), present) {
            ("GET", Some(object)) => (200, object),
            ("GET", None) if is_collection(path) => {
                let belonging = state.objects.iter().filter(|(at, _)| belongs(at, path));
                let items: Vec<Value> = belonging.map(|(_, object)| object.clone()).collect();
                if header(http::header::ACCEPT).contains("as=Table") {
                    return (200, table(path, &items));
                }
                (200, json!({"metadata": {"resourceVersion": state.revision.to_string()}, "items": items}))
            }
            ("POST", _) if path.ends_with("/eviction") => {
                state.set(path.trim_end_matches("/eviction"), None);
                (201, json!({}))
            }
            ("POST", _) => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                if state.objects.contains_key(&path) {
                    return failure(409, "AlreadyExists");
                }
                body["metadata"]["uid"] = path.clone().into();
                (201, state.set(&path, Some(body)))
            }
            ("PATCH", Some(mut present)) => {
                if header(http::header::CONTENT_TYPE) == "application/json-patch+json" {
                    if json_patch(&mut present, &body).is_err() {
                        return failure(422, "Invalid");
                    }
                } else {
                    merge_patch(&mut present, &body);
                }
                (200, state.set(path, Some(present)))
            }
            ("DELETE", Some(_)) => (200, state.set(path, None)),
            ("DELETE", None) if is_collection(path) && query.contains("labelSelector") => {
                let all: Vec<String> = state.objects.keys().filter(|at| belongs(at, path)).cloned().collect();
                for at in &all {
                    state.set(at, None);
                }
                (200, json!({}))
            }
            _ => failure(404, "NotFound"),
        }
    }

    fn watch(&self, path: &str) -> Response<Body> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.state().watchers.push((path.to_owned(), sender));
        let chunks = futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
        Response::new(stream_body(chunks))
    }
}

impl State {
    fn set(&mut self, path: &str, object: Option<Value>) -> Value {
        self.revision += 1;
        let old = self.objects.remove(path);
        let kind = match (&old, &object) {
            (None, _) => "ADDED",
            (_, Some(_)) => "MODIFIED",
            (_, None) => "DELETED",
        };
        let Some(mut shown) = object.clone().or(old) else { return Value::Null };
        shown["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        if object.is_some() {
            self.objects.insert(path.to_owned(), shown.clone());
        }
        let line = format!("{}\n", json!({"type": kind, "object": shown}));
        self.watchers.retain(|(prefix, sender)| !belongs(path, prefix) || sender.send(Ok(line.clone().into())).is_ok());
        shown
    }
}

impl Transport for FakeServer {
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let server = self.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            if head.uri.query().is_some_and(|query| query.contains("watch=true")) {
                return Ok(server.watch(head.uri.path()));
            }
            let (code, answer) = server.answer(&head, &body);
            Ok(Response::builder().status(code).body(full_body(serde_json::to_vec(&answer).unwrap())).unwrap())
        }
        .boxed()
    }
}

fn table(path: &str, items: &[Value]) -> Value {
    let plural = path.rsplit('/').next().unwrap();
    let kind = daruma_kinds::ALL.iter().find(|kind| kind.names().plural == plural).unwrap();
    let columns: Vec<Value> =
        kind.columns().iter().map(|column| json!({"name": column.name, "priority": column.priority})).collect();
    let row = |item: &Value| json!({"cells": kind.cells(item, jiff::Timestamp::UNIX_EPOCH), "object": item});
    json!({"columnDefinitions": columns, "rows": items.iter().map(row).collect::<Vec<_>>()})
}

/// Whether the object at `path` is in the collection, which may span namespaces.
fn belongs(path: &str, collection: &str) -> bool {
    let (parent, _) = path.rsplit_once('/').unwrap();
    let plural = parent.rsplit('/').next().unwrap();
    parent == collection || collection.rsplit('/').next() == Some(plural) && !collection.contains("/namespaces/")
}

fn is_collection(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    daruma_kinds::ALL.iter().any(|kind| kind.names().plural == last)
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    (code, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason}))
}
