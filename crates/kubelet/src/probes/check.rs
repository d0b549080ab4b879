//! Asking: http, tcp, exec, and (in `grpc`) gRPC.
//!
//! Source: kubernetes pkg/probe/{http,tcp,exec}.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daruma_api::IntOrString;
use daruma_api::core::v1::{Container as Spec, Probe};
use daruma_world::World;
use daruma_world::net::Stream;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;

use crate::shared::Shared;

/// Longest body that is looked at.
const BODY_BYTES: usize = 10 * 1024;
/// Longest output in an event.
const OUTPUT_BYTES: usize = 10 * 1024;

/// What an HTTP probe asks.
#[derive(Debug, Clone)]
pub struct HttpTarget {
    /// With TLS, whose certificate is not looked at.
    pub https: bool,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// User agent where the headers name none.
    pub user_agent: String,
}

/// The number of a port, by number or by name.
pub fn port_number(spec: &Spec, port: &IntOrString) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok().filter(|port| *port > 0),
        IntOrString::String(name) => {
            let named = spec.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name));
            named.and_then(|port| u16::try_from(port.container_port).ok()).or_else(|| name.parse().ok())
        }
    }
}

/// Asks once. Outer error: no result; inner error: unhealthy, with the output.
pub(super) async fn check(
    shared: &Arc<Shared>,
    spec: &Spec,
    probe: &Probe,
    container_id: &str,
    pod_ip: &str,
) -> Result<Result<(), String>, String> {
    let limit = Duration::from_secs(probe.timeout_seconds.unwrap_or(1).max(1) as u64);
    let world = &shared.world;
    if let Some(exec) = &probe.exec {
        let command = exec.command.clone().unwrap_or_default();
        let answer = shared.runtime.exec_sync(container_id, command.clone(), limit).await.map_err(|error| error.to_string())?;
        let Some(output) = answer else {
            return Ok(Err(format!("command timed out: {:?} timed out after {}s", command.join(" "), limit.as_secs())));
        };
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        return Ok(if output.exit_code == 0 { Ok(()) } else { Err(text.chars().take(OUTPUT_BYTES).collect()) });
    }
    if let Some(get) = &probe.http_get {
        let port = port_number(spec, &get.port).ok_or_else(|| format!("invalid port number: {:?}", get.port))?;
        let target = HttpTarget {
            https: get.scheme.as_deref() == Some("HTTPS"),
            host: get.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| pod_ip.to_owned()),
            port,
            path: get.path.clone().unwrap_or_else(|| "/".into()),
            headers: get.http_headers.iter().flatten().map(|header| (header.name.clone(), header.value.clone())).collect(),
            user_agent: "kube-probe/1.36".into(),
        };
        let url = url(&target);
        return Ok(match world.timeout(limit, Box::pin(http_get(shared, &target))).await {
            Err(_) => Err(format!("Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)")),
            Ok(Err(error)) => Err(format!("Get {url:?}: {error}")),
            Ok(Ok((status, _))) if (200..400).contains(&status) => Ok(()),
            Ok(Ok((status, _))) => Err(format!("HTTP probe failed with statuscode: {status}")),
        });
    }
    if let Some(tcp) = &probe.tcp_socket {
        let port = port_number(spec, &tcp.port).ok_or_else(|| format!("invalid port number: {:?}", tcp.port))?;
        let host = tcp.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| pod_ip.to_owned());
        return Ok(match world.timeout(limit, connect(world, &host, port)).await {
            Err(_) => Err(format!("dial tcp {host}:{port}: i/o timeout")),
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) => Ok(()),
        });
    }
    if let Some(grpc) = &probe.grpc {
        let port = u16::try_from(grpc.port).map_err(|_| format!("invalid port number: {}", grpc.port))?;
        let service = grpc.service.as_deref().unwrap_or_default();
        return Ok(Box::pin(super::grpc::ask(world, pod_ip, port, service, limit)).await);
    }
    Err("missing probe handler".into())
}

fn url(target: &HttpTarget) -> String {
    let scheme = if target.https { "https" } else { "http" };
    let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
    let slash = if target.path.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{host}:{}{slash}{}", target.port, target.path)
}

/// Connects to an address, or to one that a name has by way of the node's hosts file (`localhost`).
pub(super) async fn connect(world: &World, host: &str, port: u16) -> Result<Box<dyn Stream>, String> {
    let address: IpAddr = match host {
        "localhost" => IpAddr::from([127, 0, 0, 1]),
        host => host.parse().map_err(|_| format!("dial tcp: lookup {host}: no such host"))?,
    };
    let failed = |error: std::io::Error| {
        let why = match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            _ => error.to_string(),
        };
        format!("dial tcp {host}:{port}: connect: {why}")
    };
    world.net.connect(SocketAddr::new(address, port)).await.map_err(failed)
}

/// Status and the beginning of the body. Redirects are answers.
pub async fn http_get(shared: &Shared, target: &HttpTarget) -> Result<(u16, Bytes), String> {
    let stream = connect(&shared.world, &target.host, target.port).await?;
    if !target.https || !shared.config.tls_probes {
        return exchange(stream, target).await;
    }
    let stream = crate::tls::connect_unverified(stream, &target.host).await.map_err(|error| error.to_string())?;
    exchange(stream, target).await
}

async fn exchange<S>(stream: S, target: &HttpTarget) -> Result<(u16, Bytes), String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let uri: Uri = url(target).parse().map_err(|error| format!("invalid URL: {error}"))?;
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut request = Request::builder().uri(path);
    let named = |name: &str| target.headers.iter().any(|(header, _)| header.eq_ignore_ascii_case(name));
    if !named("host") {
        request = request.header("Host", uri.authority().map(ToString::to_string).unwrap_or_default());
    }
    if !named("user-agent") {
        request = request.header("User-Agent", &target.user_agent);
    }
    if !named("accept") {
        request = request.header("Accept", "*/*");
    }
    for (name, value) in &target.headers {
        request = request.header(name, value);
    }
    let request = request.header("Connection", "close").body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| if error.is_incomplete_message() { "EOF".to_owned() } else { error.to_string() })?;
        let status = response.status().as_u16();
        // A longer body is cut off; only the status counts.
        let body = Limited::new(response.into_body(), BODY_BYTES).collect().await;
        Ok((status, body.map(http_body_util::Collected::to_bytes).unwrap_or_default()))
    };
    tokio::pin!(connection, answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    }
}
