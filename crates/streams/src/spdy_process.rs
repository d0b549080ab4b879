//! A command's streams over plain SPDY, as clients before WebSocket use it: one SPDY stream for each.
//!
//! Source: kubernetes pkg/kubelet (cri-streaming remotecommand/httpstream.go), protocol v4.channel.k8s.io.

use std::collections::BTreeMap;
use std::time::Duration;

use daruma_world::World;
use daruma_world::containers::ExecSession;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::spdy::{IncomingStream, Session, StreamSender};
use crate::status;

/// How long a client may take to open its streams.
const STREAM_LIMIT: Duration = Duration::from_secs(30);

/// Waits for the streams named in `expected` (`error`, `stdin`, `stdout`, `stderr`, `resize`), then connects
/// the process that `start` gives with them until it ends.
pub async fn serve_process_over_spdy<S, F>(world: &World, stream: S, expected: &[&str], start: F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = ExecSession> + Send,
{
    let (connection, mut streams) = Session::new();
    let spdy = world.spawn("command connection", connection.run(stream)).abort_on_drop();
    let mut open: BTreeMap<String, IncomingStream> = BTreeMap::new();
    let gather = async {
        while !expected.iter().all(|kind| open.contains_key(*kind)) {
            let Some(stream) = streams.recv().await else { return false };
            let kind = stream.headers.get("streamtype").cloned().unwrap_or_default();
            open.insert(kind, stream);
        }
        true
    };
    if world.timeout(STREAM_LIMIT, gather).await != Ok(true) {
        return;
    }
    let session = start.await;
    let mut take = |kind: &str| open.remove(kind);
    let output = |stream: Option<IncomingStream>| stream.map(|stream| stream.outgoing);
    let (stdin, resize) = (take("stdin"), take("resize"));
    let (stdout, stderr, error) = (output(take("stdout")), output(take("stderr")), output(take("error")));
    let input = async {
        tokio::join!(feed_stdin(stdin, session.stdin), feed_sizes(resize, session.resize));
        // The process ends by itself; the client's silence does not end it.
        std::future::pending::<()>().await;
    };
    let work = async {
        tokio::join!(drain(session.stdout, stdout), drain(session.stderr, stderr));
        let result = session.exit_code.await;
        if let Some(error) = error {
            error.send(&status::of_result(&result)).await;
            error.finish().await;
        }
    };
    futures::pin_mut!(input, work);
    futures::future::select(work, input).await;
    // What is queued goes out before the connection ends.
    drop(streams);
    world.sleep(Duration::from_millis(50)).await;
    drop(spdy);
}

async fn feed_stdin(stream: Option<IncomingStream>, stdin: Option<mpsc::Sender<Vec<u8>>>) {
    let (Some(mut stream), Some(stdin)) = (stream, stdin) else { return };
    while let Some(data) = stream.incoming.recv().await {
        if stdin.send(data.to_vec()).await.is_err() {
            return;
        }
    }
}

async fn feed_sizes(stream: Option<IncomingStream>, sizes: mpsc::Sender<(u16, u16)>) {
    let Some(mut stream) = stream else { return };
    while let Some(data) = stream.incoming.recv().await {
        if let Some(size) = status::parse_size(&data)
            && sizes.send(size).await.is_err()
        {
            return;
        }
    }
}

async fn drain(mut from: mpsc::Receiver<Vec<u8>>, to: Option<StreamSender>) {
    while let Some(data) = from.recv().await {
        if let Some(to) = &to {
            to.send(&data).await;
        }
    }
    if let Some(to) = to {
        to.finish().await;
    }
}
