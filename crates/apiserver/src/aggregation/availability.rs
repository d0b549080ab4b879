//! Follows APIServices: finds out whether their servers answer, says so in their status and keeps what
//! they serve for discovery.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use daruma_api::status::ApiError;
use daruma_client::{Body, empty_body};
use daruma_store::Expect;
use futures::future::{Either, join_all, select};
use http::{Request, Response};
use serde_json::{Value, json};

use super::{Connection, Remote};
use crate::cache::{Change, Filter, Watcher};
use crate::discovery::model::{Resource, Subresource};
use crate::document::{self, is_true, list, number, text, texts};
use crate::http::body;
use crate::server::ApiServer;
use crate::verbs::managed_fields::Target;

const GROUP: &str = "apiregistration.k8s.io";
/// Tells whose endpoints a slice has (k8s.io/api/discovery/v1 well_known_labels.go).
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// As whom the availability is written.
const MANAGER: &str = "kube-apiserver";
/// How often servers that answer are asked again, and how soon ones that do not.
const INTERVAL: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(1);
/// Longest wait for an answer (`discoveryClient.Timeout`).
const LIMIT: Duration = Duration::from_secs(5);

/// Follows APIServices, their services and endpoints for ever.
pub async fn follow(server: Arc<ApiServer>) {
    let find = |group, plural| server.registry.built_in(group, "v1", plural).cloned();
    let (Some(api_services), Some(services), Some(slices)) =
        (find(GROUP, "apiservices"), find("", "services"), find("discovery.k8s.io", "endpointslices"))
    else {
        return;
    };
    let filter = Arc::new(Filter::default());
    loop {
        let mut loads = Vec::new();
        for resource in [&api_services, &services, &slices] {
            loads.push(server.feed.load(&resource.prefix, &resource.cache));
        }
        if join_all(loads).await.iter().any(Result::is_err) {
            server.world.sleep(RETRY).await;
            continue;
        }
        let (_, mut changed) = api_services.cache.watch_from_now(&filter, 0);
        let (_, mut service_changed) = services.cache.watch_from_now(&filter, 0);
        let (_, mut slice_changed) = slices.cache.watch_from_now(&filter, 0);
        loop {
            let all_good = round(&server).await;
            let pause = server.world.sleep(if all_good { INTERVAL } else { RETRY });
            let happening = async {
                let any = std::pin::pin!(of_concern(&mut changed, |_| true));
                let service = std::pin::pin!(of_concern(&mut service_changed, |change| {
                    change.key.split_once('/').is_some_and(|(namespace, name)| is_of_remote(&server, namespace, name))
                }));
                let slice = std::pin::pin!(of_concern(&mut slice_changed, |change| {
                    let namespace = change.key.split_once('/').map_or("", |(namespace, _)| namespace);
                    let item = change.item.as_ref().or(change.previous.as_ref());
                    let service = item.and_then(|item| item.label(SERVICE_NAME));
                    service.is_some_and(|name| is_of_remote(&server, namespace, name))
                }));
                match select(any, select(service, slice)).await {
                    Either::Left((is_open, _)) | Either::Right((Either::Left((is_open, _)) | Either::Right((is_open, _)), _)) => {
                        is_open
                    }
                }
            };
            if let Either::Left((false, _)) = select(std::pin::pin!(happening), pause).await {
                break;
            }
            // What happens in one burst is looked at once.
            server.world.sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Waits for a change that is of concern; `false` where the watch has ended.
async fn of_concern(watcher: &mut Watcher, is_of_concern: impl Fn(&Change) -> bool) -> bool {
    while let Some((_, delivery)) = watcher.next().await {
        if is_of_concern(&delivery.change) {
            return true;
        }
    }
    false
}

/// Whether an extension server is reached by this service.
fn is_of_remote(server: &ApiServer, namespace: &str, name: &str) -> bool {
    let known = server.aggregation.known();
    known.remotes.values().any(|remote| remote.service_namespace == namespace && remote.service_name == name)
}

async fn remotes(server: &Arc<ApiServer>) -> Vec<Remote> {
    let Some(resource) = server.registry.built_in(GROUP, "v1", "apiservices") else { return Vec::new() };
    let Ok(snapshot) = server.cached(resource).await else { return Vec::new() };
    snapshot
        .objects
        .values()
        .filter(|item| item.value.windows(9).any(|window| window == b"\"service\""))
        .filter_map(|item| remote(&serde_json::from_slice(&item.value).ok()?))
        .collect()
}

/// What an APIService says; `None` for the server's own.
fn remote(object: &Value) -> Option<Remote> {
    let service = object.pointer("/spec/service").filter(|service| !service.is_null())?;
    let bundle = base64::engine::general_purpose::STANDARD.decode(text(object, "/spec/caBundle")).ok();
    let bundle = bundle.and_then(|bytes| String::from_utf8(bytes).ok()).filter(|pem| !pem.is_empty());
    Some(Remote {
        name: text(object, "/metadata/name").into(),
        group: text(object, "/spec/group").into(),
        version: text(object, "/spec/version").into(),
        service_namespace: text(service, "/namespace").into(),
        service_name: text(service, "/name").into(),
        service_port: number(service, "/port").and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
        ca_bundle: bundle.filter(|_| !is_true(object, "/spec/insecureSkipTLSVerify")),
        priority: number(object, "/spec/groupPriorityMinimum").unwrap_or(1000),
    })
}

/// Asks every extension server once; whether all of them answer.
async fn round(server: &Arc<ApiServer>) -> bool {
    let remotes = remotes(server).await;
    server.aggregation.change(|known| {
        known.remotes = remotes.iter().map(|remote| (remote.name.clone(), remote.clone())).collect();
        let names: Vec<String> = known.remotes.keys().cloned().collect();
        known.available.retain(|name, _| names.contains(name));
        known.resources.retain(|name, _| names.contains(name));
    });
    let results = join_all(remotes.iter().map(|remote| look(server, remote))).await;
    results.into_iter().all(|good| good)
}

async fn look(server: &Arc<ApiServer>, remote: &Remote) -> bool {
    let (available, reason, message, resources) = match ask(server, remote).await {
        Ok(resources) => (true, "Passed", "all checks passed".to_owned(), resources),
        Err((reason, message)) => (false, reason, message, Vec::new()),
    };
    server.aggregation.change(|known| {
        known.available.insert(remote.name.clone(), available);
        if available {
            known.resources.insert(remote.name.clone(), resources);
        }
    });
    if let Err(error) = report(server, remote, available, reason, &message).await {
        tracing::debug!(%error, name = remote.name, "cannot write the status of an APIService");
    }
    available
}

async fn ask(server: &Arc<ApiServer>, remote: &Remote) -> Result<Vec<Resource>, (&'static str, String)> {
    let (namespace, name) = (&remote.service_namespace, &remote.service_name);
    let port_name = server.remote_port_name(remote).await.map_err(|error| {
        if error.is_not_found() {
            ("ServiceNotFound", format!("service/{name} in {namespace:?} is not present"))
        } else {
            ("ServicePortError", error.message)
        }
    })?;
    let endpoint = server.service_endpoint(namespace, name, &port_name).await.ok().flatten();
    if endpoint.is_none() {
        return Err((
            "MissingEndpoints",
            format!("endpoints for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"),
        ));
    }
    let connection = server.dial_remote(remote).await.map_err(|error| ("FailedDiscoveryCheck", error.message))?;
    let path = format!("/apis/{}/{}", remote.group, remote.version);
    let failed = |why: String| {
        (
            "FailedDiscoveryCheck",
            format!("failing or missing response from https://{name}.{namespace}.svc:{}{path}: {why}", remote.service_port),
        )
    };
    let fetched = server.world.timeout(LIMIT, fetch(&connection, &path)).await;
    let document = fetched.map_err(|_| failed("context deadline exceeded".into()))?.map_err(failed)?;
    Ok(resources(remote, &document))
}

async fn fetch(connection: &Connection, path: &str) -> Result<Value, String> {
    let mut request: Request<Body> = Request::new(empty_body());
    *request.uri_mut() = path.parse().map_err(|error| format!("{error}"))?;
    let headers = request.headers_mut();
    headers.insert("x-remote-user", http::HeaderValue::from_static("system:kube-aggregator"));
    headers.insert("x-remote-group", http::HeaderValue::from_static("system:masters"));
    headers.insert(http::header::ACCEPT, http::HeaderValue::from_static("application/json"));
    let response: Response<Body> = connection.call(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let content = body::read(response.into_body()).await.map_err(|error| error.message)?;
    if !status.is_success() {
        return Err(format!("bad status from https server: {}", status.as_u16()));
    }
    serde_json::from_slice(&content).map_err(|error| error.to_string())
}

/// The resources of an `APIResourceList`, subresources below theirs.
fn resources(remote: &Remote, document: &Value) -> Vec<Resource> {
    let entries = list(document, "/resources");
    let own = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect::<Vec<String>>();
    let gvk = |entry: &Value| {
        let or = |pointer: &str, default: &str| {
            let value = text(entry, pointer);
            if value.is_empty() { default.to_owned() } else { value.to_owned() }
        };
        [or("/group", &remote.group), or("/version", &remote.version), text(entry, "/kind").to_owned()]
    };
    let mut found: Vec<Resource> = Vec::new();
    for entry in entries.iter().filter(|entry| !text(entry, "/name").contains('/')) {
        let plural = text(entry, "/name");
        let below = format!("{plural}/");
        let subresources = entries.iter().filter_map(|sub| {
            let name = text(sub, "/name").strip_prefix(&below)?;
            Some(Subresource { name: name.into(), gvk: gvk(sub), verbs: own(texts(sub, "/verbs")) })
        });
        found.push(Resource {
            plural: plural.into(),
            singular: text(entry, "/singularName").into(),
            gvk: gvk(entry),
            namespaced: is_true(entry, "/namespaced"),
            short_names: own(texts(entry, "/shortNames")),
            categories: own(texts(entry, "/categories")),
            verbs: own(texts(entry, "/verbs")),
            subresources: subresources.collect(),
            served_as: [remote.group.clone(), remote.version.clone()],
        });
    }
    found
}

/// Writes the `Available` condition, where it differs.
async fn report(server: &Arc<ApiServer>, remote: &Remote, available: bool, reason: &str, message: &str) -> Result<(), ApiError> {
    let Some(resource) = server.registry.built_in(GROUP, "v1", "apiservices") else { return Ok(()) };
    let found = server.fetch(resource, "", &remote.name).await?;
    let before = server.decode(resource, &found)?;
    let mut object = Value::clone(&before);
    let status = if available { "True" } else { "False" };
    let old =
        list(&object, "/status/conditions").iter().find(|one| text(one, "/type") == "Available").cloned().unwrap_or_default();
    if text(&old, "/status") == status && text(&old, "/reason") == reason && text(&old, "/message") == message {
        return Ok(());
    }
    let since = if text(&old, "/status") == status {
        text(&old, "/lastTransitionTime").to_owned()
    } else {
        document::seconds(server.world.now())
    };
    let condition =
        json!({"type": "Available", "status": status, "lastTransitionTime": since, "reason": reason, "message": message});
    let conditions = document::elements(document::child(&mut object, "status"), "conditions");
    conditions.retain(|one| text(one, "/type") != "Available");
    conditions.push(condition);
    Target::of(resource, "status").track(server.world.now(), &before, &mut object, MANAGER);
    server.put(resource, &found.key, Expect::Revision(found.mod_revision), resource.head.encode(&object)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading() {
        let object = json!({"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": {"group": "metrics.k8s.io", "version": "v1beta1",
            "service": {"name": "metrics-server", "namespace": "kube-system"}, "insecureSkipTLSVerify": true, "groupPriorityMinimum": 100}});
        let remote = remote(&object).expect("has a service");
        assert_eq!((remote.service_port, remote.ca_bundle.is_none(), remote.priority), (443, true, 100));
        let found = resources(
            &remote,
            &json!({"resources": [{"name": "pods", "kind": "PodMetrics", "namespaced": true, "verbs": ["get"]},
            {"name": "pods/x", "kind": "X", "verbs": ["get"]}]}),
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].subresources[0].name, "x");
        assert!(super::remote(&json!({"spec": {"group": "apps"}})).is_none());
    }
}
