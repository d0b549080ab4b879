//! The server's side of one SPDY connection.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::{Frame, HeaderReader, write_headers};

/// Chunks that may wait for a slow stream before the connection waits too.
const QUEUE: usize = 64;
/// Largest data frame sent.
const CHUNK: usize = 32 * 1024;

/// A stream that the client opened; it has been accepted already.
pub struct IncomingStream {
    /// What the client said of it.
    pub headers: BTreeMap<String, String>,
    /// What the client sends; ends when it closes its side.
    pub incoming: mpsc::Receiver<Bytes>,
    /// The way back.
    pub outgoing: StreamSender,
}

/// The sending side of a stream. Dropping it without [`StreamSender::finish`] resets the stream.
pub struct StreamSender {
    id: u32,
    frames: mpsc::Sender<Frame>,
    finished: bool,
}

impl StreamSender {
    /// Sends `data`; `false` when the connection is gone.
    pub async fn send(&self, data: &[u8]) -> bool {
        for chunk in data.chunks(CHUNK) {
            let frame = Frame::Data { id: self.id, fin: false, data: Bytes::copy_from_slice(chunk) };
            if self.frames.send(frame).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Says that nothing more will be sent.
    pub async fn finish(mut self) {
        self.finished = true;
        // A connection that is gone needs no end of stream.
        let _ = self.frames.send(Frame::Data { id: self.id, fin: true, data: Bytes::new() }).await;
    }
}

impl Drop for StreamSender {
    fn drop(&mut self) {
        if !self.finished {
            // A full queue or a closed connection: the stream ends with the connection then.
            let _ = self.frames.try_send(Frame::Reset { id: self.id, status: 5 });
        }
    }
}

/// One connection.
pub struct Session {
    streams: mpsc::Sender<IncomingStream>,
    frames_sender: mpsc::WeakSender<Frame>,
    frames: mpsc::Receiver<Frame>,
    own: Option<mpsc::Sender<Frame>>,
    open: BTreeMap<u32, mpsc::Sender<Bytes>>,
    reader: HeaderReader,
    first_reply: bool,
}

impl Session {
    /// A session and the streams that its client opens. Nothing happens until [`Session::run`].
    pub fn new() -> (Self, mpsc::Receiver<IncomingStream>) {
        let (streams, incoming) = mpsc::channel(QUEUE);
        let (sender, frames) = mpsc::channel(QUEUE);
        let session = Self {
            streams,
            frames_sender: sender.downgrade(),
            frames,
            own: Some(sender),
            open: BTreeMap::new(),
            reader: HeaderReader::default(),
            first_reply: true,
        };
        (session, incoming)
    }

    /// Serves the connection until either side ends it or whoever takes the streams is gone.
    pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(mut self, stream: S) {
        let (mut input, mut output) = tokio::io::split(stream);
        let mut buffer = BytesMut::with_capacity(CHUNK);
        loop {
            tokio::select! {
                biased;
                frame = self.frames.recv() => {
                    let Some(frame) = frame else { break };
                    let mut bytes = BytesMut::new();
                    frame.write(&mut bytes);
                    while let Ok(frame) = self.frames.try_recv() {
                        frame.write(&mut bytes);
                    }
                    if output.write_all(&bytes).await.is_err() || output.flush().await.is_err() {
                        return;
                    }
                }
                () = self.streams.closed() => {
                    // Whoever served the streams is done: what is queued still goes out.
                    if self.own.take().is_none() && self.frames.is_empty() {
                        break;
                    }
                    self.frames.close();
                }
                read = input.read_buf(&mut buffer) => {
                    if !matches!(read, Ok(length) if length > 0) {
                        return;
                    }
                    let mut bytes = BytesMut::new();
                    loop {
                        match Frame::read(&mut buffer) {
                            Ok(Some(frame)) => {
                                let next = self.take(frame, &mut bytes).await;
                                let Next::Deliver(sender, data) = next else {
                                    if next.is_end() { return }
                                    continue;
                                };
                                if !self.deliver(sender, data, &mut output).await { return }
                            }
                            Ok(None) => break,
                            Err(error) => {
                                tracing::debug!(%error, "a SPDY connection ends");
                                return;
                            }
                        }
                    }
                    if !bytes.is_empty() && (output.write_all(&bytes).await.is_err() || output.flush().await.is_err()) {
                        return;
                    }
                }
            }
        }
        // The peer may be gone already.
        let _ = output.shutdown().await;
    }

    /// Hands data to a stream's reader. What the streams send goes out meanwhile, or the two could wait for each other.
    async fn deliver(&mut self, sender: mpsc::Sender<Bytes>, data: Bytes, output: &mut (impl AsyncWrite + Unpin)) -> bool {
        loop {
            tokio::select! {
                biased;
                permit = sender.reserve() => {
                    // A stream whose reader is gone: its data is dropped.
                    if let Ok(permit) = permit {
                        permit.send(data);
                    }
                    return true;
                }
                frame = self.frames.recv() => {
                    let Some(frame) = frame else { return false };
                    let mut bytes = BytesMut::new();
                    frame.write(&mut bytes);
                    if output.write_all(&bytes).await.is_err() || output.flush().await.is_err() {
                        return false;
                    }
                }
            }
        }
    }

    /// Handles one frame; answers go to `output`.
    async fn take(&mut self, frame: Frame, output: &mut BytesMut) -> Next {
        match frame {
            Frame::SynStream { id, fin, headers } => {
                let Ok(headers) = self.reader.read(&headers) else { return Next::End };
                let mut block = BytesMut::new();
                write_headers(&mut block, &BTreeMap::new(), std::mem::take(&mut self.first_reply));
                Frame::SynReply { id, fin: false, headers: block.freeze() }.write(output);
                let Some(frames) = self.frames_sender.upgrade() else { return Next::End };
                let (sender, incoming) = mpsc::channel(QUEUE);
                if !fin {
                    self.open.insert(id, sender);
                }
                let stream = IncomingStream { headers, incoming, outgoing: StreamSender { id, frames, finished: false } };
                if self.streams.send(stream).await.is_ok() { Next::Go } else { Next::End }
            }
            Frame::Data { id, fin, data } => {
                let sender = if fin { self.open.remove(&id) } else { self.open.get(&id).cloned() };
                match sender {
                    Some(sender) if !data.is_empty() => Next::Deliver(sender, data),
                    _ => Next::Go,
                }
            }
            Frame::Reset { id, .. } => {
                self.open.remove(&id);
                Next::Go
            }
            Frame::Ping(number) => {
                Frame::Ping(number).write(output);
                Next::Go
            }
            Frame::Headers { id, fin, headers } | Frame::SynReply { id, fin, headers } => {
                if fin {
                    self.open.remove(&id);
                }
                // Reading keeps the shared compression state in step.
                if headers.is_empty() || self.reader.read(&headers).is_ok() { Next::Go } else { Next::End }
            }
            Frame::GoAway { .. } | Frame::Other(_) => Next::Go,
        }
    }
}

/// What a frame leads to.
enum Next {
    Go,
    Deliver(mpsc::Sender<Bytes>, Bytes),
    End,
}

impl Next {
    fn is_end(&self) -> bool {
        matches!(self, Self::End)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_echo() {
        let (near, far) = tokio::io::duplex(1 << 12);
        let (session, mut streams) = Session::new();
        let serve = async move {
            let mut stream = streams.recv().await.expect("a stream");
            assert_eq!(stream.headers.get("port").map(String::as_str), Some("80"));
            while let Some(data) = stream.incoming.recv().await {
                stream.outgoing.send(&data).await;
            }
            stream.outgoing.finish().await;
        };
        let client = async move {
            let (mut read, mut write) = tokio::io::split(far);
            let mut out = BytesMut::new();
            let mut headers = BytesMut::new();
            write_headers(&mut headers, &BTreeMap::from([("Port".to_owned(), "80".to_owned())]), true);
            Frame::SynStream { id: 1, fin: false, headers: headers.freeze() }.write(&mut out);
            Frame::Ping(5).write(&mut out);
            Frame::Data { id: 1, fin: false, data: Bytes::from(vec![b'x'; 100_000]) }.write(&mut out);
            Frame::Data { id: 1, fin: true, data: Bytes::from_static(b"end") }.write(&mut out);
            let send = async { write.write_all(&out).await.expect("open") };
            let receive = async {
                let (mut buffer, mut echoed, mut seen) = (BytesMut::new(), 0, Vec::new());
                loop {
                    while let Some(frame) = Frame::read(&mut buffer).expect("frames") {
                        match frame {
                            Frame::SynReply { id: 1, .. } => seen.push("reply"),
                            Frame::Ping(5) => seen.push("pong"),
                            Frame::Data { id: 1, fin, data } => {
                                echoed += data.len();
                                if fin {
                                    assert_eq!(echoed, 100_003);
                                    assert_eq!(seen, ["reply", "pong"]);
                                    return;
                                }
                            }
                            other => panic!("unexpected {other:?}"),
                        }
                    }
                    assert!(read.read_buf(&mut buffer).await.expect("open") > 0, "it ended early");
                }
            };
            tokio::join!(send, receive);
        };
        // The client's going ends the session.
        tokio::join!(session.run(near), serve, client);
    }
}
