//! The API `metrics.k8s.io/v1beta1`.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_api::core::v1::Pod;
use daruma_api::meta::ObjectExt;
use daruma_api::quantity::Quantity;
use daruma_api::selector::Selector;
use daruma_api::status::ApiError;
use daruma_client::{Body, full_body};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use serde_json::{Value, json};

use crate::scrape::{Known, MetricsServer};
use crate::window::Usage;

const GROUP: &str = "metrics.k8s.io";
const GROUP_VERSION: &str = "metrics.k8s.io/v1beta1";

impl MetricsServer {
    /// Answers a request. Health is open to all; the rest is for `trusted` callers, which is the API
    /// server's front proxy: it has authorized its user before.
    pub fn handle(self: &Arc<Self>, request: &Request<Body>, trusted: bool) -> BoxFuture<'static, Response<Body>> {
        let answer = self.answer(request, trusted);
        let (code, value) = match answer {
            Ok(Answer::Text(text)) => (200, Err(text)),
            Ok(Answer::Json(value)) => (200, Ok(value)),
            Err(error) => (error.code, Ok(status(&error))),
        };
        let (content_type, content) = match value {
            Ok(value) => ("application/json", value.to_string()),
            Err(text) => ("text/plain; charset=utf-8", text.to_owned()),
        };
        let mut response = Response::new(full_body(content));
        *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
        async move { response }.boxed()
    }

    fn answer(&self, request: &Request<Body>, trusted: bool) -> Result<Answer, ApiError> {
        let path = request.uri().path().trim_matches('/');
        let parts: Vec<&str> = path.split('/').collect();
        match parts.as_slice() {
            ["livez" | "healthz"] => return Ok(Answer::Text("ok")),
            ["readyz"] => {
                let ready = self.known.lock().expect("no panic while held").scraped;
                let not_ready = || ApiError::new(500, "InternalError", "[-]metric-storage-ready failed: no metrics to serve");
                return if ready { Ok(Answer::Text("ok")) } else { Err(not_ready()) };
            }
            _ if !trusted => return Err(ApiError::unauthorized()),
            _ => {}
        }
        let selector = label_selector(request.uri().query().unwrap_or_default())?;
        let value = match parts.as_slice() {
            ["apis"] => json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group()]}),
            ["apis", GROUP] => group(),
            ["apis", GROUP, "v1beta1"] => resources(),
            ["apis", GROUP, "v1beta1", "nodes"] => self.node_list(&selector),
            ["apis", GROUP, "v1beta1", "nodes", name] => {
                self.node(name).ok_or_else(|| ApiError::not_found(GROUP, "nodemetrics", name))?
            }
            ["apis", GROUP, "v1beta1", "pods"] => self.pod_list(None, &selector),
            ["apis", GROUP, "v1beta1", "namespaces", namespace, "pods"] => self.pod_list(Some(namespace), &selector),
            ["apis", GROUP, "v1beta1", "namespaces", namespace, "pods", name] => self
                .pod_by_name(namespace, name)
                .ok_or_else(|| ApiError::not_found(GROUP, "podmetrics", &format!("{namespace}/{name}")))?,
            _ => return Err(ApiError::new(404, "NotFound", "the server could not find the requested resource")),
        };
        Ok(Answer::Json(value))
    }

    fn node(&self, name: &str) -> Option<Value> {
        let node = self.nodes.get("", name)?;
        let usage = self.known.lock().expect("no panic while held").nodes.get(name)?.usage()?;
        Some(json!({
            "kind": "NodeMetrics",
            "apiVersion": GROUP_VERSION,
            "metadata": metadata(name, None, node.metadata.labels.as_ref(), usage.at_ms),
            "timestamp": timestamp(usage.at_ms),
            "window": window(usage.window_ms),
            "usage": amounts(&usage),
        }))
    }

    fn node_list(&self, selector: &Selector) -> Value {
        let nodes = self.nodes.list();
        let chosen = nodes.iter().filter(|node| selector.matches(node.metadata.labels.as_ref()));
        list("NodeMetricsList", chosen.filter_map(|node| self.node(node.name())).collect())
    }

    fn pod_by_name(&self, namespace: &str, name: &str) -> Option<Value> {
        let pod = self.pods.get(namespace, name)?;
        pod_metrics(&pod, &self.known.lock().expect("no panic while held"))
    }

    fn pod_list(&self, namespace: Option<&str>, selector: &Selector) -> Value {
        let pods = namespace.map_or_else(|| self.pods.list(), |namespace| self.pods.list_namespace(namespace));
        let known = self.known.lock().expect("no panic while held");
        let chosen = pods.iter().filter(|pod| selector.matches(pod.metadata.labels.as_ref()));
        list("PodMetricsList", chosen.filter_map(|pod| pod_metrics(pod, &known)).collect())
    }
}

