//! pods/log, exec, attach, portforward: answered by the pod's kubelet.
//!
//! Facts: kubernetes pkg/registry/core/pod/strategy.go (`LogLocation`, `streamLocation`).

use std::fmt::Write;
use std::sync::Arc;

use daruma_api::status::ApiError;
use daruma_client::{Body, Transport, empty_body};
use http::{HeaderMap, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::forward::{forward, is_upgrade};
use crate::authorization::Question;
use crate::call::Call;
use crate::document::{list, number, text};
use crate::http::{Query, answer, body};
use crate::server::ApiServer;

/// Order in which a node's addresses are tried (kubeadm's `kubelet-preferred-address-types`).
const ADDRESS_TYPES: [&str; 3] = ["InternalIP", "ExternalIP", "Hostname"];
const KUBELET_PORT: u16 = 10250;
/// Query parameters of logs that the kubelet understands.
const LOG_PARAMETERS: [&str; 9] = [
    "follow",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "tailLines",
    "limitBytes",
    "stream",
    "insecureSkipTLSVerifyBackend",
];

impl ApiServer {
    /// A connection to the kubelet of `node`.
    ///
    /// # Errors
    /// 404 for the node, 503 where it has no address.
    pub async fn kubelet(&self, node: &str) -> Result<Arc<dyn Transport>, ApiError> {
        let dialer =
            self.config.kubelet_dialer.as_ref().ok_or_else(|| ApiError::unavailable("this server cannot reach kubelets"))?;
        let nodes = self.registry.built_in("", "v1", "nodes").ok_or_else(answer::no_such_path)?;
        let found = self.fetch(nodes, "", node).await?;
        let object = self.decode(nodes, &found)?;
        let addresses = list(&object, "/status/addresses");
        let address = ADDRESS_TYPES
            .iter()
            .find_map(|kind| addresses.iter().find(|address| text(address, "/type") == *kind))
            .map(|address| text(address, "/address"))
            .ok_or_else(|| ApiError::internal(format!("no preferred addresses found; known addresses: [] of node {node:?}")))?;
        let port = number(&object, "/status/daemonEndpoints/kubeletEndpoint/Port").and_then(|port| u16::try_from(port).ok());
        Ok(dialer(address, port.filter(|port| *port > 0).unwrap_or(KUBELET_PORT)))
    }
}

async fn pod(call: &Call) -> Result<Arc<Value>, ApiError> {
    let pods = call.server.registry.built_in("", "v1", "pods").ok_or_else(answer::no_such_path)?;
    let found = call.server.fetch(pods, &call.info.namespace, &call.info.name).await?;
    call.server.decode(pods, &found)
}

/// The container that is asked for, or the only one.
fn container(pod: &Value, asked: Option<&str>) -> Result<String, ApiError> {
    let name = text(pod, "/metadata/name");
    let names = |pointer: &str| -> Vec<String> { list(pod, pointer).iter().map(|one| text(one, "/name").to_owned()).collect() };
    let (containers, init, ephemeral) =
        (names("/spec/containers"), names("/spec/initContainers"), names("/spec/ephemeralContainers"));
    if let Some(asked) = asked {
        let known = containers.iter().chain(&init).chain(&ephemeral).any(|one| one == asked);
        return if known {
            Ok(asked.to_owned())
        } else {
            Err(ApiError::bad_request(format!("container {asked} is not valid for pod {name}")))
        };
    }
    match containers.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(ApiError::bad_request(format!("a container name must be specified for pod {name}"))),
        many => {
            let mut why = format!("a container name must be specified for pod {name}, choose one of: [{}]", many.join(" "));
            if !init.is_empty() {
                let _ = write!(why, " or one of the init containers: [{}]", init.join(" "));
            }
            if !ephemeral.is_empty() {
                let _ = write!(why, " or one of the ephemeral containers: [{}]", ephemeral.join(" "));
            }
            Err(ApiError::bad_request(why))
        }
    }
}

