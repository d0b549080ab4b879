//! Discovery: which groups, versions and resources there are; plain documents and aggregated v2.
//!
//! Clients ask for the aggregated documents again and again: they are kept as long as they are right.
//!
//! Forms: kubernetes apiserver pkg/endpoints/discovery.

pub mod aggregated;
mod maturity;
pub mod model;
pub mod openapi;

use bytes::Bytes;
use daruma_api::KUBERNETES_VERSION;
use daruma_api::status::ApiError;
use daruma_client::{Body, full_body};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::call::Call;
use crate::http::{Shape, answer};
use model::Group;

/// Paths shown at `/`.
const PATHS: [&str; 12] = [
    "/api",
    "/api/v1",
    "/apis",
    "/apis/",
    "/healthz",
    "/healthz/etcd",
    "/healthz/log",
    "/healthz/ping",
    "/livez",
    "/metrics",
    "/readyz",
    "/version",
];

/// `/`: all paths.
pub fn paths(call: &Call) -> Response<Body> {
    let mut all: Vec<String> = PATHS.iter().map(|path| (*path).to_owned()).collect();
    all.extend(["/openapi/v2".to_owned(), "/openapi/v3".to_owned()]);
    for group in model::groups(&call.server).iter().filter(|group| !group.name.is_empty()) {
        all.push(format!("/apis/{}", group.name));
        all.extend(group.versions.iter().map(|version| format!("/apis/{}/{}", group.name, version.name)));
    }
    all.sort();
    indented(&json!({"paths": all}))
}

/// `/version`.
pub fn version() -> Response<Body> {
    let minor = KUBERNETES_VERSION.trim_start_matches('v').split('.').nth(1).unwrap_or_default();
    let content = json!({
        "major": "1", "minor": minor, "gitVersion": KUBERNETES_VERSION, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc", "platform": format!("linux/{}", architecture()),
        "emulationMajor": "1", "emulationMinor": minor, "minCompatibilityMajor": "1", "minCompatibilityMinor": minor,
    });
    indented(&content)
}

/// Indented JSON, as the real server writes what is no API object (`responsewriters.WriteRawJSON`).
fn indented(content: &serde_json::Value) -> Response<Body> {
    answer::json(StatusCode::OK, format!("{content:#}"))
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `/api`: versions of the core group.
///
/// # Errors
/// None.
pub fn api(call: &Call) -> Result<Response<Body>, ApiError> {
    if call.accept.shape == Shape::Discovery {
        return Ok(v2(call.server.discovery.get(&call.server).core));
    }
    let address = format!("{}:{}", call.server.config.advertise_address, call.server.config.secure_port);
    let content = json!({"kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]});
    Ok(answer::value(StatusCode::OK, call.accept.format, &content))
}

/// `/apis`: all named groups.
///
/// # Errors
/// None.
pub fn groups(call: &Call) -> Result<Response<Body>, ApiError> {
    if call.accept.shape == Shape::Discovery {
        return Ok(v2(call.server.discovery.get(&call.server).named));
    }
    let groups = model::groups(&call.server);
    let groups: Vec<Value> = groups.iter().filter(|group| !group.name.is_empty()).map(plain_group).collect();
    let content = json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups});
    Ok(answer::value(StatusCode::OK, call.accept.format, &content))
}

/// `/apis/GROUP`: one group's versions.
///
/// # Errors
/// 404.
pub fn group(call: &Call, name: &str) -> Result<Response<Body>, ApiError> {
    let groups = model::groups(&call.server);
    let group = groups.iter().find(|group| group.name == name).ok_or_else(answer::no_such_path)?;
    let mut content = plain_group(group);
    content["kind"] = "APIGroup".into();
    content["apiVersion"] = "v1".into();
    Ok(answer::value(StatusCode::OK, call.accept.format, &content))
}

/// `/api/v1` and `/apis/GROUP/VERSION`: one version's resources.
///
/// # Errors
/// 404.
pub fn resources(call: &Call, group: &str, version: &str) -> Result<Response<Body>, ApiError> {
    let groups = model::groups(&call.server);
    let found = groups.iter().find(|one| one.name == group).and_then(|one| one.versions.iter().find(|one| one.name == version));
    let found = found.ok_or_else(answer::no_such_path)?;
    let resources: Vec<Value> = found.resources.iter().flat_map(model::Resource::plain).collect();
    let content = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": daruma_api::gvk::api_version(group, version),
        "resources": resources});
    Ok(answer::value(StatusCode::OK, call.accept.format, &content))
}

fn plain_group(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|version| json!({"groupVersion": format!("{}/{}", group.name, version.name), "version": version.name}))
        .collect();
    json!({"name": group.name, "preferredVersion": versions.first(), "versions": versions})
}

fn v2(document: Bytes) -> Response<Body> {
    answer::with_type(StatusCode::OK, aggregated::MEDIA_TYPE, full_body(document))
}
