//! A little API server in memory: enough for one kubelet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use daruma_client::{Body, Transport, TransportError, full_body, stream_body};
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    watchers: BTreeMap<String, Vec<Watcher>>,
    /// The latest events with their versions, for those who watch from an earlier one.
    log: VecDeque<(u64, String, Value, Bytes)>,
    down: bool,
    /// Answers nothing, as behind a cut cable.
    silent: bool,
    /// How often connections were given up.
    closed: u32,
    /// Requests by method and resource.
    requests: BTreeMap<String, u64>,
    /// Every state that a pod's status had, in short form.
    history: Vec<String>,
}

/// A resource, what of it, and where the events go.
struct Watcher {
    selection: Selection,
    sender: mpsc::UnboundedSender<Bytes>,
}

/// A namespace (or all) and the one field selector that there may be.
#[derive(Clone, Default)]
struct Selection {
    resource: String,
    namespace: String,
    field: String,
    value: String,
}

impl Selection {
    fn of(path: &Path, query: &str) -> Self {
        let selector = query.split('&').find_map(|pair| pair.strip_prefix("fieldSelector=")).unwrap_or_default();
        let (field, value) = selector.split_once("%3D").unwrap_or_default();
        Self {
            resource: path.resource.clone(),
            namespace: path.namespace.clone(),
            field: format!("/{}", field.replace('.', "/")),
            value: value.to_owned(),
        }
    }

    fn selects(&self, resource: &str, object: &Value) -> bool {
        self.resource == resource
            && (self.namespace.is_empty() || object["metadata"]["namespace"] == *self.namespace)
            && (self.value.is_empty() || object.pointer(&self.field).is_some_and(|found| *found == *self.value))
    }
}

/// Clones share the objects.
#[derive(Clone, Default)]
pub struct Api(Arc<Mutex<State>>);

struct Path {
    resource: String,
    namespace: String,
    name: String,
    subresource: String,
}

fn parse(path: &str) -> Path {
    let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    parts.drain(..if parts[0] == "api" { 2 } else { 3 });
    let namespace = if parts[0] == "namespaces" && parts.len() > 2 { parts.drain(..2).nth(1).unwrap_or_default() } else { "" };
    let get = |at: usize| parts.get(at).copied().unwrap_or_default().to_owned();
    Path { resource: get(0), namespace: namespace.to_owned(), name: get(1), subresource: get(2) }
}

