//! Which resources the API has, and requests on resources that are known at run time only.
//!
//! Source: client-go discovery (ServerPreferredResources), metadata client.

use std::collections::BTreeSet;

use bytes::Bytes;
use daruma_api::gvk::api_version;
use daruma_api::metav1::Status;
use daruma_api::status::ApiError;
use daruma_client::{Body, Client, ClientError, TransportError, empty_body, full_body};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::Value;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
/// Asks for metadata of a list only.
pub(crate) const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
/// Asks for metadata of an object, or of watched ones, only.
pub(crate) const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/// A resource in its preferred version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiResource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
    pub(crate) verbs: Vec<String>,
}

impl ApiResource {
    pub(crate) fn supports(&self, verb: &str) -> bool {
        self.verbs.iter().any(|one| one == verb)
    }

    pub(crate) fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// URL path of the collection (of a namespace, or of all where that is empty), or of one object.
    pub(crate) fn path(&self, namespace: &str, name: Option<&str>) -> String {
        let mut path = root(&self.group, &self.version);
        if self.namespaced && !namespace.is_empty() {
            path = format!("{path}/namespaces/{namespace}");
        }
        path = format!("{path}/{}", self.resource);
        match name {
            Some(name) => format!("{path}/{name}"),
            None => path,
        }
    }
}

/// What discovery found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Discovered {
    pub(crate) resources: Vec<ApiResource>,
    /// Group versions that could not be asked, with the reason.
    pub(crate) failed: Vec<String>,
}

/// The metadata that the garbage collector and the namespace controller look at.
#[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) deletion_timestamp: Option<String>,
    pub(crate) finalizers: Vec<String>,
    pub(crate) owner_references: Vec<crate::garbage_collector::graph::Owner>,
}

/// An object of which only metadata counts.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Partial {
    pub(crate) metadata: Metadata,
}

/// A list of such objects.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PartialList {
    pub(crate) metadata: Metadata,
    pub(crate) items: Vec<Partial>,
}

fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// Where groups are listed: the one without a name, and the others.
const ROOTS: [&str; 2] = ["/api", "/apis"];

/// Asks for all resources in their preferred versions.
pub(crate) async fn discover(client: &Client) -> Result<Discovered, ClientError> {
    Discovery::default().ask(client).await
}

/// For those who ask time and again: what says the same as before is not read anew.
#[derive(Default)]
pub(crate) struct Discovery {
    answers: [Answer; ROOTS.len()],
}

/// What one of the roots has answered.
#[derive(Default)]
struct Answer {
    /// The text, where it says everything.
    content: Bytes,
    found: Discovered,
}

impl Discovery {
    /// As [`discover`].
    pub(crate) async fn ask(&mut self, client: &Client) -> Result<Discovered, ClientError> {
        let mut all = Discovered::default();
        for (path, answer) in ROOTS.iter().zip(&mut self.answers) {
            let content = send(client, Method::GET, path, AGGREGATED, None).await?;
            if content.is_empty() || content != answer.content {
                *answer = Answer::read(client, path, content).await?;
            }
            all.resources.extend_from_slice(&answer.found.resources);
            all.failed.extend_from_slice(&answer.found.failed);
        }
        // A resource counts once, in the first version that has it.
        let mut seen = BTreeSet::new();
        all.resources.retain(|one| seen.insert((one.group.clone(), one.resource.clone())));
        Ok(all)
    }
}

impl Answer {
    async fn read(client: &Client, path: &str, content: Bytes) -> Result<Self, ClientError> {
        let answer: Value = decode(path, &content)?;
        let mut found = Discovered::default();
        if answer["kind"] == "APIGroupDiscoveryList" {
            take_aggregated(&answer, &mut found);
            return Ok(Self { content, found });
        }
        take_plain(client, &answer, &mut found).await;
        Ok(Self { content: Bytes::new(), found })
    }
}

fn take_aggregated(answer: &Value, found: &mut Discovered) {
    for group in items(&answer["items"]) {
        let name = text(&group["metadata"]["name"]);
        for version in items(&group["versions"]) {
            let number = text(&version["version"]);
            if version["freshness"] == "Stale" {
                found.failed.push(format!("{}: stale GroupVersion discovery: {0}", api_version(&name, &number)));
                continue;
            }
            for resource in items(&version["resources"]) {
                found.resources.push(ApiResource {
                    group: name.clone(),
                    version: number.clone(),
                    resource: text(&resource["resource"]),
                    kind: text(&resource["responseKind"]["kind"]),
                    namespaced: resource["scope"] == "Namespaced",
                    verbs: items(&resource["verbs"]).iter().map(text).collect(),
                });
            }
        }
    }
}

