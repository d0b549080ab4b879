//! A registry for one image, `team/app:v1`: HTTP or HTTPS, tokens, an index, manifests, blobs by a redirect, and faults.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use super::image::{Published, TestImage};

/// How the registry behaves.
#[derive(Clone, Default)]
pub struct Rules {
    /// Certificate and key, both DER; plain HTTP without.
    pub tls: Option<(Vec<u8>, Vec<u8>)>,
    /// Name and password of who may pull; anybody where `None`.
    pub user: Option<(&'static str, &'static str)>,
    /// Asks for name and password with each request instead of tokens.
    pub basic: bool,
    /// Flips a bit in each layer.
    pub corrupt: bool,
    /// So many downloads of blobs break off after half of what is left.
    pub breaks: u32,
    /// Can begin a blob in the middle.
    pub ranges: bool,
    /// So many requests of manifests are answered with 503 first.
    pub busy: u32,
    /// Knows no HEAD.
    pub no_head: bool,
    /// Does not tell the digest of a manifest.
    pub no_digest: bool,
}

/// A registry that runs until the end of its runtime.
pub struct Registry {
    pub address: SocketAddr,
    /// Method, path and status of each request so far.
    log: Arc<Mutex<Vec<String>>>,
}

struct State {
    address: SocketAddr,
    rules: Mutex<Rules>,
    content: Published,
    log: Arc<Mutex<Vec<String>>>,
}

struct Answer {
    status: &'static str,
    headers: String,
    body: Vec<u8>,
    /// Sends less than it says.
    breaks: bool,
}

impl Answer {
    fn new(status: &'static str) -> Self {
        Self { status, headers: String::new(), body: Vec::new(), breaks: false }
    }
    fn ok(body: &[u8]) -> Self {
        Self { body: body.to_vec(), ..Self::new("200 OK") }
    }
    fn with(mut self, header: &str) -> Self {
        self.headers += &format!("{header}\r\n");
        self
    }
}

impl Registry {
    /// Serves the image at `address`, on any port.
    pub async fn serve(address: IpAddr, image: &TestImage, rules: Rules) -> Self {
        Self::serve_published(address, image.publish("x"), rules).await
    }

    /// The same of what was published already.
    pub async fn serve_published(address: IpAddr, content: Published, rules: Rules) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let (address, log) = (listener.local_addr().unwrap(), Arc::default());
        let acceptor = rules.tls.as_ref().map(|(certificate, key)| acceptor(certificate, key));
        let state = Arc::new(State { address, rules: Mutex::new(rules), content, log: Arc::clone(&log) });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, acceptor) = (state.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                answer(stream, &state).await;
                            }
                        }
                        None => answer(stream, &state).await,
                    }
                });
            }
        });
        Self { address, log }
    }

    /// What was asked since the last look: `GET token 200`; digests and the repository's path are left out.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

fn acceptor(certificate: &[u8], key: &[u8]) -> tokio_rustls::TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.to_vec()));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(certificate.to_vec())], key)
        .unwrap();
    Arc::new(config).into()
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: &State) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0u8];
        if stream.read_exact(&mut byte).await.is_err() {
            return;
        }
        head.push(byte[0]);
        if !head[0].is_ascii_alphabetic() {
            // No HTTP: a TLS handshake, say.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
            return;
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.clone().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let answer = state.decide(&method, &path, header("authorization").as_deref(), header("range").as_deref());
    let place = path.split(['?']).next().unwrap();
    let place = place.strip_prefix("/v2/team/app/").unwrap_or(place.trim_start_matches('/'));
    let place = place.split("sha256:").next().unwrap().trim_end_matches('/');
    let status = answer.status.split(' ').next().unwrap();
    state.log.lock().unwrap().push(format!("{method} {place} {status}"));
    let length = answer.body.len();
    let text = format!("HTTP/1.1 {}\r\n{}Content-Length: {length}\r\nConnection: close\r\n\r\n", answer.status, answer.headers);
    let _ = stream.write_all(text.as_bytes()).await;
    if method != "HEAD" {
        let sent = if answer.breaks { length / 2 } else { length };
        let _ = stream.write_all(&answer.body[..sent]).await;
    }
    let _ = stream.shutdown().await;
}

