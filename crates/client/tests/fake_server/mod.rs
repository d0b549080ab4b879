//! A server small enough to hold in the hand: objects by URL path, with list, watch and conflicts.
#![allow(dead_code, reason = "every test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
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
    /// Path, revision and line of each event.
    history: Vec<(String, u64, String)>,
    /// Watches from before here are answered with 410.
    oldest: u64,
    watchers: Vec<(String, mpsc::UnboundedSender<Result<Bytes, BodyError>>)>,
    requests: Vec<String>,
    is_down: bool,
}

#[derive(Clone, Default)]
pub struct FakeServer(Arc<Mutex<State>>);

impl FakeServer {
    pub fn client(&self, world: &World) -> Client {
        Client::new(world, Arc::new(self.clone()), "test", RateLimit::NONE)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Requests are not answered while it is down; open watches break.
    pub fn set_down(&self, is_down: bool) {
        let mut state = self.state();
        state.is_down = is_down;
        state.watchers.clear();
    }

    /// Forgets the history.
    pub fn compact(&self) {
        let mut state = self.state();
        state.oldest = state.revision;
        state.history.clear();
    }

    /// Sends a line to every watcher.
    pub fn send_line(&self, line: &str) {
        self.state().watchers.retain(|(_, sender)| sender.send(Ok(format!("{line}\n").into())).is_ok());
    }

    /// Method and path of the requests so far, without parameters that are drawn.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests)
    }

    pub fn object(&self, path: &str) -> Option<Value> {
        self.state().objects.get(path).cloned()
    }

    pub fn objects(&self) -> Vec<Value> {
        self.state().objects.values().cloned().collect()
    }

    pub fn set(&self, path: &str, object: Value) -> Value {
        self.state().set(path, Some(object))
    }

    pub fn delete(&self, path: &str) {
        self.state().set(path, None);
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        let mut state = self.state();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let present = state.objects.get(path).cloned();
        match (method.as_str(), present) {
            ("GET", Some(object)) => (200, object),
            ("GET", None) if is_collection(path) => {
                let items: Vec<&Value> =
                    state.objects.iter().filter(|(at, _)| belongs(at, path)).map(|(_, object)| object).collect();
                (200, json!({"metadata": {"resourceVersion": state.revision.to_string()}, "items": items}))
            }
            ("POST", _) => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                if state.objects.contains_key(&path) {
                    return failure(409, "AlreadyExists");
                }
                (201, state.set(&path, Some(body)))
            }
            ("PUT", Some(present)) => {
                if body["metadata"]["resourceVersion"] != present["metadata"]["resourceVersion"] {
                    return failure(409, "Conflict");
                }
                (200, state.set(path, Some(body)))
            }
            ("PATCH", Some(mut present)) => {
                for (key, value) in body.as_object().unwrap() {
                    present[key] = value.clone();
                }
                (200, state.set(path, Some(present)))
            }
            _ => failure(404, "NotFound"),
        }
    }

    fn watch(&self, path: &str, query: &str) -> Response<Body> {
        let mut state = self.state();
        let from = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion=")).unwrap();
        let from: u64 = from.parse().unwrap();
        if from < state.oldest {
            let (code, status) = failure(410, "Expired");
            return respond(code, &status);
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        for (at, revision, line) in &state.history {
            if *revision > from && belongs(at, path) {
                sender.send(Ok(line.clone().into())).unwrap();
            }
        }
        state.watchers.push((path.to_owned(), sender));
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
        let mut shown = object.clone().or(old).expect("something is set or deleted");
        shown["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        if object.is_some() {
            self.objects.insert(path.to_owned(), shown.clone());
        }
        let line = format!("{}\n", json!({"type": kind, "object": shown}));
        self.history.push((path.to_owned(), self.revision, line.clone()));
        self.watchers.retain(|(prefix, sender)| !belongs(path, prefix) || sender.send(Ok(line.clone().into())).is_ok());
        shown
    }
}

impl Transport for FakeServer {
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let server = self.clone();
        async move {
            let (head, body) = request.into_parts();
            let path = head.uri.path().to_owned();
            let query = head.uri.query().unwrap_or_default().to_owned();
            let body = body.collect().await.unwrap().to_bytes();
            if server.state().is_down {
                return Err(TransportError("connection refused".into()));
            }
            let shown: Vec<&str> =
                query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("timeoutSeconds")).collect();
            let separator = if shown.is_empty() { "" } else { "?" };
            server.state().requests.push(format!("{} {path}{separator}{}", head.method, shown.join("&")));
            if query.contains("watch=true") {
                return Ok(server.watch(&path, &query));
            }
            let (code, answer) = server.answer(&head.method, &path, &body);
            Ok(respond(code, &answer))
        }
        .boxed()
    }
}

/// Whether the object at `path` is in the collection, which may span namespaces.
fn belongs(path: &str, collection: &str) -> bool {
    let (parent, _) = path.rsplit_once('/').unwrap();
    let plural = parent.rsplit('/').next().unwrap();
    parent == collection || collection.rsplit('/').next() == Some(plural) && !collection.contains("/namespaces/")
}

fn is_collection(path: &str) -> bool {
    ["configmaps", "events", "leases"].iter().any(|plural| path.ends_with(plural))
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    (code, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason}))
}

fn respond(code: u16, value: &Value) -> Response<Body> {
    Response::builder().status(code).body(full_body(serde_json::to_vec(value).unwrap())).unwrap()
}
