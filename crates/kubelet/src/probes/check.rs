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

pub use super::http::HttpTarget;
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
            host: get.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(pod_ip),
            port,
            path: get.path.as_deref().unwrap_or("/"),
            headers: get.http_headers.as_deref().unwrap_or_default(),
            user_agent: "kube-probe/1.36",
        };
        let failed = |why: String| Err(format!("Get {:?}: {why}", target.url()));
        return Ok(match world.timeout(limit, Box::pin(http_get(shared, &target))).await {
            Err(_) => failed("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned()),
            Ok(Err(error)) => failed(error),
            Ok(Ok(status)) if (200..400).contains(&status) => Ok(()),
            Ok(Ok(status)) => Err(format!("HTTP probe failed with statuscode: {status}")),
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

/// Asks, and gives the status of the answer. Redirects are answers.
pub async fn http_get(shared: &Shared, target: &HttpTarget<'_>) -> Result<u16, String> {
    let stream = connect(&shared.world, target.host, target.port).await?;
    if !target.https || !shared.config.tls_probes {
        return super::http::get(stream, target).await;
    }
    let stream = crate::tls::connect_unverified(stream, target.host).await.map_err(|error| error.to_string())?;
    super::http::get(stream, target).await
}
