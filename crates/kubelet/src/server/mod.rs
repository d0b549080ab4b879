//! The kubelet's server: logs, commands, ports, statistics.
//!
//! Source: kubernetes pkg/kubelet/server/server.go.

mod auth;
mod certificate;
mod container_logs;
mod query;
mod streams;

use std::sync::Arc;

use daruma_client::{Body, full_body};
use http::{Method, Request, Response, StatusCode, header};
use serde_json::json;

pub use auth::Access;

use crate::config::KubeletConfig;
use crate::shared::Shared;
use crate::stats;

/// The verified client certificate of a connection, DER; a request extension set by whoever terminates TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate(pub Vec<u8>);

/// Answers one request.
pub async fn handle(shared: Arc<Shared>, access: Arc<Access>, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let asked = auth::Asked::of(&request);
    if let Err(refusal) = access.check(&shared, asked).await {
        return *refusal;
    }
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let is_get = request.method() == Method::GET;
    match parts.as_slice() {
        ["healthz"] if is_get => text(StatusCode::OK, "ok"),
        ["pods"] if is_get => pods(&shared, false),
        ["runningpods"] if is_get => pods(&shared, true),
        ["stats", "summary"] if is_get => json_answer(&stats::summary(&shared).await),
        ["metrics", "resource"] if is_get => metrics(stats::resource_metrics(&shared).await),
        ["metrics"] if is_get => metrics(own_metrics(&shared)),
        ["configz"] if is_get => json_answer(&configz(&shared)),
        ["containerLogs", namespace, pod, container] if is_get => {
            container_logs::answer(&shared, namespace, pod, container, request.uri().query().unwrap_or_default()).await
        }
        ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container] => {
            streams::command(&shared, namespace, pod, container, request, false).await
        }
        ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container] => {
            streams::command(&shared, namespace, pod, container, request, true).await
        }
        ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
            streams::port_forward(&shared, namespace, pod, request).await
        }
        ["healthz" | "pods" | "runningpods" | "configz" | "containerLogs" | "stats" | "metrics", ..] if !is_get => {
            text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed")
        }
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

pub(crate) fn text(status: StatusCode, content: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(full_body(content.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn json_answer(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(full_body(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn metrics(content: String) -> Response<Body> {
    let mut response = Response::new(full_body(content));
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn pods(shared: &Shared, running_only: bool) -> Response<Body> {
    let mut items = Vec::new();
    for cell in shared.pods.list() {
        let state = cell.lock();
        if running_only && state.view.running().next().is_none() {
            continue;
        }
        let mut pod = (*state.pod).clone();
        if state.status.is_some() {
            pod.status.clone_from(&state.status);
        }
        items.push(serde_json::to_value(&pod).unwrap_or_default());
    }
    json_answer(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

fn own_metrics(shared: &Shared) -> String {
    let cells = shared.pods.list();
    let running = cells.iter().filter(|cell| cell.lock().view.ready_sandbox().is_some()).count();
    let containers: usize = cells.iter().map(|cell| cell.lock().view.running().count()).sum();
    format!(
        "# HELP kubelet_running_pods [ALPHA] Number of pods that have a running pod sandbox\n# TYPE kubelet_running_pods gauge\n\
         kubelet_running_pods {running}\n\
         # HELP kubelet_running_containers [ALPHA] Number of containers currently running\n# TYPE kubelet_running_containers gauge\n\
         kubelet_running_containers{{container_state=\"running\"}} {containers}\n\
         # HELP kubelet_desired_pods [ALPHA] The number of pods the kubelet is being instructed to run.\n# TYPE kubelet_desired_pods gauge\n\
         kubelet_desired_pods{{static=\"\"}} {}\nkubelet_desired_pods{{static=\"true\"}} {}\n\
         # HELP kubelet_node_name [ALPHA] The node's name. The count is always 1.\n# TYPE kubelet_node_name gauge\n\
         kubelet_node_name{{node=\"{}\"}} 1\n",
        cells.iter().filter(|cell| !cell.is_static()).count(),
        cells.iter().filter(|cell| cell.is_static()).count(),
        shared.config.node_name,
    )
}

fn configz(shared: &Shared) -> serde_json::Value {
    let config = &shared.config;
    let seconds = |duration: std::time::Duration| crate::text::go_duration(duration);
    json!({"kubeletconfig": {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "staticPodPath": config.static_pod_path,
        "syncFrequency": seconds(config.sync_frequency),
        "fileCheckFrequency": seconds(config.file_check_frequency),
        "port": config.port,
        "registerNode": config.register_node,
        "maxPods": config.max_pods,
        "clusterDomain": config.cluster_domain,
        "clusterDNS": config.cluster_dns,
        "nodeStatusUpdateFrequency": seconds(config.node_status_update_frequency),
        "nodeStatusReportFrequency": seconds(config.node_status_report_frequency),
        "nodeLeaseDurationSeconds": config.node_lease_duration.as_secs(),
        "evictionHard": thresholds(config, true),
        "evictionSoft": thresholds(config, false),
        "evictionSoftGracePeriod": soft_graces(config),
        "evictionMaxPodGracePeriod": config.eviction_max_pod_grace_period_seconds,
        "shutdownGracePeriod": seconds(config.shutdown_grace_period),
        "shutdownGracePeriodCriticalPods": seconds(config.shutdown_grace_period_critical_pods),
        "evictionPressureTransitionPeriod": seconds(config.eviction_pressure_transition_period),
        "eventRecordQPS": config.event_qps,
        "eventBurst": config.event_burst,
        "crashLoopBackOff": {"maxContainerRestartPeriod": seconds(config.max_container_restart_period)},
        "authorization": {"mode": if config.authorize { "Webhook" } else { "AlwaysAllow" }},
        "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": config.authorize}},
        "registerWithTaints": config.register_with_taints,
    }})
}

type Texts = std::collections::BTreeMap<&'static str, String>;

fn thresholds(config: &KubeletConfig, hard: bool) -> Texts {
    let chosen = config.eviction.iter().filter(|threshold| threshold.is_hard() == hard);
    chosen.map(|threshold| (threshold.signal.as_str(), threshold.amount.to_string())).collect()
}

fn soft_graces(config: &KubeletConfig) -> Texts {
    let soft = config.eviction.iter().filter(|threshold| !threshold.is_hard());
    soft.map(|threshold| (threshold.signal.as_str(), crate::text::go_duration(threshold.grace))).collect()
}
