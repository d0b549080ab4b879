//! Port-forward: pairs of SPDY streams (data and error), each for one TCP connection.
//!
//! Source: kubernetes pkg/kubelet (cri-streaming portforward/httpstream.go), client-go
//! tools/portforward. Inside a WebSocket the same SPDY frames travel as binary messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_world::World;
use daruma_world::net::Stream;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::spdy::{IncomingStream, Session};

/// SPDY inside of a WebSocket.
pub const WEBSOCKET_PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";
/// Plain SPDY.
pub const SPDY_PROTOCOL: &str = "portforward.k8s.io";

/// Connects to a port of whatever is forwarded to; the error is fit for the client.
pub type Connect = Arc<dyn Fn(u16) -> BoxFuture<'static, Result<Box<dyn Stream>, String>> + Send + Sync>;

/// Serves one client until it leaves.
pub async fn serve<S>(world: &World, stream: S, connect: Connect)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (session, mut streams) = Session::new();
    let spdy = world.spawn("port-forward connection", session.run(stream)).abort_on_drop();
    let mut waiting: BTreeMap<String, IncomingStream> = BTreeMap::new();
    while let Some(stream) = streams.recv().await {
        let header = |name: &str| stream.headers.get(name).cloned().unwrap_or_default();
        // Older clients give no request id; streams then pair up by port.
        let request = format!("{}/{}", header("requestid"), header("port"));
        let Some(other) = waiting.remove(&request) else {
            waiting.insert(request, stream);
            continue;
        };
        let first_is_error = other.headers.get("streamtype").is_some_and(|kind| kind == "error");
        let (error, data) = if first_is_error { (other, stream) } else { (stream, other) };
        let connect = connect.clone();
        world.spawn("port-forward stream", forward(error, data, connect));
    }
    drop(spdy);
}

async fn forward(error: IncomingStream, data: IncomingStream, connect: Connect) {
    let port = data.headers.get("port").cloned().unwrap_or_default();
    let connected = match port.parse::<u16>() {
        Ok(port) => connect(port).await,
        Err(_) => Err(format!("unable to parse {port:?} as a port")),
    };
    match connected {
        Ok(connection) => {
            copy(connection, data).await;
            error.outgoing.finish().await;
        }
        Err(why) => {
            error.outgoing.send(format!("error forwarding port {port} to pod: {why}").as_bytes()).await;
            error.outgoing.finish().await;
            data.outgoing.finish().await;
        }
    }
}

async fn copy(connection: Box<dyn Stream>, data: IncomingStream) {
    let IncomingStream { mut incoming, outgoing, .. } = data;
    let (mut read, mut write) = tokio::io::split(connection);
    let up = async {
        while let Some(chunk) = incoming.recv().await {
            if write.write_all(&chunk).await.is_err() {
                return;
            }
        }
        // The peer may have closed already.
        let _ = write.shutdown().await;
    };
    let down = async {
        let mut buffer = vec![0; 32 * 1024];
        while let Ok(length) = read.read(&mut buffer).await {
            if length == 0 || !outgoing.send(&buffer[..length]).await {
                break;
            }
        }
        outgoing.finish().await;
    };
    // The server's end of the connection ends the pair, even while the client still could send.
    futures::pin_mut!(up, down);
    if let futures::future::Either::Left(((), down)) = futures::future::select(up, down).await {
        down.await;
    }
}
