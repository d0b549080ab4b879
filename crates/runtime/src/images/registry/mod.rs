//! A client of the OCI distribution protocol, for one repository.
//!
//! It is our own because the binary is static: crate oci-client resolves names through the C library and verifies
//! certificates through a second TLS set-up. Order of requests, retries and error texts are containerd's
//! (core/remotes/docker/{resolver,fetcher}.go): they are what `kubectl describe pod` shows.

mod authorization;
pub mod hosts;
mod request;
pub mod trust;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use daruma_world::World;
use daruma_world::containers::RegistryAuth;
use http::{HeaderMap, Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::Mutex;

use super::reference::Reference;
use authorization::Challenge;
use hosts::Endpoint;
use request::{Ask, PATIENCE, Unanswered};

/// Hops from a registry to where its blobs are: Go's net/http.
const MAX_REDIRECTS: usize = 10;
/// Answers to one question that may be followed by another attempt (resolver.go, retryRequest).
const MAX_RETRIES: usize = 5;
/// A larger document is no manifest (resolver.go, `MaxManifestSize`: half as much) and no configuration.
const MAX_DOCUMENT_BYTES: usize = 8 * 1024 * 1024;
/// What a manifest may be.
const MANIFEST_TYPES: &str = "application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, */*";

/// Whom the client believes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory of registries' settings; see [`hosts`].
    pub certs_dir: PathBuf,
    /// The system's authorities; see [`trust::configuration`].
    pub ca_file: Option<PathBuf>,
}

