//! Plain calls of an API server, so that a test sees what is on the wire.

#![allow(dead_code, reason = "every test binary uses its own part")]

use std::fs;
use std::path::Path;

use daruma_client::{Body, Transport, empty_body, full_body};
use daruma_cluster::kubeconfig::{self, Source, User};
use daruma_host::https::{ClientIdentity, HttpsTransport, TlsTrust};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;

/// A connection of its own with a kubeconfig's certificate.
pub fn connect(path: &Path) -> HttpsTransport {
    let config = kubeconfig::parse(&fs::read_to_string(path).expect("a kubeconfig")).expect("a kubeconfig");
    let text = |source: &Source| match source {
        Source::Inline(text) => text.clone(),
        Source::File(path) => fs::read_to_string(path).expect("a file"),
    };
    let User::Certificate { certificate, key } = &config.user else { panic!("a certificate is expected") };
    let identity = ClientIdentity::Certificate { certificate: text(certificate), key: text(key) };
    HttpsTransport::new(&config.host, config.port, &TlsTrust::Ca(text(&config.authority)), &identity, false)
        .expect("certificates")
}

/// One call; the whole answer.
pub async fn call(transport: &HttpsTransport, method: Method, path: &str, body: &[u8]) -> Result<(StatusCode, Vec<u8>), String> {
    let response = transport.call(request(method, path, body)).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
    Ok((status, body.to_bytes().to_vec()))
}

/// One call that must succeed; the answer as JSON.
pub async fn json(transport: &HttpsTransport, method: Method, path: &str, body: &Value) -> Result<Value, String> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let (status, answer) = call(transport, method, path, &body).await?;
    if !status.is_success() {
        return Err(format!("{path}: {status}: {}", String::from_utf8_lossy(&answer)));
    }
    serde_json::from_slice(&answer).map_err(|error| format!("{path}: {error}"))
}

/// Creates an object; one that is there already is fine.
pub async fn ensure(transport: &HttpsTransport, path: &str, body: &Value) -> Result<(), String> {
    let (status, answer) = call(transport, Method::POST, path, body.to_string().as_bytes()).await?;
    if status.is_success() || status == StatusCode::CONFLICT {
        return Ok(());
    }
    Err(format!("{path}: {status}: {}", String::from_utf8_lossy(&answer)))
}

/// A body that arrives in lines, such as a watch.
pub struct Lines {
    body: Body,
    buffer: Vec<u8>,
}

impl Lines {
    /// Asks for `path`; an answer that is not 200 comes as `Err` with its status.
    pub async fn open(transport: &HttpsTransport, path: &str) -> Result<Self, (Option<StatusCode>, String)> {
        let response = transport.call(request(Method::GET, path, b"")).await.map_err(|error| (None, error.to_string()))?;
        let status = response.status();
        let body = response.into_body();
        if status == StatusCode::OK {
            return Ok(Self { body, buffer: Vec::new() });
        }
        let text = body.collect().await.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
        Err((Some(status), text.unwrap_or_default()))
    }

    /// The next line; `None` at the end, however it came.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                return Some(std::mem::replace(&mut self.buffer, rest));
            }
            let frame = self.body.frame().await?.ok()?;
            self.buffer.extend_from_slice(frame.data_ref()?);
        }
    }
}

fn request(method: Method, path: &str, body: &[u8]) -> Request<Body> {
    let patch = method == Method::PATCH;
    let request = Request::builder().method(method).uri(path).header(header::ACCEPT, "application/json");
    let kind = if patch { "application/merge-patch+json" } else { "application/json" };
    let request = if body.is_empty() { request } else { request.header(header::CONTENT_TYPE, kind) };
    let body = if body.is_empty() { empty_body() } else { full_body(body.to_vec()) };
    request.body(body).expect("a path is a valid URI")
}
