//! A command's streams in one WebSocket: the first byte of a message names the channel.
//!
//! Source: kubernetes apimachinery pkg/util/remotecommand/constants.go, client-go
//! tools/remotecommand/websocket.go (0 stdin, 1 stdout, 2 stderr, 3 status, 4 size; 255 closes a channel, v5 only).

use bytes::{BufMut, Bytes, BytesMut};
use daruma_world::containers::ExecSession;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::status;

/// The version with channel closing.
pub const V5: &str = "v5.channel.k8s.io";
/// The version before it.
pub const V4: &str = "v4.channel.k8s.io";
/// What [`serve_process`] speaks, best first.
pub const PROTOCOLS: &[&str] = &[V5, V4];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// What a client's message asks for.
#[derive(Debug, PartialEq, Eq)]
enum Input {
    Stdin(Vec<u8>),
    StdinEnd,
    Resize(u16, u16),
    Nothing,
}

fn understand(message: &[u8]) -> Input {
    match message.split_first() {
        Some((&STDIN, data)) => Input::Stdin(data.to_vec()),
        Some((&CLOSE, [STDIN])) => Input::StdinEnd,
        Some((&RESIZE, size)) => status::parse_size(size).map_or(Input::Nothing, |(width, height)| Input::Resize(width, height)),
        _ => Input::Nothing,
    }
}

fn framed(channel: u8, data: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(data.len() + 1);
    message.put_u8(channel);
    message.extend_from_slice(data);
    Message::Binary(message.freeze())
}

/// Connects a process with its client until the process ends or the client leaves. The status follows
/// the last output, then the socket is closed.
pub async fn serve_process<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>, session: ExecSession) {
    let ExecSession { mut stdin, mut stdout, mut stderr, resize, exit_code } = session;
    // Tells the client which channels there are, as the real server does; empty messages are ignored by it.
    for channel in [STDOUT, STDERR, STATUS] {
        if socket.feed(framed(channel, &[])).await.is_err() {
            return;
        }
    }
    if socket.flush().await.is_err() {
        return;
    }
    let (mut stdout_open, mut stderr_open) = (true, true);
    while stdout_open || stderr_open {
        tokio::select! {
            biased;
            chunk = stdout.recv(), if stdout_open => match chunk {
                Some(data) => if socket.send(framed(STDOUT, &data)).await.is_err() { return },
                None => stdout_open = false,
            },
            chunk = stderr.recv(), if stderr_open => match chunk {
                Some(data) => if socket.send(framed(STDERR, &data)).await.is_err() { return },
                None => stderr_open = false,
            },
            message = socket.next() => match message {
                Some(Ok(Message::Binary(data))) => match understand(&data) {
                    Input::Stdin(data) => {
                        // A process that closed its input no longer reads; its output goes on.
                        if let Some(sender) = &stdin && sender.send(data).await.is_err() {
                            stdin = None;
                        }
                    }
                    Input::StdinEnd => stdin = None,
                    Input::Resize(width, height) => drop(resize.send((width, height)).await),
                    Input::Nothing => {}
                },
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
        }
    }
    drop(stdin);
    let result = exit_code.await;
    if socket.send(framed(STATUS, &status::of_result(&result))).await.is_ok() {
        // The client may be gone by now.
        let _ = socket.close(Some(done())).await;
    }
}

/// Clients take an end without a code for a broken connection.
fn done() -> CloseFrame {
    CloseFrame { code: CloseCode::Normal, reason: "".into() }
}

/// The text of a message that ends a WebSocket session before it began.
pub async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>, status: Bytes) {
    if socket.send(framed(STATUS, &status)).await.is_ok() {
        // The client may be gone by now.
        let _ = socket.close(Some(done())).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::sync::mpsc;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    #[test]
    fn messages() {
        assert_eq!(understand(&[0, b'a']), Input::Stdin(vec![b'a']));
        assert_eq!(understand(&[255, 0]), Input::StdinEnd);
        assert_eq!(understand(b"\x04{\"Width\":80,\"Height\":24}"), Input::Resize(80, 24));
        assert_eq!(understand(&[4, b'x']), Input::Nothing);
        assert_eq!(understand(&[]), Input::Nothing);
    }

    #[tokio::test]
    async fn a_session() {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (stdin_sender, mut stdin) = mpsc::channel(4);
        let (stdout_sender, stdout) = mpsc::channel(4);
        let (stderr_sender, stderr) = mpsc::channel(4);
        let (resize, _sizes) = mpsc::channel(4);
        let session = ExecSession { stdin: Some(stdin_sender), stdout, stderr, resize, exit_code: async { Ok(3) }.boxed() };
        let server = async { serve_process(crate::upgrade::websocket(near).await, session).await };
        let process = async move {
            while let Some(data) = stdin.recv().await {
                stdout_sender.send(data).await.expect("open");
            }
            drop(stderr_sender);
        };
        let client = async move {
            let mut socket = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
            socket.send(Message::binary(b"\x00hi".to_vec())).await.expect("open");
            socket.send(Message::binary(vec![255, 0])).await.expect("open");
            let mut seen = Vec::new();
            while let Some(Ok(message)) = socket.next().await {
                if let Message::Binary(data) = message
                    && data.len() > 1
                {
                    seen.push(data);
                }
            }
            assert_eq!(&seen[0][..], b"\x01hi");
            assert_eq!(seen[1][0], 3);
            assert!(String::from_utf8_lossy(&seen[1]).contains("\"ExitCode\""));
        };
        tokio::join!(server, process, client);
    }
}