/// Why a registry did not give something.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It is not there.
    #[error("content at {0} not found: not found")]
    NotFound(String),
    /// It may be there for others.
    #[error("pull access denied, repository does not exist or may require authorization: {0}")]
    Denied(String),
    /// A token could not be had.
    #[error("failed to authorize: failed to fetch {kind} token: {why}")]
    Token {
        /// `oauth`, `anonymous`.
        kind: &'static str,
        /// What went wrong.
        why: String,
    },
    /// The request could not be made.
    #[error("failed to do request: {0}")]
    Request(#[from] Unanswered),
    /// An answer that the protocol does not have, with what the server says about it.
    #[error("unexpected status from {method} request to {url}: {status}{message}")]
    Status {
        /// `HEAD`, `GET`.
        method: Method,
        /// What was asked for.
        url: String,
        /// The answer.
        status: StatusCode,
        /// Its words, each on a line of its own.
        message: String,
    },
    /// The content is not what was asked for.
    #[error("{0}")]
    Content(String),
    /// Settings of this registry cannot be used.
    #[error("registry settings: {0}")]
    Settings(#[source] io::Error),
}

type Result<T> = std::result::Result<T, RegistryError>;

/// A client for one repository.
pub struct Registry {
    world: World,
    reference: Reference,
    auth: Option<RegistryAuth>,
    servers: Vec<Server>,
}

struct Server {
    endpoint: Endpoint,
    tls: Arc<rustls::ClientConfig>,
    /// The `Authorization` header that was found to work.
    authorization: Mutex<Option<String>>,
}

impl Registry {
    /// A client for the repository of `reference`. Reads the registry's settings, so that a change counts at once.
    pub async fn open(world: &World, reference: &Reference, auth: Option<RegistryAuth>, settings: &Settings) -> Result<Self> {
        let (settings, registry) = (settings.clone(), reference.registry.clone());
        let servers = world.blocking(move || {
            let endpoints = hosts::endpoints(&settings.certs_dir, &registry)?;
            let servers = endpoints.into_iter().map(|endpoint| {
                let tls = Arc::new(trust::configuration(&endpoint.trust, settings.ca_file.as_deref())?);
                Ok(Server { endpoint, tls, authorization: Mutex::new(None) })
            });
            servers.collect::<io::Result<Vec<Server>>>()
        });
        let servers = servers.await.map_err(RegistryError::Settings)?;
        Ok(Self { world: world.clone(), reference: reference.clone(), auth, servers })
    }

    /// The digest of what the reference names, and its content where the registry gave it along.
    pub async fn resolve(&self) -> Result<(String, Option<Bytes>)> {
        let by_tag = self.reference.digest.is_none();
        let able = |server: &&Server| server.endpoint.pulls && (server.endpoint.resolves || !by_tag);
        let mut worst: Option<(u8, RegistryError)> = None;
        for server in self.servers.iter().filter(able) {
            let error = match self.resolve_at(server).await {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            // Of several servers' errors, the one that came furthest is told.
            let weight = match &error {
                RegistryError::Status { .. } => 3,
                RegistryError::NotFound(_) => 2,
                _ => 1,
            };
            if worst.as_ref().is_none_or(|(known, _)| *known < weight) {
                worst = Some((weight, error));
            }
        }
        Err(worst.map_or_else(|| RegistryError::Content("no resolve hosts: not found".to_owned()), |(_, error)| error))
    }

    async fn resolve_at(&self, server: &Server) -> Result<(String, Option<Bytes>)> {
        let url = self.url(server, "manifests", self.reference.version());
        let (_, head) = self.ask(server, Method::HEAD, &url, MANIFEST_TYPES, 0).await?;
        if let Some(digest) = &self.reference.digest {
            return Ok((digest.clone(), None));
        }
        let said = head.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        if let Some(digest) = said.filter(|_| head.headers().contains_key(header::CONTENT_LENGTH)) {
            if !super::reference::is_digest(digest) {
                return Err(RegistryError::Content(format!("{digest:?} in header not a valid digest")));
            }
            return Ok((digest.to_owned(), None));
        }
        let (url, response) = self.ask(server, Method::GET, &url, MANIFEST_TYPES, 0).await?;
        let content = self.whole(&url, response).await?;
        Ok((super::manifest::digest(&content), Some(content)))
    }

    /// A manifest or index, checked.
    pub async fn manifest(&self, digest: &str) -> Result<Bytes> {
        self.document("manifest", "manifests", digest, MANIFEST_TYPES).await
    }

    /// An image's configuration, checked.
    pub async fn configuration(&self, digest: &str) -> Result<Bytes> {
        self.document("config", "blobs", digest, "*/*").await
    }

    async fn document(&self, kind: &str, place: &str, digest: &str, accept: &str) -> Result<Bytes> {
        let (url, response) = self.open_at_any(place, digest, accept, 0).await?;
        let content = self.whole(&url, response).await?;
        match super::manifest::digest(&content) {
            same if same == digest => Ok(content),
            other => Err(RegistryError::Content(mismatch(kind, &other, digest))),
        }
    }

    /// The beginning of a blob's download from byte `from` on, and its URL; the caller checks its digest. A server that
    /// cannot leave out the beginning sends all, with status 200.
    pub async fn blob(&self, digest: &str, from: u64) -> Result<(String, Response<Incoming>)> {
        self.open_at_any("blobs", digest, "*/*", from).await
    }

    async fn open_at_any(&self, place: &str, digest: &str, accept: &str, from: u64) -> Result<(String, Response<Incoming>)> {
        let mut first = None;
        for server in self.servers.iter().filter(|server| server.endpoint.pulls) {
            let url = self.url(server, place, digest);
            match self.ask(server, Method::GET, &url, accept, from).await {
                Ok(answer) => return Ok(answer),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        Err(first.unwrap_or_else(|| RegistryError::Content("no pull hosts: not found".to_owned())))
    }

    /// `https://registry/v2/repository/manifests/tag`; a mirror is told whose content it is.
    fn url(&self, server: &Server, place: &str, version: &str) -> String {
        let (base, registry) = (&server.endpoint.base, &self.reference.registry);
        let host = base.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
        let own = host == registry || (registry == "docker.io" && host == "registry-1.docker.io");
        let namespace = if own { String::new() } else { format!("?ns={registry}") };
        format!("{base}/{}/{place}/{version}{namespace}", self.reference.repository)
    }

    async fn whole(&self, url: &str, response: Response<Incoming>) -> Result<Bytes> {
        let failed = |source| RegistryError::Request(Unanswered::new(&Method::GET, url, source));
        let limited = http_body_util::Limited::new(response.into_body(), MAX_DOCUMENT_BYTES).collect();
        let read = self.world.timeout(PATIENCE, limited).await.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?;
        read.map(http_body_util::Collected::to_bytes).map_err(|error| failed(io::Error::other(error)))
    }

    /// Asks as often as the answers suggest; gives a good answer and where it came from.
    async fn ask(
        &self,
        server: &Server,
        method: Method,
        url: &str,
        accept: &str,
        from: u64,
    ) -> Result<(String, Response<Incoming>)> {
        let (mut method, mut last) = (method, StatusCode::OK);
        let mut left = MAX_RETRIES;
        loop {
            let ask = Ask { method: method.clone(), url, accept, from, authorization: None };
            let (reached, response) = self.follow(server, ask).await?;
            let status = response.status();
            if status.is_success() {
                return Ok((reached, response));
            }
            let again = left > 0
                && match status {
                    StatusCode::UNAUTHORIZED => self.authorize(server, response.headers(), last == status).await?,
                    // Registries that know no HEAD.
                    StatusCode::METHOD_NOT_ALLOWED if method == Method::HEAD => {
                        method = Method::GET;
                        true
                    }
                    StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => true,
                    StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT | StatusCode::INTERNAL_SERVER_ERROR => {
                        last != status
                    }
                    _ => false,
                };
            if !again {
                return Err(self.refused(method, reached, response).await);
            }
            (last, left) = (status, left - 1);
        }
    }

    async fn refused(&self, method: Method, url: String, response: Response<Incoming>) -> RegistryError {
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            return RegistryError::NotFound(url);
        }
        let message = self.whole(&url, response).await.map(|content| server_message(&content)).unwrap_or_default();
        RegistryError::Status { method, url, status, message }
    }

    /// One request, through redirects.
    async fn follow(&self, server: &Server, ask: Ask<'_>) -> Result<(String, Response<Incoming>)> {
        let mut target = ask.url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            // Credentials go to the registry alone, not to where it keeps its blobs.
            let own = origin(&target) == origin(&server.endpoint.base);
            let authorization = if own { server.authorization.lock().await.clone() } else { None };
            let response = request::send(&self.world, &server.tls, &Ask { url: &target, authorization, ..ask.clone() }).await?;
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            match location.filter(|_| response.status().is_redirection()) {
                Some(path) if path.starts_with('/') => target = format!("{}{path}", origin(&target)),
                Some(url) => url.clone_into(&mut target),
                None => return Ok((target, response)),
            }
        }
        let source = io::Error::other(format!("stopped after {MAX_REDIRECTS} redirects"));
        Err(Unanswered::new(&ask.method, ask.url, source).into())
    }

    /// Answers a challenge; says whether another attempt is worthwhile. `again`: the last answer was one already.
    async fn authorize(&self, server: &Server, headers: &HeaderMap, again: bool) -> Result<bool> {
        let basic = authorization::basic(self.auth.as_ref());
        let (realm, service, scope) = match Challenge::of(headers) {
            None => return Ok(false),
            Some(Challenge::Basic) => {
                let basic =
                    basic.ok_or_else(|| RegistryError::Denied("authorization failed: no basic auth credentials".to_owned()))?;
                *server.authorization.lock().await = Some(basic);
                return Ok(!again);
            }
            Some(Challenge::Bearer { error: Some(error), .. }) if again => {
                return Err(RegistryError::Denied(format!("server message: {error}: authorization failed")));
            }
            Some(Challenge::Bearer { .. }) if again => return Ok(false),
            Some(Challenge::Bearer { realm, service, scope, .. }) => (realm, service, scope),
        };
        let kind = if basic.is_some() { "oauth" } else { "anonymous" };
        let failed = |why: String| RegistryError::Token { kind, why };
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.reference.repository));
        let url = authorization::token_url(&realm, service.as_deref(), &scope);
        let ask = Ask { method: Method::GET, url: &url, accept: "*/*", from: 0, authorization: basic };
        let response = request::send(&self.world, &server.tls, &ask).await.map_err(|error| failed(error.to_string()))?;
        if !response.status().is_success() {
            return Err(failed(self.refused_token(url, response).await));
        }
        let content = self.whole(&url, response).await?;
        let token = authorization::token(&content).map_err(failed)?;
        *server.authorization.lock().await = Some(format!("Bearer {token}"));
        Ok(true)
    }

    async fn refused_token(&self, url: String, response: Response<Incoming>) -> String {
        let status = response.status();
        let message = self.whole(&url, response).await.map(|content| server_message(&content)).unwrap_or_default();
        RegistryError::Status { method: Method::GET, url, status, message }.to_string()
    }
}