fn encode(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        pairs.iter().map(|(key, value)| format!("{key}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// Streams a container's log.
///
/// # Errors
/// What the kubelet answers, in the words of the real server.
pub async fn log(call: &Call) -> Result<Response<Body>, ApiError> {
    let pod = pod(call).await?;
    let container = container(&pod, call.query.text("container"))?;
    let node = text(&pod, "/spec/nodeName");
    if node.is_empty() {
        return Ok(answer::text(http::StatusCode::OK, ""));
    }
    let pairs: Vec<(&str, &str)> = LOG_PARAMETERS.iter().filter_map(|key| Some((*key, call.query.text(key)?))).collect();
    let path = format!("/containerLogs/{}/{}/{container}{}", call.info.namespace, call.info.name, encode(&pairs));
    let kubelet = call.server.kubelet(node).await?;
    let reached = forward(call, &*kubelet, &path, empty_body(), HeaderMap::new()).await;
    let response = reached.map_err(|error| ApiError::internal(format!("Get \"https://{node}{path}\": {}", error.message)))?;
    if response.status().is_success() {
        let (parts, body) = response.into_parts();
        let mut shown = answer::with_type(parts.status, "text/plain", body);
        shown.headers_mut().remove(http::header::CACHE_CONTROL);
        return Ok(shown);
    }
    let status = response.status();
    let message = String::from_utf8_lossy(&body::read(response.into_body()).await?).trim().to_owned();
    Err(match status.as_u16() {
        400 => ApiError::bad_request(message),
        404 => ApiError {
            message: format!("the server could not find the requested resource ( pods/log {}): {message}", call.info.name),
            ..ApiError::not_found("", "pods/log", &call.info.name)
        },
        500 => ApiError::internal(message),
        code => ApiError::new(code, "", message),
    })
}

/// Hands the connection over to the kubelet: exec, attach, port-forward.
///
/// # Errors
/// 400 for a pod without a node or that has ended; what the kubelet answers.
pub async fn upgrade(call: &Call, content: Body) -> Result<Response<Body>, ApiError> {
    let info = &call.info;
    if call.method == http::Method::GET && is_upgrade(&call.headers) {
        // A WebSocket starts with GET; what follows is a write.
        let question = Question {
            verb: "create",
            is_resource: true,
            version: "v1",
            resource: "pods",
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            ..Question::default()
        };
        call.server.authorization.demand(&call.server, &call.user, &question).await?;
    }
    let pod = pod(call).await?;
    let node = text(&pod, "/spec/nodeName");
    if node.is_empty() {
        return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", info.name)));
    }
    let phase = text(&pod, "/status/phase");
    if matches!(phase, "Succeeded" | "Failed") && info.subresource != "portforward" {
        return Err(ApiError::bad_request(format!("cannot exec into a container in a completed pod; current phase is {phase}")));
    }
    let path = match info.subresource.as_str() {
        "portforward" => {
            let ports: Vec<(&str, &str)> = call.query.all("ports").map(|ports| ("port", ports)).collect();
            format!("/portForward/{}/{}{}", info.namespace, info.name, encode(&ports))
        }
        subresource => {
            let container = container(&pod, call.query.text("container"))?;
            format!("/{subresource}/{}/{}/{container}{}", info.namespace, info.name, encode(&stream_parameters(&call.query)))
        }
    };
    let kubelet = call.server.kubelet(node).await?;
    let response = forward(call, &*kubelet, &path, content, HeaderMap::new()).await;
    response.map_err(|error| ApiError::internal(format!("error sending request: {}", error.message)))
}

/// The kubelet's names of the streams.
fn stream_parameters(query: &Query) -> Vec<(&str, &str)> {
    let mut pairs: Vec<(&str, &str)> = query.all("command").map(|command| ("command", command)).collect();
    for (ours, theirs) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if query.flag(ours) {
            pairs.push((theirs, "1"));
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn containers() {
        let one = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}});
        assert_eq!(container(&one, None), Ok("a".to_owned()));
        assert_eq!(container(&one, Some("b")).map_err(|error| error.message), Err("container b is not valid for pod p".into()));
        let two = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(
            container(&two, None).map_err(|error| error.message),
            Err("a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]".into())
        );
    }

    #[test]
    fn parameters() {
        let query = Query::parse("command=ls&command=-l&stdin=true&stdout=1&tty=false&container=a");
        assert_eq!(encode(&stream_parameters(&query)), "?command=ls&command=%2Dl&input=1&output=1");
    }
}
