//! Commands, attachments and forwarded ports over upgraded connections.
//!
//! Source: kubernetes pkg/kubelet/server/server.go (getExec, getAttach, getPortForward).

use std::sync::Arc;

use daruma_client::{Body, empty_body};
use daruma_streams::upgrade::{Agreement, Carrier, negotiate, upgraded, websocket};
use daruma_streams::{WebSocketBytes, channels, port_forward as forwarding, serve_process_over_spdy};
use daruma_world::containers::{ExecConfig, ExecSession};
use http::{Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;

use super::query::Query;
use super::text;
use crate::shared::Shared;
use crate::view::is_running;

/// Takes the connection over after the 101 answer.
fn take_over(request: &mut Request<Body>) -> Option<OnUpgrade> {
    request.extensions_mut().remove::<OnUpgrade>()
}

fn switch(agreement: &Agreement) -> Response<Body> {
    let mut response = Response::new(empty_body());
    agreement.write_head(&mut response);
    response
}

/// Runs a command in a container, or attaches to its main process.
pub(super) async fn command(
    shared: &Arc<Shared>,
    namespace: &str,
    pod: &str,
    container: &str,
    mut request: Request<Body>,
    attach: bool,
) -> Response<Body> {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let (stdin, tty) = (flag(&query, "stdin", "input"), query.is_true("tty"));
    let (stdout, stderr) = (flag(&query, "stdout", "output"), flag(&query, "stderr", "error"));
    if !stdin && !stdout && !stderr {
        return text(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr");
    }
    if tty && stderr {
        return text(StatusCode::BAD_REQUEST, "tty and stderr cannot both be true");
    }
    let Some(cell) = shared.pods.by_name(namespace, pod) else {
        return text(StatusCode::NOT_FOUND, format!("pod does not exist: {pod}"));
    };
    let view = crate::worker::look::look(shared, &cell).await;
    let Some(id) = view.latest(container).filter(|seen| is_running(seen)).map(|seen| seen.id.clone()) else {
        return text(StatusCode::NOT_FOUND, format!("container not found ({container:?})"));
    };
    let agreement = match negotiate(request.headers(), channels::PROTOCOLS) {
        Ok(agreement) => agreement,
        Err(error) => return text(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let Some(on_upgrade) = take_over(&mut request) else {
        return text(StatusCode::BAD_REQUEST, "unable to upgrade: the connection does not support it");
    };
    let response = switch(&agreement);
    let command = query.all("command");
    let runtime = shared.runtime.clone();
    let start = async move {
        let result = if attach {
            runtime.attach(&id, stdin, tty).await
        } else {
            runtime.exec(&id, ExecConfig { command, tty, stdin }).await
        };
        match result {
            Ok(mut session) => {
                if !stdin {
                    session.stdin = None;
                }
                if attach {
                    // How the main process ends is the pod's status; the attachment itself went well.
                    let ended = session.exit_code;
                    session.exit_code = Box::pin(async move { ended.await.map(|_| 0) });
                }
                session
            }
            Err(error) => failed_session(error),
        }
    };
    let world = shared.world.clone();
    shared.world.spawn("command", async move {
        let Ok(stream) = upgraded(on_upgrade).await else { return };
        match agreement.carrier {
            Carrier::WebSocket => channels::serve_process(websocket(stream).await, start.await).await,
            Carrier::Spdy => {
                let wanted = [("error", true), ("stdin", stdin), ("stdout", stdout), ("stderr", stderr), ("resize", tty)];
                let expected: Vec<&str> = wanted.iter().filter(|(_, wanted)| *wanted).map(|(kind, _)| *kind).collect();
                serve_process_over_spdy(&world, stream, &expected, start).await;
            }
        }
    });
    response
}

/// Both spellings that clients use (`stdin` of the API, `input` of the kubelet).
fn flag(query: &Query, name: &str, old_name: &str) -> bool {
    query.is_true(name) || query.is_true(old_name)
}

/// A process that ended before it began.
fn failed_session(error: daruma_world::containers::ContainerError) -> ExecSession {
    let (_, stdout) = tokio::sync::mpsc::channel(1);
    let (_, stderr) = tokio::sync::mpsc::channel(1);
    let (resize, _) = tokio::sync::mpsc::channel(1);
    ExecSession { stdin: None, stdout, stderr, resize, exit_code: Box::pin(async move { Err(error) }) }
}

/// Forwards ports of a pod.
pub(super) async fn port_forward(shared: &Arc<Shared>, namespace: &str, pod: &str, mut request: Request<Body>) -> Response<Body> {
    let Some(cell) = shared.pods.by_name(namespace, pod) else {
        return text(StatusCode::NOT_FOUND, format!("pod does not exist: {pod}"));
    };
    let view = crate::worker::look::look(shared, &cell).await;
    let Some(sandbox_id) = view.ready_sandbox().map(|sandbox| sandbox.id.clone()) else {
        return text(StatusCode::BAD_REQUEST, format!("pod not found ({pod:?})"));
    };
    let supported = [forwarding::WEBSOCKET_PROTOCOL, forwarding::SPDY_PROTOCOL];
    let agreement = match negotiate(request.headers(), &supported) {
        Ok(agreement) => agreement,
        Err(error) => return text(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let Some(on_upgrade) = take_over(&mut request) else {
        return text(StatusCode::BAD_REQUEST, "unable to upgrade: the connection does not support it");
    };
    let response = switch(&agreement);
    let (world, runtime) = (shared.world.clone(), shared.runtime.clone());
    let connect: forwarding::Connect = Arc::new(move |port| {
        let connection = runtime.port_forward(&sandbox_id, port);
        Box::pin(async move { connection.await.map_err(|error| error.to_string()) })
    });
    shared.world.spawn("port-forward", async move {
        let Ok(stream) = upgraded(on_upgrade).await else { return };
        match agreement.carrier {
            Carrier::WebSocket => forwarding::serve(&world, WebSocketBytes::new(websocket(stream).await), connect).await,
            Carrier::Spdy => forwarding::serve(&world, stream, connect).await,
        }
    });
    response
}