fn merge(target: &mut Value, patch: &Value) {
    let (Some(target), Some(patch)) = (target.as_object_mut(), patch.as_object()) else {
        *target = patch.clone();
        return;
    };
    for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        if value.is_null() {
            target.remove(key);
        } else if key == "conditions" || key == "podIPs" || key == "hostIPs" || key == "addresses" {
            let by = if key == "conditions" || key == "addresses" { "type" } else { "ip" };
            let list = target.entry(key).or_insert(json!([]));
            for item in value.as_array().expect("a list") {
                let items = list.as_array_mut().expect("a list");
                items.retain(|known| known[by] != item[by]);
                if item.get("$patch").is_none() {
                    items.push(item.clone());
                }
            }
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

fn summary(pod: &Value) -> String {
    let one = &pod["status"]["containerStatuses"][0];
    let state = one["state"].as_object().and_then(|state| state.iter().next());
    let text = state.map(|(kind, detail)| detail["reason"].as_str().map_or(kind.clone(), str::to_owned)).unwrap_or_default();
    let ready = if one["ready"] == true { "1/1" } else { "0/1" };
    let text_of = |value: &Value| value.as_str().unwrap_or("<none>").to_owned();
    format!("{ready} {text} {} {} {}", one["restartCount"], text_of(&pod["status"]["podIP"]), text_of(&pod["status"]["phase"]))
}

impl Api {
    pub fn set_silent(&self, silent: bool) {
        self.0.lock().expect("no panic").silent = silent;
    }

    /// How often connections were given up.
    pub fn closed(&self) -> u32 {
        self.0.lock().expect("no panic").closed
    }

    pub fn set_down(&self, down: bool) {
        let mut state = self.0.lock().expect("no panic");
        state.down = down;
        if down {
            state.watchers.clear();
        }
    }

    pub fn get(&self, resource: &str, key: &str) -> Option<Value> {
        self.0.lock().expect("no panic").objects.get(&format!("{resource}/{key}")).cloned()
    }

    /// How many watch a resource.
    pub fn watchers(&self, resource: &str) -> usize {
        let mut state = self.0.lock().expect("no panic");
        let watchers = state.watchers.entry(resource.to_owned()).or_default();
        watchers.retain(|watcher| !watcher.sender.is_closed());
        watchers.len()
    }

    /// Requests since the last call, by method and resource.
    pub fn take_requests(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.0.lock().expect("no panic").requests)
    }

    /// Messages of all events of a reason, the oldest first, with how often each was told.
    pub fn events(&self, reason: &str) -> Vec<(String, u64)> {
        let state = self.0.lock().expect("no panic");
        let events = state.objects.iter().filter(|(key, event)| key.starts_with("events/") && event["reason"] == reason);
        events
            .map(|(_, event)| (event["message"].as_str().unwrap_or_default().to_owned(), event["count"].as_u64().unwrap_or(1)))
            .collect()
    }

    pub fn history(&self) -> Vec<String> {
        self.0.lock().expect("no panic").history.clone()
    }

    /// Reasons of all events in the order of their first occurrence.
    pub fn reasons(&self) -> Vec<String> {
        let state = self.0.lock().expect("no panic");
        let mut events: Vec<(u64, String)> = state
            .objects
            .iter()
            .filter(|(key, _)| key.starts_with("events/"))
            .map(|(_, event)| (event["created"].as_u64().expect("set"), event["reason"].as_str().expect("set").to_owned()))
            .collect();
        events.sort();
        events.into_iter().map(|(_, reason)| reason).collect()
    }

    pub fn put(&self, resource: &str, mut object: Value) {
        let mut state = self.0.lock().expect("no panic");
        let key = format!(
            "{resource}/{}{}",
            object["metadata"]["namespace"].as_str().map(|namespace| format!("{namespace}/")).unwrap_or_default(),
            object["metadata"]["name"].as_str().expect("a name")
        );
        state.version += 1;
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        object["created"] = state.version.into();
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = format!("uid-{}", state.version).into();
        }
        let kind = if state.objects.contains_key(&key) { "MODIFIED" } else { "ADDED" };
        if resource == "pods" {
            let line = summary(&object);
            if state.history.last() != Some(&line) {
                state.history.push(line);
            }
        }
        state.tell(resource, kind, &object);
        state.objects.insert(key, object);
    }

    /// Marks a pod as deleted, with its grace period.
    pub fn delete_gracefully(&self, key: &str, seconds: i64) {
        let mut pod = self.get("pods", key).expect("there");
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        pod["metadata"]["deletionGracePeriodSeconds"] = seconds.into();
        self.put("pods", pod);
    }

    pub fn remove(&self, resource: &str, key: &str) {
        let mut state = self.0.lock().expect("no panic");
        if let Some(mut object) = state.objects.remove(&format!("{resource}/{key}")) {
            state.version += 1;
            object["metadata"]["resourceVersion"] = state.version.to_string().into();
            state.tell(resource, "DELETED", &object);
        }
    }

    fn answer(&self, method: &Method, path: &str, query: &str, body: &Bytes) -> Response<Body> {
        let path = parse(path);
        let namespaced = if path.namespace.is_empty() { String::new() } else { format!("{}/", path.namespace) };
        let key = format!("{namespaced}{}", path.name);
        let found = self.get(&path.resource, &key);
        let reply = |status: u16, value: &Value| {
            let mut response = Response::new(full_body(value.to_string()));
            *response.status_mut() = StatusCode::from_u16(status).expect("valid");
            response
        };
        let failure = |code: u16, reason: &str| {
            reply(code, &json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason}))
        };
        if *method == Method::POST {
            let mut object: Value = serde_json::from_slice(body).expect("JSON");
            if self
                .get(&path.resource, &format!("{namespaced}{}", object["metadata"]["name"].as_str().unwrap_or_default()))
                .is_some()
            {
                return failure(409, "AlreadyExists");
            }
            if !path.namespace.is_empty() {
                object["metadata"]["namespace"] = path.namespace.clone().into();
            }
            let key = format!("{namespaced}{}", object["metadata"]["name"].as_str().unwrap_or_default());
            self.put(&path.resource, object);
            return reply(201, &self.get(&path.resource, &key).unwrap_or_default());
        }
        if path.name.is_empty() {
            let selection = Selection::of(&path, query);
            let mut state = self.0.lock().expect("no panic");
            if query.contains("watch=true") {
                let (sender, receiver) = mpsc::unbounded_channel();
                let version = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
                let version: u64 = version.and_then(|version| version.parse().ok()).unwrap_or_default();
                for (_, resource, object, line) in state.log.iter().filter(|(at, ..)| *at > version) {
                    if selection.selects(resource, object) {
                        sender.send(line.clone()).expect("open");
                    }
                }
                state.watchers.entry(path.resource).or_default().push(Watcher { selection, sender });
                let chunks =
                    futures::stream::unfold(receiver, |mut receiver| async move { Some((Ok(receiver.recv().await?), receiver)) });
                return Response::new(stream_body(chunks));
            }
            let prefix = format!("{}/{namespaced}", path.resource);
            let items: Vec<Value> = state
                .objects
                .range(prefix.clone()..)
                .take_while(|(key, _)| key.starts_with(&prefix))
                .map(|(_, object)| object.clone())
                .filter(|object| selection.selects(&path.resource, object))
                .collect();
            return reply(200, &json!({"metadata": {"resourceVersion": state.version.to_string()}, "items": items}));
        }
        let Some(mut object) = found else { return failure(404, "NotFound") };
        match *method {
            Method::PATCH => {
                let patch: Value = serde_json::from_slice(body).expect("JSON");
                assert!(path.subresource.is_empty() || patch.get("status").is_some());
                merge(&mut object, &patch);
                self.put(&path.resource, object);
            }
            Method::PUT => self.put(&path.resource, serde_json::from_slice(body).expect("JSON")),
            Method::DELETE => {
                self.remove(&path.resource, &key);
                return reply(200, &json!({"status": "Success"}));
            }
            _ => {}
        }
        reply(200, &self.get(&path.resource, &key).unwrap_or_default())
    }
}

