//! A client of the OCI distribution protocol.
//!
//! It is our own because the binary is static: crate oci-client resolves names through the C
//! library and verifies certificates through a second TLS set-up.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use daruma_world::World;
use daruma_world::containers::RegistryAuth;
use daruma_world::net::Stream;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::sync::Mutex;

use super::dns;
use super::reference::Reference;

/// Time for a connection to be made, and for each answer to begin.
const PATIENCE: Duration = Duration::from_secs(30);
/// Hops from a registry to where its blobs are.
const MAX_REDIRECTS: usize = 5;
/// A larger document is no manifest (containerd: 4 MiB… of `MaxManifestSize`).
const MAX_DOCUMENT_BYTES: usize = 8 * 1024 * 1024;
/// Where certificate authorities are kept on the usual distributions.
const CA_FILES: [&str; 4] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];
/// What a manifest may be.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, */*;q=0.1";

/// Why a registry did not give something.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It is not there.
    #[error("not found")]
    NotFound,
    /// It may be there for others.
    #[error("pull access denied, repository does not exist or may require authorization: server message: {0}")]
    Denied(String),
    /// The request could not be made.
    #[error("failed to do request: {method} {url:?}: {source}")]
    Request {
        /// `Head`, `Get`.
        method: &'static str,
        /// What was asked for.
        url: String,
        /// What went wrong.
        source: io::Error,
    },
    /// An answer that the protocol does not have.
    #[error("unexpected status from GET request to {url}: {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The answer.
        status: StatusCode,
    },
    /// The content is not what was asked for.
    #[error("{0}")]
    Content(String),
}

type Result<T> = std::result::Result<T, RegistryError>;

/// A client for one repository.
pub struct Registry {
    world: World,
    base: String,
    reference: Reference,
    auth: Option<RegistryAuth>,
    tls: Option<Arc<rustls::ClientConfig>>,
    /// The `Authorization` header that was found to work.
    authorization: Mutex<Option<String>>,
}

fn authorities(file: Option<&Path>) -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    let environment = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
    let file = file
        .map(Path::to_owned)
        .or(environment)
        .or_else(|| CA_FILES.iter().map(Path::new).find(|path| path.exists()).map(Path::to_owned));
    if let Some(file) = file {
        for certificate in CertificateDer::pem_file_iter(file).into_iter().flatten().flatten() {
            // One that cannot be read does not spoil the others.
            let _ = roots.add(certificate);
        }
    }
    roots
}

