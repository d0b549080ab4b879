//! nodes/proxy, pods/proxy, services/proxy: any request, passed on.
//!
//! Facts: kubernetes pkg/registry/core/{node,pod,service}/…/proxy.go, apimachinery pkg/util/net `SplitSchemeNamePort`.

use std::sync::Arc;

use daruma_api::status::ApiError;
use daruma_client::{Body, Transport};
use http::{HeaderMap, Response};

use super::forward::forward;
use crate::call::Call;
use crate::document::{list, number, text};
use crate::http::answer;

/// Passes the request on.
///
/// # Errors
/// 400 for a bad name, 503 where the other side cannot be reached.
pub async fn serve(call: &Call, content: Body) -> Result<Response<Body>, ApiError> {
    let (scheme, name, port) = split(&call.info.name).ok_or_else(|| {
        ApiError::bad_request(format!("invalid {} request {:?}", call.info.resource.trim_end_matches('s'), call.info.name))
    })?;
    let transport = match call.info.resource.as_str() {
        "nodes" => call.server.kubelet(name).await?,
        "pods" => pod(call, scheme, name, port).await?,
        _ => service(call, scheme, name, port).await?,
    };
    let mut path = if call.info.rest.is_empty() { "/".to_owned() } else { call.info.rest.clone() };
    if !call.raw_query.is_empty() {
        path = format!("{path}?{}", call.raw_query);
    }
    forward(call, &*transport, &path, content, HeaderMap::new()).await
}

/// `[scheme:]name[:port]`.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [name] => Some(("", *name, "")),
        [name, port] => Some(("", *name, *port)),
        [scheme @ ("http" | "https" | ""), name, port] => Some((*scheme, *name, *port)),
        _ => None,
    }
    .filter(|(_, name, _)| !name.is_empty())
}

fn dial(call: &Call, scheme: &str, host: &str, port: u16) -> Result<Arc<dyn Transport>, ApiError> {
    let dialer =
        call.server.config.proxy_dialer.as_ref().ok_or_else(|| ApiError::unavailable("this server cannot reach pods"))?;
    Ok(dialer(if scheme.is_empty() { "http" } else { scheme }, host, port))
}

async fn pod(call: &Call, scheme: &str, name: &str, port: &str) -> Result<Arc<dyn Transport>, ApiError> {
    let pods = call.server.registry.built_in("", "v1", "pods").ok_or_else(answer::no_such_path)?;
    let found = call.server.fetch(pods, &call.info.namespace, name).await?;
    let pod = call.server.decode(pods, &found)?;
    let address = text(&pod, "/status/podIP");
    if address.is_empty() {
        return Err(ApiError::bad_request("address not allowed"));
    }
    let first = || {
        list(&pod, "/spec/containers").iter().flat_map(|one| list(one, "/ports")).find_map(|one| number(one, "/containerPort"))
    };
    let port = if port.is_empty() { first().and_then(|port| u16::try_from(port).ok()).unwrap_or(80) } else { parse(port)? };
    dial(call, scheme, address, port)
}

async fn service(call: &Call, scheme: &str, name: &str, port: &str) -> Result<Arc<dyn Transport>, ApiError> {
    let unavailable = |why: String| ApiError::unavailable(why);
    let services = call.server.registry.built_in("", "v1", "services").ok_or_else(answer::no_such_path)?;
    let found = call.server.fetch(services, &call.info.namespace, name).await?;
    let service = call.server.decode(services, &found)?;
    let ports = list(&service, "/spec/ports");
    let matching = ports.iter().find(|one| {
        port.is_empty() || text(one, "/name") == port || number(one, "/port").is_some_and(|number| number.to_string() == port)
    });
    let matching = matching.ok_or_else(|| unavailable(format!("no service port {port:?} found for service {name:?}")))?;
    let port_name = text(matching, "/name");
    let endpoint = call.server.service_endpoint(&call.info.namespace, name, port_name).await?;
    let (host, port) = endpoint.ok_or_else(|| unavailable(format!("no endpoints available for service {name:?}")))?;
    dial(call, scheme, &host, port)
}

fn parse(port: &str) -> Result<u16, ApiError> {
    port.parse().map_err(|_| ApiError::bad_request(format!("invalid port {port:?}")))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn names() {
        assert_eq!(split("a"), Some(("", "a", "")));
        assert_eq!(split("a:80"), Some(("", "a", "80")));
        assert_eq!(split("https:a:443"), Some(("https", "a", "443")));
        assert_eq!(split("ftp:a:1"), None);
        assert_eq!(split(""), None);
    }
}
