//! Asking a gRPC server for its health.
//!
//! Source: kubernetes pkg/probe/grpc/grpc.go; the protocol is grpc.health.v1.Health/Check over HTTP/2 without TLS.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use daruma_world::World;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use super::check::connect;
use crate::text::go_duration;

/// Between two attempts to connect; a server that refuses is tried until the probe's time is over (`grpc.WithBlock`).
const RECONNECT: Duration = Duration::from_millis(100);
/// Names of the codes (google.golang.org/grpc/codes), by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
const UNKNOWN: usize = 2;
const UNIMPLEMENTED: usize = 12;
/// What a server can say of itself, by number.
const STATES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const SERVING: usize = 1;

/// Spawns what HTTP/2 needs beside the connection.
#[derive(Clone)]
struct OnWorld(World);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for OnWorld {
    fn execute(&self, future: F) {
        self.0.spawn("probe connection", future);
    }
}

/// Asks once within `limit`; the error is the probe's output.
pub(super) async fn ask(world: &World, host: &str, port: u16, service: &str, limit: Duration) -> Result<(), String> {
    let started = world.monotonic();
    let connected = async {
        loop {
            match connect(world, host, port).await {
                Ok(stream) => return stream,
                Err(_) => world.sleep(RECONNECT).await,
            }
        }
    };
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let time = go_duration(limit);
    let Ok(stream) = world.timeout(limit, connected).await else {
        return Err(format!("timeout: failed to connect service {address:?} within {time}: context deadline exceeded"));
    };
    let rest = limit.saturating_sub(world.monotonic().saturating_sub(started));
    let late = || Err(format!("timeout: health rpc did not complete within {time}"));
    match world.timeout(rest, check(world, stream, &address, service)).await {
        Err(_) => late(),
        Ok(Ok(SERVING)) => Ok(()),
        Ok(Ok(state)) => Err(format!("service unhealthy (responded with {:?})", STATES.get(state).unwrap_or(&"UNKNOWN"))),
        Ok(Err((UNIMPLEMENTED, message))) => {
            Err(format!("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"))
        }
        Ok(Err((code, message))) => {
            let code = CODES.get(code).unwrap_or(&CODES[UNKNOWN]);
            Err(format!("error: health rpc probe failed: rpc error: code = {code} desc = {message}"))
        }
    }
}

/// The state that the server gives, or its error: code and message.
async fn check<S>(world: &World, stream: S, address: &str, service: &str) -> Result<usize, (usize, String)>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: &dyn std::error::Error| (UNKNOWN, error.to_string());
    let handshake = hyper::client::conn::http2::handshake(OnWorld(world.clone()), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|error| failed(&error))?;
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.36")
        .body(Full::new(encode(service)))
        .map_err(|error| failed(&error))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
        read(response).await
    };
    tokio::pin!(connection, answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    }
}

async fn read(response: Response<Incoming>) -> Result<usize, (usize, String)> {
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        return Err((UNKNOWN, format!("unexpected HTTP status code received from server: {}", head.status)));
    }
    // Errors may come with the head alone.
    failure(&head.headers)?;
    let body = body.collect().await.map_err(|error| (UNKNOWN, error.to_string()))?;
    if let Some(trailers) = body.trailers() {
        failure(trailers)?;
    }
    Ok(decode(&body.to_bytes()))
}

fn failure(headers: &HeaderMap) -> Result<(), (usize, String)> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status").map(|code| code.parse().unwrap_or(UNKNOWN)) {
        None | Some(0) => Ok(()),
        Some(code) => Err((code, text("grpc-message").unwrap_or_default().to_owned())),
    }
}

/// `HealthCheckRequest{service = 1}` behind the head of a message: not compressed, its length.
fn encode(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut len = service.len();
        while len > 0x7f {
            message.put_u8((len & 0x7f) as u8 | 0x80);
            len >>= 7;
        }
        message.put_u8(len as u8);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or_default());
    framed.put_slice(&message);
    framed.freeze()
}

/// `HealthCheckResponse{status = 1}`; `UNKNOWN` where it is left out.
fn decode(body: &[u8]) -> usize {
    match body.get(5..) {
        Some([0x08, state, ..]) => usize::from(*state),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::SocketAddr;

    use hyper::service::service_fn;

    use super::*;

    /// A server that gives one answer to everything.
    async fn serve(world: World, at: SocketAddr, status: &'static str, state: u8) {
        let mut listener = world.net.listen(at).await.expect("listens");
        let serving = world.clone();
        world.spawn("server", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service_fn(move |request: Request<Incoming>| async move {
                    let asked = request.into_body().collect().await.expect("a body").to_bytes();
                    assert_eq!(&asked[..], b"\0\0\0\0\x03\x0a\x01s");
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", status.parse().expect("valid"));
                    trailers.insert("grpc-message", "unknown service".parse().expect("valid"));
                    let body = Full::new(Bytes::from(vec![0, 0, 0, 0, 2, 0x08, state]));
                    let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
                    Ok::<_, Infallible>(Response::builder().header("content-type", "application/grpc").body(body).expect("valid"))
                });
                let connection = hyper::server::conn::http2::Builder::new(OnWorld(serving.clone()));
                let connection = connection.serve_connection(TokioIo::new(stream), service);
                serving.spawn("connection", async move { drop(connection.await) });
            }
        });
    }

    #[test]
    fn answers() {
        daruma_sim::run(1, |world| async move {
            let table = [
                ("0", 1, Ok(())),
                ("0", 2, Err("service unhealthy (responded with \"NOT_SERVING\")")),
                ("5", 0, Err("error: health rpc probe failed: rpc error: code = NotFound desc = unknown service")),
                (
                    "12",
                    0,
                    Err(
                        "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown service",
                    ),
                ),
            ];
            for (port, (status, state, expected)) in (5001..).zip(table) {
                serve(world.clone(), SocketAddr::new([127, 0, 0, 1].into(), port), status, state).await;
                let answer = ask(&world, "127.0.0.1", port, "s", Duration::from_secs(1)).await;
                assert_eq!(answer.as_ref().map_err(String::as_str), expected.as_ref().map_err(|text| *text), "{status} {state}");
            }
            let refused = ask(&world, "127.0.0.1", 5000, "s", Duration::from_secs(1)).await;
            let expected = "timeout: failed to connect service \"127.0.0.1:5000\" within 1s: context deadline exceeded";
            assert_eq!(refused, Err(expected.to_owned()));
            assert_eq!(world.monotonic().as_secs(), 1);
        });
    }
}
