//! `/openapi/v3`: an index with a hash a document, and the documents. `/openapi/v2` has a
//! head and no definitions: kubectl reads it for kinds that v3 does not know, and takes any error for its own answer.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;

use bytes::Bytes;
use daruma_api::status::ApiError;
use daruma_client::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::call::Call;
use crate::http::answer;

/// Encoded documents by path, with their hashes; made when first asked for.
#[derive(Debug, Default)]
pub struct Documents {
    made: Mutex<BTreeMap<String, (Bytes, String)>>,
}

impl Documents {
    /// The document below a path such as `apis/apps/v1`, and its hash.
    fn get(&self, path: &str) -> Option<(Bytes, String)> {
        let mut made = self.made.lock().expect("no panic while held");
        if let Some(found) = made.get(path) {
            return Some(found.clone());
        }
        let entry = daruma_kinds::openapi::index().into_iter().find(|entry| entry.path == path)?;
        let document = daruma_kinds::openapi::document(entry.group, entry.version)?;
        let bytes = Bytes::from(document.to_string());
        let digest = ring::digest::digest(&ring::digest::SHA512, &bytes);
        let mut hash = String::with_capacity(128);
        for byte in digest.as_ref() {
            let _ = write!(hash, "{byte:02X}");
        }
        made.insert(path.to_owned(), (bytes.clone(), hash.clone()));
        Some((bytes, hash))
    }
}

/// `/openapi/v3`.
///
/// # Errors
/// None.
pub fn index(call: &Call) -> Result<Response<Body>, ApiError> {
    let documents = &call.server.openapi;
    let mut paths = serde_json::Map::new();
    for entry in daruma_kinds::openapi::index() {
        if let Some((_, hash)) = documents.get(&entry.path) {
            paths.insert(entry.path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{}?hash={hash}", entry.path)}));
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
    let (bytes, hash) = call.server.openapi.get(path).ok_or_else(answer::no_such_path)?;
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