/// Registries on this machine's loopback speak plain HTTP: containerd's default for localhost.
fn is_plain(registry: &str) -> bool {
    let host = if registry.starts_with('[') { registry.split(']').next() } else { registry.split(':').next() };
    let host = host.unwrap_or_default().trim_start_matches('[');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Registry {
    /// A client for the repository of `reference`.
    pub fn new(world: &World, reference: &Reference, auth: Option<RegistryAuth>, ca_file: Option<&Path>) -> Result<Self> {
        let plain = is_plain(&reference.registry);
        let host = if reference.registry == "docker.io" { "registry-1.docker.io" } else { &reference.registry };
        let base = format!("{}://{host}/v2/{}", if plain { "http" } else { "https" }, reference.repository);
        let tls = if plain {
            None
        } else {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|error| RegistryError::Content(format!("TLS: {error}")))?;
            Some(Arc::new(config.with_root_certificates(authorities(ca_file)).with_no_client_auth()))
        };
        Ok(Self { world: world.clone(), base, reference: reference.clone(), auth, tls, authorization: Mutex::new(None) })
    }

    /// A manifest or index by tag or digest, with its digest.
    pub async fn manifest(&self, version: &str) -> Result<(Bytes, String)> {
        let url = format!("{}/manifests/{version}", self.base);
        let response = self.get(&url, Some(MANIFEST_TYPES)).await?;
        let content = self.whole(&url, response).await?;
        let digest = super::manifest::digest(&content);
        if version.starts_with("sha256:") && version != digest {
            return Err(RegistryError::Content(format!("manifest has digest {digest}, expected {version}")));
        }
        Ok((content, digest))
    }

    /// A small blob, checked.
    pub async fn document(&self, digest: &str) -> Result<Bytes> {
        let (url, response) = self.blob(digest).await?;
        let content = self.whole(&url, response).await?;
        if super::manifest::digest(&content) != digest {
            return Err(RegistryError::Content(format!("blob {digest} has another digest")));
        }
        Ok(content)
    }

    /// The beginning of a blob's download; the caller checks its digest.
    pub async fn blob(&self, digest: &str) -> Result<(String, Response<Incoming>)> {
        let url = format!("{}/blobs/{digest}", self.base);
        let response = self.get(&url, None).await?;
        Ok((url, response))
    }

    async fn whole(&self, url: &str, response: Response<Incoming>) -> Result<Bytes> {
        let limited = http_body_util::Limited::new(response.into_body(), MAX_DOCUMENT_BYTES).collect();
        let read = self.world.timeout(PATIENCE, limited).await.map_err(|_| failed("Get", url, io::ErrorKind::TimedOut.into()))?;
        read.map(http_body_util::Collected::to_bytes).map_err(|error| failed("Get", url, io::Error::other(error)))
    }

    /// GET with authorization as the registry wants it, through its redirects.
    async fn get(&self, url: &str, accept: Option<&str>) -> Result<Response<Incoming>> {
        let mut target = url.to_owned();
        let mut asked_for_token = false;
        for _ in 0..=MAX_REDIRECTS + 1 {
            // Credentials go to the registry alone, not to where it keeps its blobs.
            let authorization =
                if origin(&target) == origin(&self.base) { self.authorization.lock().await.clone() } else { None };
            let response = self.send(&target, accept, authorization.as_deref()).await?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && !asked_for_token {
                asked_for_token = true;
                self.authorize(response.headers()).await?;
                continue;
            }
            if status.is_redirection()
                && let Some(location) = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok())
            {
                target = if location.starts_with('/') { format!("{}{location}", origin(&target)) } else { location.to_owned() };
                continue;
            }
            return match status {
                StatusCode::OK => Ok(response),
                StatusCode::NOT_FOUND => Err(RegistryError::NotFound),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    Err(RegistryError::Denied("insufficient_scope: authorization failed".to_owned()))
                }
                status => Err(RegistryError::Status { url: target, status }),
            };
        }
        Err(RegistryError::Content(format!("{url}: too many redirects")))
    }

    /// Answers a challenge: Basic with the credentials, Bearer with a token fetched for them.
    async fn authorize(&self, headers: &HeaderMap) -> Result<()> {
        let challenge = headers.get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let basic = self.auth.as_ref().filter(|auth| !auth.username.is_empty()).map(|auth| {
            let pair = format!("{}:{}", auth.username, auth.password);
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
        });
        let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            let basic = basic.ok_or_else(|| RegistryError::Denied("no basic auth credentials".to_owned()))?;
            *self.authorization.lock().await = Some(basic);
            return Ok(());
        }
        let parameters = parse_parameters(parameters);
        let Some(realm) = parameters.get("realm").filter(|_| scheme.eq_ignore_ascii_case("bearer")) else {
            return Err(RegistryError::Denied("the registry asks for an unknown kind of authorization".to_owned()));
        };
        let encode = |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let scope = parameters.get("scope").cloned().unwrap_or_else(|| format!("repository:{}:pull", self.reference.repository));
        let service = parameters.get("service").map(|service| format!("&service={}", encode(service))).unwrap_or_default();
        let joint = if realm.contains('?') { '&' } else { '?' };
        let url = format!("{realm}{joint}scope={}{service}", encode(&scope));
        let response = self.send(&url, None, basic.as_deref()).await?;
        if !response.status().is_success() {
            return Err(RegistryError::Denied(format!(
                "failed to fetch {} token: {}",
                if basic.is_some() { "oauth" } else { "anonymous" },
                response.status()
            )));
        }
        let content = self.whole(&url, response).await?;
        let answer: serde_json::Value =
            serde_json::from_slice(&content).map_err(|error| RegistryError::Content(format!("token: {error}")))?;
        let token = answer.get("token").or(answer.get("access_token")).and_then(serde_json::Value::as_str);
        let token = token.ok_or_else(|| RegistryError::Content("the token server sent no token".to_owned()))?;
        *self.authorization.lock().await = Some(format!("Bearer {token}"));
        Ok(())
    }

    async fn send(&self, url: &str, accept: Option<&str>, authorization: Option<&str>) -> Result<Response<Incoming>> {
        let answer = self.world.timeout(PATIENCE, self.send_now(url, accept, authorization)).await;
        answer
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")))
            .map_err(|error| failed("Get", url, error))
    }

    async fn send_now(&self, url: &str, accept: Option<&str>, authorization: Option<&str>) -> io::Result<Response<Incoming>> {
        let uri: Uri = url.parse().map_err(io::Error::other)?;
        let host = uri.host().ok_or_else(|| io::Error::other("the URL has no host"))?.to_owned();
        let secure = uri.scheme_str() == Some("https");
        let stream = self.connect(&host, uri.port_u16().unwrap_or(if secure { 443 } else { 80 })).await?;
        let stream: Box<dyn Stream> = match &self.tls {
            Some(tls) if secure => {
                let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)?;
                Box::new(tokio_rustls::TlsConnector::from(tls.clone()).connect(name, stream).await?)
            }
            None if secure => return Err(io::Error::other("a registry on loopback redirects to HTTPS")),
            _ => stream,
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        self.world.spawn("registry-connection", async move {
            // Its end reaches the reader of the body.
            let _ = connection.await;
        });
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let mut request = Request::get(path).header(header::HOST, authority).header(header::USER_AGENT, "daruma/0.1");
        if let Some(accept) = accept {
            request = request.header(header::ACCEPT, accept);
        }
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
        sender.send_request(request).await.map_err(io::Error::other)
    }

    async fn connect(&self, host: &str, port: u16) -> io::Result<Box<dyn Stream>> {
        let (name, id) = (host.to_owned(), self.world.random.next_u64() as u16);
        let addresses = self
            .world
            .blocking(move || dns::lookup(&name, id))
            .await
            .map_err(|error| io::Error::new(error.kind(), format!("dial tcp: {error}")))?;
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match self.world.net.connect((address, port).into()).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = io::Error::new(error.kind(), format!("dial tcp {address}:{port}: connect: {error}")),
            }
        }
        Err(last)
    }
}

fn failed(method: &'static str, url: &str, source: io::Error) -> RegistryError {
    RegistryError::Request { method, url: url.to_owned(), source }
}

/// Scheme and authority of a URL.
fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    &url[..end]
}

/// `a="b",c="d"`, where commas may stand inside quotes.
fn parse_parameters(text: &str) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    let mut rest = text.trim();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        parameters.insert(name.trim_matches([' ', ',']).to_ascii_lowercase(), value.to_owned());
        rest = after.trim_start_matches([',', ' ']);
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let parsed =
            parse_parameters(r#"realm="https://auth.example/token",service="registry",scope="repository:a/b:pull,push""#);
        assert_eq!(parsed["realm"], "https://auth.example/token");
        assert_eq!(parsed["scope"], "repository:a/b:pull,push");
    }

    #[test]
    fn plain_registries() {
        for (registry, plain) in
            [("localhost:5000", true), ("127.0.0.1:1", true), ("[::1]:5000", true), ("docker.io", false), ("10.0.0.1", false)]
        {
            assert_eq!(is_plain(registry), plain, "{registry}");
        }
        assert_eq!(origin("https://a.example:1/v2/x"), "https://a.example:1");
    }
}