async fn take_plain(client: &Client, answer: &Value, found: &mut Discovered) {
    let mut versions: Vec<(String, String)> =
        items(&answer["versions"]).iter().map(|version| (String::new(), text(version))).collect();
    for group in items(&answer["groups"]) {
        let name = text(&group["name"]);
        let preferred = text(&group["preferredVersion"]["version"]);
        versions.push((name.clone(), preferred.clone()));
        let others = items(&group["versions"]).iter().map(|version| text(&version["version"]));
        versions.extend(others.filter(|version| *version != preferred).map(|version| (name.clone(), version)));
    }
    for (group, version) in versions {
        match get::<Value>(client, &root(&group, &version), "application/json").await {
            Ok(list) => {
                let resources = items(&list["resources"]).iter().filter(|one| !text(&one["name"]).contains('/'));
                found.resources.extend(resources.map(|one| ApiResource {
                    group: group.clone(),
                    version: version.clone(),
                    resource: text(&one["name"]),
                    kind: text(&one["kind"]),
                    namespaced: one["namespaced"] == true,
                    verbs: items(&one["verbs"]).iter().map(text).collect(),
                }));
            }
            Err(error) => found.failed.push(format!("{}: {error}", api_version(&group, &version))),
        }
    }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Reads and decodes.
pub(crate) async fn get<T: serde::de::DeserializeOwned>(client: &Client, path: &str, accept: &str) -> Result<T, ClientError> {
    decode(path, &send(client, Method::GET, path, accept, None).await?)
}

fn decode<T: serde::de::DeserializeOwned>(path: &str, content: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(content)
        .map_err(|source| ClientError::Decode { what: path.to_owned(), source: std::sync::Arc::new(source) })
}

/// Sends a request, with a content type and body where given, and gives the body of a good answer.
pub(crate) async fn send(
    client: &Client,
    method: Method,
    path: &str,
    accept: &str,
    body: Option<(&str, &Value)>,
) -> Result<Bytes, ClientError> {
    let response = open(client, method, path, accept, body).await?;
    Ok(whole(response.into_body()).await?)
}

/// The same with the answer's body left to be read.
pub(crate) async fn open(
    client: &Client,
    method: Method,
    path: &str,
    accept: &str,
    body: Option<(&str, &Value)>,
) -> Result<http::Response<Body>, ClientError> {
    let mut builder = Request::builder().method(method).uri(path).header(http::header::ACCEPT, accept);
    let body = match body {
        Some((content_type, value)) => {
            builder = builder.header(http::header::CONTENT_TYPE, content_type);
            full_body(value.to_string())
        }
        None => empty_body(),
    };
    let request = builder.body(body).map_err(|error| TransportError(format!("bad request {path}: {error}")))?;
    let response = client.raw(request).await?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    Err(refusal(status, &whole(response.into_body()).await?).into())
}

async fn whole(body: Body) -> Result<Bytes, TransportError> {
    let collected = body.collect().await.map_err(|error| TransportError(format!("response broke off: {error}")))?;
    Ok(collected.to_bytes())
}

fn refusal(status: StatusCode, content: &[u8]) -> ApiError {
    match serde_json::from_slice::<Status>(content) {
        Ok(answer) if answer.status.as_deref() == Some("Failure") => ApiError::from_status(answer),
        _ => ApiError::new(status.as_u16(), "", String::from_utf8_lossy(content).trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn aggregated_discovery() {
        let answer = json!({ "kind": "APIGroupDiscoveryList", "items": [{
            "metadata": { "name": "apps" },
            "versions": [
                { "version": "v1", "freshness": "Current", "resources": [{
                    "resource": "deployments", "responseKind": { "kind": "Deployment" }, "scope": "Namespaced", "verbs": ["list"],
                }]},
                { "version": "v1beta1", "freshness": "Stale" },
            ],
        }]});
        let mut found = Discovered::default();
        take_aggregated(&answer, &mut found);
        let resource = &found.resources[0];
        assert_eq!(resource.path("a", Some("b")), "/apis/apps/v1/namespaces/a/deployments/b");
        assert_eq!(resource.path("", None), "/apis/apps/v1/deployments");
        assert!(resource.supports("list") && !resource.supports("watch"));
        assert_eq!(found.failed.len(), 1);
    }
}