impl State {
    fn decide(&self, method: &str, path: &str, authorization: Option<&str>, range: Option<&str>) -> Answer {
        let mut rules = self.rules.lock().unwrap();
        if path.starts_with("/token?") {
            assert!(path.contains("scope=repository%3Ateam%2Fapp%3Apull&service=test"), "{path}");
            return Self::token(&rules, authorization);
        }
        if let Some(digest) = path.split('?').next().and_then(|path| path.strip_prefix("/elsewhere/")) {
            // Where blobs are nobody may see the registry's tokens; here it is the same server, so they come along.
            return self.blob(&mut rules, digest, range);
        }
        let Some(path) = path.strip_prefix("/v2/team/app/") else { return Answer::new("404 Not Found") };
        if let Some(refused) = self.refuse(&rules, authorization) {
            return refused;
        }
        if let Some(digest) = path.strip_prefix("blobs/") {
            return Answer::new("307 Temporary Redirect").with(&format!("Location: /elsewhere/{digest}"));
        }
        if rules.no_head && method == "HEAD" {
            return Answer::new("405 Method Not Allowed");
        }
        if rules.busy > 0 {
            rules.busy -= 1;
            return Answer::new("503 Service Unavailable");
        }
        let version = path.strip_prefix("manifests/").unwrap_or_default().split('?').next().unwrap();
        let index = daruma_runtime::images::manifest::digest(&self.content.index);
        let content =
            if version == "v1" || version == index { Some(&self.content.index) } else { self.content.blobs.get(version) };
        match content {
            Some(content) if rules.no_digest => Answer::ok(content),
            Some(content) => {
                let digest = daruma_runtime::images::manifest::digest(content);
                Answer::ok(content).with(&format!("Docker-Content-Digest: {digest}"))
            }
            None => {
                let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
                Answer { body: body.to_vec(), ..Answer::new("404 Not Found") }
            }
        }
    }

    /// As the Distribution registry's token servers: nobody gets a token, too, but it opens only what is public.
    fn token(rules: &Rules, authorization: Option<&str>) -> Answer {
        match (authorization, rules.user) {
            (None, _) => Answer::ok(br#"{"token":"nobody"}"#),
            (Some(shown), Some(user)) if shown == basic(user) => Answer::ok(br#"{"access_token":"somebody"}"#),
            _ => Answer {
                body: br#"{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}"#.to_vec(),
                ..Answer::new("401 Unauthorized")
            },
        }
    }

    fn refuse(&self, rules: &Rules, authorization: Option<&str>) -> Option<Answer> {
        if let (true, Some(user)) = (rules.basic, rules.user) {
            let refused = Answer::new("401 Unauthorized").with("WWW-Authenticate: Basic realm=\"test\"");
            return (authorization != Some(&basic(user))).then_some(refused);
        }
        let wanted = if rules.user.is_some() { "Bearer somebody" } else { "Bearer nobody" };
        if authorization == Some(wanted) {
            return None;
        }
        let scheme = if rules.tls.is_some() { "https" } else { "http" };
        let error = if authorization.is_some() { ",error=\"insufficient_scope\"" } else { "" };
        let challenge = format!(
            "WWW-Authenticate: Bearer realm=\"{scheme}://{}/token\",service=\"test\",scope=\"repository:team/app:pull\"{error}",
            self.address
        );
        Some(Answer::new("401 Unauthorized").with(&challenge))
    }

    fn blob(&self, rules: &mut Rules, digest: &str, range: Option<&str>) -> Answer {
        let mut content = self.content.blobs[digest].clone();
        let is_layer = !content.starts_with(b"{");
        if rules.corrupt && is_layer {
            content[20] ^= 1;
        }
        let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let mut answer = match from.filter(|_| rules.ranges) {
            Some(from) => {
                let all = content.len();
                let header = format!("Content-Range: bytes {from}-{}/{all}", all - 1);
                Answer { body: content.split_off(from), ..Answer::new("206 Partial Content") }.with(&header)
            }
            None => Answer::ok(&content),
        };
        if rules.breaks > 0 && is_layer {
            rules.breaks -= 1;
            answer.breaks = true;
        }
        answer
    }
}

fn basic((user, password): (&str, &str)) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}