enum Answer {
    Text(&'static str),
    Json(Value),
}

/// A pod is shown once all its containers are known, as the real server does it.
fn pod_metrics(pod: &Pod, known: &Known) -> Option<Value> {
    let key = |container: &str| (pod.namespace().to_owned(), pod.name().to_owned(), container.to_owned());
    let usages = pod.spec.as_ref()?.containers.iter().map(|container| {
        let usage = known.containers.get(&key(&container.name))?.usage()?;
        Some((container.name.as_str(), usage))
    });
    let usages: Vec<(&str, Usage)> = usages.collect::<Option<_>>()?;
    let earliest = usages.iter().map(|(_, usage)| usage).min_by_key(|usage| usage.at_ms)?;
    let containers: Vec<Value> = usages.iter().map(|(name, usage)| json!({"name": name, "usage": amounts(usage)})).collect();
    Some(json!({
        "kind": "PodMetrics",
        "apiVersion": GROUP_VERSION,
        "metadata": metadata(pod.name(), Some(pod.namespace()), pod.metadata.labels.as_ref(), earliest.at_ms),
        "timestamp": timestamp(earliest.at_ms),
        "window": window(earliest.window_ms),
        "containers": containers,
    }))
}

fn metadata(name: &str, namespace: Option<&str>, labels: Option<&BTreeMap<String, String>>, at_ms: i64) -> Value {
    let mut metadata = json!({"name": name, "creationTimestamp": timestamp(at_ms)});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    if let Some(labels) = labels {
        metadata["labels"] = json!(labels);
    }
    metadata
}

fn amounts(usage: &Usage) -> Value {
    json!({"cpu": Quantity::nanos(usage.cpu_nanos).to_string(), "memory": format!("{}Ki", usage.memory_bytes / 1024)})
}

fn timestamp(at_ms: i64) -> String {
    jiff::Timestamp::from_second(at_ms / 1000).unwrap_or_default().to_string()
}

/// As Go prints a duration, e.g. `15.02s`.
fn window(window_ms: i64) -> String {
    format!("{}s", window_ms as f64 / 1000.0)
}

fn list(kind: &str, items: Vec<Value>) -> Value {
    json!({"kind": kind, "apiVersion": GROUP_VERSION, "metadata": {}, "items": items})
}

fn group() -> Value {
    let version = json!({"groupVersion": GROUP_VERSION, "version": "v1beta1"});
    json!({"kind": "APIGroup", "apiVersion": "v1", "name": GROUP, "versions": [version], "preferredVersion": version})
}

fn resources() -> Value {
    let resource = |name: &str, kind: &str, namespaced: bool| json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get", "list"]});
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": GROUP_VERSION,
        "resources": [resource("nodes", "NodeMetrics", false), resource("pods", "PodMetrics", true)],
    })
}

fn label_selector(query: &str) -> Result<Selector, ApiError> {
    let text = query.split('&').find_map(|pair| pair.strip_prefix("labelSelector=")).unwrap_or_default();
    let decoded = percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    Selector::parse(&decoded).map_err(|error| ApiError::bad_request(error.to_string()))
}

fn status(error: &ApiError) -> Value {
    let mut value = serde_json::to_value(error.to_status()).unwrap_or_default();
    value["kind"] = "Status".into();
    value["apiVersion"] = "v1".into();
    value
}
