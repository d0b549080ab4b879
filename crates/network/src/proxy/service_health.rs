//! Health of single services: where `externalTrafficPolicy: Local` asks for it, a port of the node tells load balancers
//! how many endpoints of the service are here.
//!
//! Source: kubernetes pkg/proxy/healthcheck/service_health.go, pkg/proxy/{serviceport,endpointschangetracker}.go.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use daruma_api::core::v1::ObjectReference;
use daruma_client::events::{EventFields, EventRecorder, EventType};
use daruma_client::{Body, Client};
use daruma_world::World;
use daruma_world::net::{Listener, Stream};
use daruma_world::tasks::AbortOnDrop;
use futures::future::{Either, select};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::Health;
use super::services::{EndpointMap, ServicePort};
use crate::http_answer::json;

const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");
/// Connections to one port that are answered at the same time; further ones wait.
const CONNECTIONS_MOST: usize = 64;
/// A connection ends after so long. (The real one lets it live; a bound keeps silent clients from filling the places.)
const CONNECTION_LIMIT: Duration = Duration::from_secs(30);

/// What is told of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// Where: `spec.healthCheckNodePort`.
    pub port: u16,
    /// Its ready endpoints on this node; several ports of one address are one.
    pub endpoints: usize,
}

/// Checks by service (`namespace/name`).
pub type Checks = BTreeMap<String, Check>;

/// What is told of the services that have `ports`.
pub(super) fn checks(ports: &[ServicePort], endpoints: &EndpointMap) -> Checks {
    let asking = ports.iter().filter_map(|port| Some((port.service.clone(), port.health_check_node_port?)));
    let mut found: Checks = asking.map(|(service, port)| (service, Check { port, endpoints: 0 })).collect();
    if found.is_empty() {
        return found;
    }
    let mut local: BTreeMap<&str, BTreeSet<Ipv4Addr>> = BTreeMap::new();
    for ((service, _, _), list) in endpoints.iter().filter(|((service, _, _), _)| found.contains_key(service)) {
        let here = list.iter().filter(|endpoint| endpoint.local && endpoint.ready).map(|endpoint| endpoint.address);
        local.entry(service).or_default().extend(here);
    }
    for (service, addresses) in local {
        found.entry(service.to_owned()).and_modify(|check| check.endpoints = addresses.len());
    }
    found
}

/// The answer to every request.
fn answer(service: &str, endpoints: usize, proxy_healthy: bool) -> Response<Body> {
    let (namespace, name) = service.split_once('/').unwrap_or(("", service));
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\t\
         \"localEndpoints\": {endpoints},\n\t\"serviceProxyHealthy\": {proxy_healthy}\n}}"
    );
    let good = endpoints != 0 && proxy_healthy;
    let mut response = json(if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body);
    response.headers_mut().insert(WEIGHT, HeaderValue::from(endpoints));
    response
}

/// The ports that are open.
pub(super) struct Servers {
    world: World,
    health: Health,
    events: EventRecorder,
    node_name: String,
    open: BTreeMap<String, Server>,
}

struct Server {
    port: u16,
    endpoints: Arc<AtomicUsize>,
    /// The port is closed with it.
    _serving: AbortOnDrop,
}

impl Servers {
    /// None yet.
    pub(super) fn new(world: &World, client: &Client, health: &Health, node_name: &str) -> Self {
        let events = EventRecorder::new(client, "kube-proxy", Some(node_name));
        let (world, health) = (world.clone(), health.clone());
        Self { world, health, events, node_name: node_name.to_owned(), open: BTreeMap::new() }
    }

    /// Opens and closes ports so that they are those of `checks`. One that cannot be had is tried again with the next change.
    pub(super) async fn apply(&mut self, checks: &Checks) {
        self.open.retain(|service, server| checks.get(service).is_some_and(|check| check.port == server.port));
        for (service, check) in checks {
            if let Some(server) = self.open.get(service) {
                server.endpoints.store(check.endpoints, Ordering::Relaxed);
                continue;
            }
            match self.world.net.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, check.port))).await {
                Ok(listener) => {
                    let endpoints = Arc::new(AtomicUsize::new(check.endpoints));
                    let serving = serve(self.world.clone(), listener, service.clone(), endpoints.clone(), self.health.clone());
                    let serving = self.world.spawn("service health", serving).abort_on_drop();
                    self.open.insert(service.clone(), Server { port: check.port, endpoints, _serving: serving });
                }
                Err(error) => self.cannot_listen(service, check.port, &error),
            }
        }
    }

    fn cannot_listen(&self, service: &str, port: u16, error: &io::Error) {
        // As Go says it.
        let why = match error.kind() {
            io::ErrorKind::AddrInUse => "bind: address already in use".to_owned(),
            _ => error.to_string(),
        };
        let message = format!(
            "node {} failed to start healthcheck \"{service}\" on port {port}: listen tcp4 0.0.0.0:{port}: {why}",
            self.node_name
        );
        tracing::error!("{message}");
        let (namespace, name) = service.split_once('/').unwrap_or(("", service));
        let object = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Service".into()),
            namespace: Some(namespace.into()),
            name: Some(name.into()),
            ..ObjectReference::default()
        };
        let fields = EventFields { action: Some("Listen".into()), ..EventFields::default() };
        self.events.event_with_fields(&object, EventType::Warning, "FailedToStartServiceHealthcheck", message, fields);
    }
}

