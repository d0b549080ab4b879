//! A little API server in memory: enough for one scheduler.

use std::collections::{BTreeMap, BTreeSet};
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
    watchers: Vec<(String, mpsc::UnboundedSender<Bytes>)>,
    /// Every event so far: version, resource, line.
    log: Vec<(u64, String, Bytes)>,
    requests: BTreeMap<String, u64>,
    /// Kinds beyond those that it always knows.
    known: BTreeSet<String>,
}

/// Clones share the objects.
#[derive(Clone, Default)]
pub struct Api(Arc<Mutex<State>>);

impl State {
    fn tell(&mut self, resource: &str, kind: &str, object: &Value) {
        let line = Bytes::from(format!("{}\n", json!({"type": kind, "object": object})));
        self.watchers.retain(|(watched, sender)| watched != resource || sender.send(line.clone()).is_ok());
        self.log.push((self.version, resource.to_owned(), line));
    }

    fn put(&mut self, resource: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let namespace = object["metadata"]["namespace"].as_str().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let key = format!("{resource}/{namespace}{}", object["metadata"]["name"].as_str().expect("a name"));
        let kind = if self.objects.contains_key(&key) { "MODIFIED" } else { "ADDED" };
        self.tell(resource, kind, &object);
        self.objects.insert(key, object);
    }
}

impl Api {
    pub fn put(&self, resource: &str, object: Value) {
        self.0.lock().expect("no panic").put(resource, object);
    }

    pub fn get(&self, resource: &str, key: &str) -> Option<Value> {
        self.0.lock().expect("no panic").objects.get(&format!("{resource}/{key}")).cloned()
    }

    pub fn remove(&self, resource: &str, key: &str) {
        let mut state = self.0.lock().expect("no panic");
        if let Some(mut object) = state.objects.remove(&format!("{resource}/{key}")) {
            state.version += 1;
            object["metadata"]["resourceVersion"] = state.version.to_string().into();
            state.tell(resource, "DELETED", &object);
        }
    }

    /// From now on the server knows a kind.
    pub fn learn(&self, resource: &str) {
        self.0.lock().expect("no panic").known.insert(resource.to_owned());
    }

    /// Messages of the events of a reason, with how often each was told.
    pub fn events(&self, reason: &str) -> Vec<(String, u64)> {
        let state = self.0.lock().expect("no panic");
        let events = state.objects.iter().filter(|(key, event)| key.starts_with("events/") && event["reason"] == reason);
        events
            .map(|(_, event)| (event["message"].as_str().unwrap_or_default().to_owned(), event["count"].as_u64().unwrap_or(1)))
            .collect()
    }

    /// How many requests there were of a kind, e.g. `GET pods`.
    pub fn count(&self, what: &str) -> u64 {
        self.0.lock().expect("no panic").requests.get(what).copied().unwrap_or_default()
    }

    fn answer(&self, method: &Method, path: &str, query: &str, body: &Bytes) -> Response<Body> {
        let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        parts.drain(..if parts[0] == "api" { 2 } else { 3 });
        let namespace = if parts[0] == "namespaces" && parts.len() > 2 {
            format!("{}/", parts.drain(..2).nth(1).expect("two"))
        } else {
            String::new()
        };
        let (resource, name) = (parts[0], parts.get(1).copied().unwrap_or_default());
        let mut state = self.0.lock().expect("no panic");
        *state.requests.entry(format!("{method} {resource}")).or_default() += 1;
        let reply = |status: u16, value: &Value| {
            let mut response = Response::new(full_body(value.to_string()));
            *response.status_mut() = StatusCode::from_u16(status).expect("valid");
            response
        };
        let missing = json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "not found"});
        if resource == "poddisruptionbudgets" && !state.known.contains(resource) {
            return reply(404, &missing);
        }
        if name.is_empty() && *method == Method::GET {
            if query.contains("watch=true") {
                let (sender, receiver) = mpsc::unbounded_channel();
                let version = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
                let version: u64 = version.and_then(|version| version.parse().ok()).unwrap_or_default();
                for (_, _, line) in state.log.iter().filter(|(at, kind, _)| *at > version && kind == resource) {
                    sender.send(line.clone()).expect("open");
                }
                state.watchers.push((resource.to_owned(), sender));
                let chunks =
                    futures::stream::unfold(receiver, |mut receiver| async move { Some((Ok(receiver.recv().await?), receiver)) });
                return Response::new(stream_body(chunks));
            }
            let prefix = format!("{resource}/{namespace}");
            let items: Vec<&Value> = state
                .objects
                .range(prefix.clone()..)
                .take_while(|(key, _)| key.starts_with(&prefix))
                .map(|(_, item)| item)
                .collect();
            return reply(200, &json!({"metadata": {"resourceVersion": state.version.to_string()}, "items": items}));
        }
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        if *method == Method::POST && name.is_empty() {
            let mut object = sent;
            object["metadata"]["namespace"] = namespace.trim_end_matches('/').into();
            state.put(resource, object.clone());
            return reply(201, &object);
        }
        let Some(mut object) = state.objects.get(&format!("{resource}/{namespace}{name}")).cloned() else {
            return reply(404, &missing);
        };
        match *method {
            Method::POST => object["spec"]["nodeName"] = sent["target"]["name"].clone(),
            Method::DELETE => object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:30Z".into(),
            _ if resource == "events" => object["count"] = sent["count"].clone(),
            _ => {
                for (field, value) in sent["status"].as_object().expect("a status") {
                    object["status"][field] = value.clone();
                }
            }
        }
        state.put(resource, object.clone());
        reply(200, &object)
    }
}

impl Transport for Api {
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let api = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(|error| TransportError(error.to_string()))?.to_bytes();
            Ok(api.answer(&head.method, head.uri.path(), head.uri.query().unwrap_or_default(), &body))
        })
    }
}