/// An answer that broke off.
pub fn unanswered(method: &Method, url: &str, source: io::Error) -> RegistryError {
    Unanswered::new(method, url, source).into()
}

/// What containerd says of content with another digest.
pub fn mismatch(kind: &str, got: &str, wanted: &str) -> String {
    format!("failed commit on ref \"{kind}-{wanted}\": unexpected commit digest {got}, expected {wanted}: failed precondition")
}

/// The errors of a registry's answer, each after a line break: `toomanyrequests: You have reached …`.
fn server_message(content: &[u8]) -> String {
    let document: serde_json::Value = serde_json::from_slice(content).unwrap_or_default();
    let errors = document.get("errors").and_then(serde_json::Value::as_array);
    let text = |error: &serde_json::Value, name: &str| error.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    let lines = errors.into_iter().flatten().filter_map(|error| {
        let code = text(error, "code")?.to_lowercase().replace('_', " ");
        Some(text(error, "message").map_or_else(|| format!("\n{code}"), |message| format!("\n{code}: {message}")))
    });
    lines.collect()
}

/// Scheme and authority of a URL.
fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    &url[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_answers() {
        assert_eq!(origin("https://a.example:1/v2/x"), "https://a.example:1");
        let limit =
            br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your limit."},{"code":"MANIFEST_UNKNOWN"}]}"#;
        assert_eq!(server_message(limit), "\ntoomanyrequests: You have reached your limit.\nmanifest unknown");
        assert_eq!(server_message(b"<html>"), "");
    }
}
