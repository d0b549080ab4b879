//! `/containerLogs/{namespace}/{pod}/{container}`.
//!
//! Source: kubernetes pkg/kubelet/kubelet_pods.go (GetKubeletContainerLogs, validateContainerLogStatus).

use std::sync::Arc;
use std::time::Duration;

use daruma_client::{Body, stream_body};
use daruma_world::containers::{Container, ContainerState};
use http::{Response, StatusCode, header};

use super::query::Query;
use super::text;
use crate::logs::{LogOptions, stream};
use crate::shared::Shared;
use crate::view::is_running;

/// Answers with the log or with the real kubelet's words for why not.
pub(super) async fn answer(shared: &Arc<Shared>, namespace: &str, pod: &str, container: &str, query: &str) -> Response<Body> {
    let query = Query::parse(query);
    let options = match options(shared, &query) {
        Ok(options) => options,
        Err(message) => return text(StatusCode::UNPROCESSABLE_ENTITY, message),
    };
    let Some(cell) = shared.pods.by_name(namespace, pod) else {
        return text(StatusCode::NOT_FOUND, format!("pod {pod:?} does not exist\n"));
    };
    if crate::kill::spec_of(&cell.pod(), container).is_none() {
        return text(StatusCode::NOT_FOUND, format!("container {container:?} not found in pod {pod:?}\n"));
    }
    let view = crate::worker::look::look(shared, &cell).await;
    let mut own = view.containers.iter().filter(|seen| seen.config.name == container);
    let previous = query.is_true("previous");
    let found: Option<&Container> = if previous {
        // One that waits to be started again has its newest run behind it, any other the one before.
        let newest = own.next();
        let waits = cell.lock().waiting.contains_key(container);
        if waits && newest.is_some_and(|seen| !is_running(seen)) { newest } else { own.next() }
    } else {
        own.find(|seen| !matches!(seen.state, ContainerState::Created))
    };
    let Some(found) = found else {
        if previous {
            return text(
                StatusCode::BAD_REQUEST,
                format!("previous terminated container {container:?} in pod {pod:?} not found"),
            );
        }
        let waiting = cell.lock().waiting.get(container).cloned();
        let why = match waiting.map(|(reason, _)| reason) {
            Some(reason) if reason == "ErrImagePull" || reason == "ImagePullBackOff" => {
                "trying and failing to pull image".to_owned()
            }
            Some(reason) => reason,
            None => "ContainerCreating".to_owned(),
        };
        return text(StatusCode::BAD_REQUEST, format!("container {container:?} in pod {pod:?} is waiting to start: {why}"));
    };
    let (path, id) = (found.log_path.clone(), found.id.clone());
    let asked = shared.clone();
    let running = move || {
        let (shared, id) = (asked.clone(), id.clone());
        async move {
            let containers = shared.runtime.list_containers().await.unwrap_or_default();
            containers.iter().any(|container| container.id == id && is_running(container))
        }
    };
    let mut response = Response::new(stream_body(stream(shared.world.clone(), path, options, running)));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    response
}

fn options(shared: &Shared, query: &Query) -> Result<LogOptions, String> {
    let number = |name: &str| -> Result<Option<u64>, String> {
        match query.get(name).filter(|text| !text.is_empty()) {
            Some(value) => value.parse().map(Some).map_err(|_| format!("invalid {name}: {value:?}")),
            None => Ok(None),
        }
    };
    let since_seconds = number("sinceSeconds")?;
    let since = match query.get("sinceTime").filter(|text| !text.is_empty()) {
        Some(value) => Some(value.parse().map_err(|_| format!("invalid sinceTime: {value:?}"))?),
        None => since_seconds.and_then(|seconds| shared.now().checked_sub(Duration::from_secs(seconds)).ok()),
    };
    Ok(LogOptions {
        tail_lines: number("tailLines")?.map(|lines| lines as usize),
        since,
        timestamps: query.is_true("timestamps"),
        limit_bytes: number("limitBytes")?.map(|bytes| bytes as usize),
        follow: query.is_true("follow"),
        stream: match query.get("stream") {
            Some("Stdout") => Some("stdout".into()),
            Some("Stderr") => Some("stderr".into()),
            _ => None,
        },
    })
}