/// Answers at a port until the future is dropped.
async fn serve(world: World, mut listener: Box<dyn Listener>, service: String, endpoints: Arc<AtomicUsize>, health: Health) {
    let mut connections = FuturesUnordered::new();
    loop {
        if connections.len() >= CONNECTIONS_MOST {
            connections.next().await;
            continue;
        }
        let accepted = {
            let accept = listener.accept();
            futures::pin_mut!(accept);
            // An empty set would be ready at once.
            let ended =
                if connections.is_empty() { futures::future::pending().left_future() } else { connections.next().right_future() };
            match select(accept, ended).await {
                Either::Left((accepted, _)) => accepted,
                Either::Right(_) => continue,
            }
        };
        match accepted {
            Ok((stream, _)) => connections.push(converse(&world, stream, &service, &endpoints, &health)),
            Err(error) => {
                tracing::warn!(service, %error, "a health check could not be accepted");
                world.sleep(super::RETRY_FIRST).await;
            }
        }
    }
}

async fn converse(world: &World, stream: Box<dyn Stream>, service: &str, endpoints: &AtomicUsize, health: &Health) {
    let answered = service_fn(|_| {
        let response = answer(service, endpoints.load(Ordering::Relaxed), health.is_healthy());
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answered).boxed();
    // A connection that ends badly concerns its client only.
    let _ = world.timeout(CONNECTION_LIMIT, connection).await;
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;
    use crate::proxy::services::{endpoints, service_ports};
    use crate::test_objects::{service, slice};

    #[test]
    fn who_is_asked_about_what() {
        let local = || json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000});
        let endpoint = |address: &str, node: &str, ready: bool| json!({"addresses": [address], "nodeName": node, "conditions": {"ready": ready}});
        let here = || {
            json!([
                endpoint("10.244.1.2", "here", true),
                endpoint("10.244.1.3", "here", false),
                endpoint("10.244.2.2", "there", true)
            ])
        };
        let check = |spec: Value, slice_endpoints: Value, expected: Option<(u16, usize)>| {
            let ports = service_ports(&[service(spec)]);
            let found = checks(&ports, &endpoints(&[slice(slice_endpoints)], "here"));
            assert_eq!(found.get("default/web").map(|check| (check.port, check.endpoints)), expected);
        };
        check(local(), here(), Some((31000, 1)));
        check(local(), json!([endpoint("10.244.2.2", "there", true)]), Some((31000, 0)));
        check(local(), json!([endpoint("10.244.1.2", "here", true), endpoint("10.244.1.3", "here", true)]), Some((31000, 2)));
        let with = |change: Value| {
            let mut spec = local();
            spec.as_object_mut().expect("an object").extend(change.as_object().cloned().unwrap_or_default());
            spec
        };
        // Two ports of one pod are one endpoint.
        let two = json!([{"name": "http", "port": 80}, {"name": "https", "port": 443}]);
        check(with(json!({"ports": two})), here(), Some((31000, 1)));
        check(with(json!({"externalTrafficPolicy": "Cluster"})), here(), None);
        check(with(json!({"type": "NodePort"})), here(), None);
        check(with(json!({"healthCheckNodePort": 0})), here(), None);
    }

    #[test]
    fn what_is_answered() {
        let check = |endpoints: usize, healthy: bool, status: u16| {
            let response = answer("shop/web", endpoints, healthy);
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()["x-load-balancing-endpoint-weight"], endpoints.to_string());
            assert_eq!(response.headers()["content-type"], "application/json");
            assert_eq!(response.headers()["x-content-type-options"], "nosniff");
            let body = response.into_body().collect().now_or_never().expect("at once").expect("whole").to_bytes();
            let expected = json!({
                "service": {"namespace": "shop", "name": "web"}, "localEndpoints": endpoints, "serviceProxyHealthy": healthy
            });
            assert_eq!(serde_json::from_slice::<Value>(&body).expect("JSON"), expected);
        };
        check(2, true, 200);
        check(0, true, 503);
        check(2, false, 503);
    }
}