impl State {
    fn tell(&mut self, resource: &str, kind: &str, object: &Value) {
        let line = Bytes::from(format!("{}\n", json!({"type": kind, "object": object})));
        // Nobody watches leases and events.
        let Some(watchers) = self.watchers.get_mut(resource) else { return };
        watchers.retain(|watcher| !watcher.selection.selects(resource, object) || watcher.sender.send(line.clone()).is_ok());
        self.log.push_back((self.version, resource.to_owned(), object.clone(), line));
        if self.log.len() > 1000 {
            self.log.pop_front();
        }
    }
}

impl Transport for Api {
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let api = self.clone();
        Box::pin(async move {
            if api.0.lock().expect("no panic").silent {
                return std::future::pending().await;
            }
            if api.0.lock().expect("no panic").down {
                return Err(TransportError("connection refused".into()));
            }
            let (head, body) = request.into_parts();
            let resource = parse(head.uri.path()).resource;
            *api.0.lock().expect("no panic").requests.entry(format!("{} {resource}", head.method)).or_default() += 1;
            let body = body.collect().await.map_err(|error| TransportError(error.to_string()))?.to_bytes();
            Ok(api.answer(&head.method, head.uri.path(), head.uri.query().unwrap_or_default(), &body))
        })
    }

    fn close_connections(&self) {
        self.0.lock().expect("no panic").closed += 1;
    }
}
