//! Asking: tcp, exec, and (in `http` and `grpc`) HTTP and gRPC.
//!
//! Source: kubernetes pkg/probe/{http,tcp,exec}.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use daruma_api::IntOrString;
use daruma_api::core::v1::{Container as Spec, Probe};
use daruma_world::World;
use daruma_world::net::Stream;

use super::http::Answer;
pub use super::http::HttpTarget;
use super::redirect::Way;
use crate::env::expand;
use crate::shared::Shared;

/// Longest output in an event.
const OUTPUT_BYTES: usize = 10 * 1024;

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

/// What a probe found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Healthy,
    /// Healthy, and something that somebody should know.
    Warning(String),
    /// With the output.
    Unhealthy(String),
}

/// Why there is no result.
#[derive(Debug)]
pub(super) struct NoResult {
    /// How the probe counts all the same.
    pub(super) state: &'static str,
    pub(super) why: String,
}

impl From<String> for NoResult {
    fn from(why: String) -> Self {
        Self { state: "unknown", why }
    }
}

impl From<Result<(), String>> for Found {
    fn from(asked: Result<(), String>) -> Self {
        asked.map_or_else(Self::Unhealthy, |()| Self::Healthy)
    }
}

/// Asks once. An error: there is no result.
pub(super) async fn check(
    shared: &Arc<Shared>,
    spec: &Spec,
    probe: &Probe,
    container_id: &str,
    pod_ip: &str,
) -> Result<Found, NoResult> {
    let limit = Duration::from_secs(probe.timeout_seconds.unwrap_or(1).max(1) as u64);
    let world = &shared.world;
    if let Some(exec) = &probe.exec {
        // What the container's own variables say as they stand, and not what they refer to.
        let variables: Vec<_> =
            spec.env.iter().flatten().map(|one| (one.name.clone(), one.value.clone().unwrap_or_default())).collect();
        let command: Vec<_> = exec.command.iter().flatten().map(|argument| expand::expand_with(argument, &variables)).collect();
        let answer = shared.runtime.exec_sync(container_id, command.clone(), limit).await.map_err(|error| error.to_string())?;
        let Some(output) = answer else {
            let text = format!("command timed out: {:?} timed out after {}s", command.join(" "), limit.as_secs());
            return Ok(Found::Unhealthy(text));
        };
        let mut text = [output.stdout, output.stderr].concat();
        text.truncate(OUTPUT_BYTES);
        let is_healthy = output.exit_code == 0;
        return Ok(if is_healthy { Found::Healthy } else { Found::Unhealthy(String::from_utf8_lossy(&text).into_owned()) });
    }
    if let Some(get) = &probe.http_get {
        let port = port_number(spec, &get.port).ok_or_else(|| format!("invalid port number: {:?}", get.port))?;
        let target = HttpTarget {
            https: get.scheme.as_deref() == Some("HTTPS"),
            host: get.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(pod_ip),
            port,
            path: get.path.as_deref().unwrap_or("/"),
            headers: get.http_headers.as_deref().unwrap_or_default(),
            user_agent: "kube-probe/1.36",
        };
        return Box::pin(get_once(world, shared.config.tls_probes, &target, limit)).await;
    }
    if let Some(tcp) = &probe.tcp_socket {
        let port = port_number(spec, &tcp.port).ok_or_else(|| format!("invalid port number: {:?}", tcp.port))?;
        let host = tcp.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| pod_ip.to_owned());
        let connected = world.timeout(limit, connect(world, &host, port)).await;
        let connected = connected.unwrap_or_else(|_| Err(format!("dial tcp {host}:{port}: i/o timeout")));
        return Ok(connected.map(drop).into());
    }
    if let Some(grpc) = &probe.grpc {
        let port = u16::try_from(grpc.port).map_err(|_| format!("invalid port number: {}", grpc.port))?;
        let service = grpc.service.as_deref().unwrap_or_default();
        return Ok(Box::pin(super::grpc::ask(world, pod_ip, port, service, limit)).await.into());
    }
    Err("missing probe handler".to_owned().into())
}

