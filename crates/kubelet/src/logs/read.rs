//! Reading a log, and following it while it grows.

use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use daruma_client::BodyError;
use daruma_world::World;
use futures::Stream;
use jiff::Timestamp;

use super::{CHUNK, parse, tail_offset};

/// Between looks at a file that is followed.
const FOLLOW: Duration = Duration::from_millis(100);

/// What of a log is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Only so many lines from the end.
    pub tail_lines: Option<usize>,
    /// Only lines from this time on.
    pub since: Option<Timestamp>,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// At most so many bytes.
    pub limit_bytes: Option<usize>,
    /// Goes on while the container runs.
    pub follow: bool,
    /// Only `stdout` or `stderr`.
    pub stream: Option<String>,
}

struct Reader<F> {
    world: World,
    path: PathBuf,
    options: LogOptions,
    is_running: F,
    offset: Option<u64>,
    inode: u64,
    rest: BytesMut,
    /// The line before was partial: no time in front of what follows.
    inside: bool,
    left: usize,
    ended: bool,
}

/// Streams a log. `is_running` says whether more may come. A file that is rotated away is read to its end, then the new one.
pub fn stream<F, R>(world: World, path: PathBuf, options: LogOptions, is_running: F) -> impl Stream<Item = Result<Bytes, BodyError>> + Send
where
    F: Fn() -> R + Send + 'static,
    R: Future<Output = bool> + Send + 'static,
{
    let left = options.limit_bytes.unwrap_or(usize::MAX);
    let reader =
        Reader { world, path, options, is_running, offset: None, inode: 0, rest: BytesMut::new(), inside: false, left, ended: false };
    futures::stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next().await?;
        Some((Ok(chunk), reader))
    })
}

impl<F, R> Reader<F>
where
    F: Fn() -> R + Send + 'static,
    R: Future<Output = bool> + Send + 'static,
{
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.ended || self.left == 0 {
                return None;
            }
            // Asked before reading, so that nothing written before the end is missed.
            let more_may_come = self.options.follow && (self.is_running)().await;
            let read = self.read().await;
            if !read.is_empty() {
                self.rest.extend_from_slice(&read);
                let chunk = self.take_lines();
                if !chunk.is_empty() {
                    return Some(chunk);
                }
                continue;
            }
            if !more_may_come {
                self.ended = true;
                return None;
            }
            self.world.sleep(FOLLOW).await;
        }
    }

    async fn read(&mut self) -> Vec<u8> {
        let disk = self.world.disk.clone();
        let Ok(facts) = disk.metadata(&self.path).await else { return Vec::new() };
        let offset = match self.offset {
            Some(offset) if facts.inode == self.inode && facts.len >= offset => offset,
            // Rotated: the new file from its start.
            Some(_) => {
                self.rest.clear();
                0
            }
            None => match self.options.tail_lines {
                Some(lines) => tail_offset(&*disk, &self.path, facts.len, lines).await,
                None => 0,
            },
        };
        self.inode = facts.inode;
        let data = disk.read_at(&self.path, offset, CHUNK).await.unwrap_or_default();
        self.offset = Some(offset + data.len() as u64);
        data
    }

    /// Turns the whole lines of what was read into output.
    fn take_lines(&mut self) -> Bytes {
        let mut output = BytesMut::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let raw = self.rest.split_to(end + 1);
            let Some(line) = parse(&raw) else { continue };
            let wanted = self.options.since.is_none_or(|since| line.time >= since)
                && self.options.stream.as_ref().is_none_or(|stream| *stream == line.stream);
            if wanted {
                if self.options.timestamps && !self.inside {
                    output.extend_from_slice(line.time_text.as_bytes());
                    output.extend_from_slice(b" ");
                }
                output.extend_from_slice(&line.text);
                self.inside = line.partial;
            }
        }
        output.truncate(self.left);
        self.left -= output.len();
        output.freeze()
    }
}
