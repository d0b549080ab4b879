//! `/openapi/v3`: an index with a hash a document, and the documents. `/openapi/v2` has a
//! head and no definitions: kubectl reads it for kinds that v3 does not know, and takes any error for its own answer.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use daruma_api::status::ApiError;
use daruma_client::Body;
use daruma_kinds::Kind;
use daruma_kinds::custom::CustomKind;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::call::Call;
use crate::http::answer;
use crate::registry::{Registry, Stage};

/// A document and its hash.
type Encoded = (Bytes, String);

/// Encoded documents by path, with their hashes; made when first asked for.
#[derive(Debug, Default)]
pub struct Documents {
    built_in: Mutex<BTreeMap<String, Encoded>>,
    /// Those of custom resources, as of one version of the registry.
    custom: Mutex<(u64, BTreeMap<String, Encoded>)>,
}

impl Documents {
    /// The document below a path such as `apis/apps/v1`, and its hash.
    fn get(&self, registry: &Registry, path: &str) -> Option<Encoded> {
        self.built_in(path).or_else(|| self.custom(registry, path))
    }

    fn built_in(&self, path: &str) -> Option<Encoded> {
        let mut made = self.built_in.lock().expect("no panic while held");
        if let Some(found) = made.get(path) {
            return Some(found.clone());
        }
        let entry = daruma_kinds::openapi::index().into_iter().find(|entry| entry.path == path)?;
        let document = encoded(&daruma_kinds::openapi::document(entry.group, entry.version)?);
        made.insert(path.to_owned(), document.clone());
        Some(document)
    }

    fn custom(&self, registry: &Registry, path: &str) -> Option<Encoded> {
        // The version is read first: a document that is made of newer kinds is made once more.
        let version = registry.version();
        let mut custom = self.custom.lock().expect("no panic while held");
        if custom.0 != version {
            *custom = (version, BTreeMap::new());
        }
        if let Some(found) = custom.1.get(path) {
            return Some(found.clone());
        }
        let groups = custom_groups(registry);
        let ((group, version), kinds) = groups.iter().find(|((group, version), _)| format!("apis/{group}/{version}") == path)?;
        let document = encoded(&daruma_kinds::custom::openapi_document(group, version, kinds));
        custom.1.insert(path.to_owned(), document.clone());
        Some(document)
    }
}

/// Custom kinds that discovery tells of, by group and version.
fn custom_groups(registry: &Registry) -> BTreeMap<(&'static str, &'static str), Vec<Arc<CustomKind>>> {
    let mut groups: BTreeMap<_, Vec<Arc<CustomKind>>> = BTreeMap::new();
    for resource in registry.custom().iter().filter(|resource| resource.stage != Stage::Installing) {
        if let Some(kind) = resource.custom_kind() {
            groups.entry((kind.names().group, kind.names().version)).or_default().push(kind.clone());
        }
    }
    groups
}

fn encoded(document: &Value) -> Encoded {
    let bytes = Bytes::from(document.to_string());
    let digest = ring::digest::digest(&ring::digest::SHA512, &bytes);
    let mut hash = String::with_capacity(128);
    for byte in digest.as_ref() {
        let _ = write!(hash, "{byte:02X}");
    }
    (bytes, hash)
}

/// `/openapi/v3`.
///
/// # Errors
/// None.
pub fn index(call: &Call) -> Result<Response<Body>, ApiError> {
    let (documents, registry) = (&call.server.openapi, &call.server.registry);
    let mut served: Vec<String> = daruma_kinds::openapi::index().into_iter().map(|entry| entry.path).collect();
    served.extend(custom_groups(registry).keys().map(|(group, version)| format!("apis/{group}/{version}")));
    let mut paths = serde_json::Map::new();
    for path in served {
        if let Some((_, hash)) = documents.get(registry, &path) {
            paths.insert(path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}));
        }
    }
    for (path, hash) in call.server.aggregation.openapi_paths() {
        paths.insert(path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}));
    }
    Ok(answer::value(StatusCode::OK, call.accept.format, &json!({"paths": Value::Object(paths)})))
}

/// `/openapi/v3/PATH`.
///
/// # Errors
/// 404.
pub fn document(call: &Call, path: &str) -> Result<Response<Body>, ApiError> {
    let (bytes, hash) = call.server.openapi.get(&call.server.registry, path).ok_or_else(answer::no_such_path)?;
    let mut response = answer::json(StatusCode::OK, bytes);
    if let Ok(tag) = http::HeaderValue::from_str(&format!("\"{hash}\"")) {
        response.headers_mut().insert(http::header::ETAG, tag);
    }
    if call.query.text("hash").is_some_and(|asked| asked == hash) {
        let forever = http::HeaderValue::from_static("public, immutable");
        response.headers_mut().insert(http::header::CACHE_CONTROL, forever);
    }
    let unchanged = call
        .headers
        .get(http::header::IF_NONE_MATCH)
        .and_then(|tag| tag.to_str().ok())
        .is_some_and(|tag| tag.trim_matches('"') == hash);
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = daruma_client::empty_body();
    }
    Ok(response)
}

const V2_TITLE: &str = "Kubernetes";
/// Media type of OpenAPI v2 in protobuf (kube-openapi pkg/handler).
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// `/openapi/v2`: a document without paths and definitions, as JSON or in protobuf.
pub fn v2(call: &Call) -> Response<Body> {
    let asked = call.headers.get(http::header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let version = daruma_api::KUBERNETES_VERSION;
    if !asked.contains("proto-openapi.spec.v2") {
        let info = json!({"title": V2_TITLE, "version": version});
        return answer::value(StatusCode::OK, call.accept.format, &json!({"swagger": "2.0", "info": info, "paths": {}}));
    }
    // gnostic's openapiv2.Document: swagger = 1, info = 2 {title = 1, version = 2}.
    let info = [field(1, V2_TITLE.as_bytes()), field(2, version.as_bytes())].concat();
    let document = [field(1, b"2.0"), field(2, &info)].concat();
    answer::with_type(StatusCode::OK, V2_PROTOBUF, daruma_client::full_body(document))
}

/// A protobuf field of bytes; `content` is shorter than 128 bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    debug_assert!(content.len() < 0x80, "the length is one byte");
    let mut bytes = vec![number << 3 | 2, content.len() as u8];
    bytes.extend_from_slice(content);
    bytes
}