async fn get_once(world: &World, with_tls: bool, target: &HttpTarget<'_>, limit: Duration) -> Result<Found, NoResult> {
    let until = world.monotonic() + limit;
    let answer = match http_get(world, with_tls, target, until).await {
        Ok(answer) => answer,
        Err(error) => return Ok(Found::Unhealthy(error)),
    };
    let status = answer.status;
    let left = until.saturating_sub(world.monotonic());
    let too_late = |_| Err("context deadline exceeded (Client.Timeout or context cancellation while reading body)".to_owned());
    let body = world.timeout(left, answer.body()).await.unwrap_or_else(too_late);
    let body = body.map_err(|why| NoResult { state: "failure", why })?;
    Ok(match status {
        200..300 => Found::Healthy,
        300..400 => Found::Warning(format!("Probe terminated redirects, Response body: {body}")),
        _ => Found::Unhealthy(format!("HTTP probe failed with statuscode: {status}")),
    })
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

/// Asks, and follows redirects to the same host; one that leads elsewhere is an answer. Without `with_tls` the virtual
/// world's servers are asked, which answer HTTPS as HTTP.
///
/// # Errors
/// No answer came until that moment of the monotonic clock: who was asked, and why not.
pub async fn http_get(world: &World, with_tls: bool, target: &HttpTarget<'_>, until: Duration) -> Result<Answer, String> {
    let ask = async |target: &HttpTarget<'_>| {
        let left = until.saturating_sub(world.monotonic());
        let asked = world.timeout(left, get(world, with_tls, target)).await;
        let too_late = |_| Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned());
        asked.unwrap_or_else(too_late).map_err(|why| failed(&target.url(), &why))
    };
    let mut answer = ask(target).await?;
    if answer.location.is_none() {
        return Ok(answer);
    }
    let mut way = Way::from(target).map_err(|why: String| failed(&target.url(), &why))?;
    while way.goes_on(&answer).map_err(|why: String| failed(way.last().as_str(), &why))? {
        let target = way.target().map_err(|why: String| failed(way.last().as_str(), &why))?;
        answer = ask(&target).await?;
    }
    Ok(answer)
}

fn failed(url: &str, why: &str) -> String {
    format!("Get {url:?}: {why}")
}

async fn get(world: &World, with_tls: bool, target: &HttpTarget<'_>) -> Result<Answer, String> {
    let stream = connect(world, target.host, target.port).await?;
    if !target.https || !with_tls {
        return super::http::get(stream, target).await;
    }
    let stream = crate::tls::connect_unverified(stream, target.host).await?;
    super::http::get(Box::new(stream), target).await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Asks a server that leads from `/` to `/second` and on to `/third`, from `/away` to another, and from `/circle` to itself.
    #[track_caller]
    fn check(path: &'static str, expected: Result<u16, &str>) {
        let asked = daruma_sim::run(1, |world| async move {
            let mut listener = world.net.listen(([127, 0, 0, 1], 8080).into()).await.expect("nobody else listens");
            let server = world.spawn("server", async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let mut request = vec![0; 1024];
                    let count = stream.read(&mut request).await.expect("it is asked");
                    let request = String::from_utf8_lossy(&request[..count]).into_owned();
                    let lead = |to: &str| format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
                    let answer = match request.split(' ').nth(1) {
                        Some("/") => lead("second"),
                        Some("/second") => lead("http://127.0.0.1:8080/third"),
                        Some("/third") if request.contains("Referer: http://127.0.0.1:8080/second\r\n") => {
                            "HTTP/1.1 204 No Content\r\n\r\n".to_owned()
                        }
                        Some("/away") => lead("http://127.0.0.2:8080/"),
                        Some("/circle") => lead("/circle"),
                        Some("/late") => return std::future::pending().await,
                        _ => "HTTP/1.1 404 Not Found\r\n\r\n".to_owned(),
                    };
                    stream.write_all(answer.as_bytes()).await.expect("somebody reads");
                }
            });
            let target =
                HttpTarget { https: false, host: "127.0.0.1", port: 8080, path, headers: &[], user_agent: "kube-probe/1.36" };
            let until = world.monotonic() + Duration::from_secs(1);
            let answer = http_get(&world, true, &target, until).await;
            server.abort();
            answer.map(|answer| answer.status)
        });
        assert_eq!(asked, expected.map_err(str::to_owned), "{path}");
    }

    #[test]
    fn redirects_are_followed_on_one_host() {
        check("/", Ok(204));
        check("/third", Ok(404));
        check("/away", Ok(302));
        check("/circle", Err("Get \"http://127.0.0.1:8080/circle\": stopped after 10 redirects"));
        let late =
            "Get \"http://127.0.0.1:8080/late\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
        check("/late", Err(late));
    }
}
