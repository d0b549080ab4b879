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
pub fn stream<F, R>(
    world: World,
    path: PathBuf,
    options: LogOptions,
    is_running: F,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send
where
    F: Fn() -> R + Send + 'static,
    R: Future<Output = bool> + Send + 'static,
{
    let left = options.limit_bytes.unwrap_or(usize::MAX);
    let reader = Reader {
        world,
        path,
        options,
        is_running,
        offset: None,
        inode: 0,
        rest: BytesMut::new(),
        inside: false,
        left,
        ended: false,
    };
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
            // Rotated: what is left of the old file, then the new one from its start.
            Some(offset) => {
                let left = self.left_behind(offset).await;
                if !left.is_empty() {
                    self.offset = Some(offset + left.len() as u64);
                    return left;
                }
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

    /// What was written to the file after `offset` before it was renamed.
    async fn left_behind(&mut self, offset: u64) -> Vec<u8> {
        let disk = &self.world.disk;
        let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name().and_then(|name| name.to_str())) else {
            return Vec::new();
        };
        for (entry, _) in disk.read_dir(parent).await.unwrap_or_default() {
            let path = parent.join(&entry);
            if entry.starts_with(&format!("{name}."))
                && let Ok(facts) = disk.metadata(&path).await
                && facts.inode == self.inode
            {
                return disk.read_at(&path, offset, CHUNK).await.unwrap_or_default();
            }
        }
        Vec::new()
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

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    const LOG: &str = "2026-01-01T00:00:01.000000001Z stdout F one\n2026-01-01T00:00:02.000000001Z stderr P tw\n\
                       2026-01-01T00:00:02.000000002Z stderr F o\n2026-01-01T00:00:03.000000001Z stdout F three\n";

    #[track_caller]
    fn check(options: LogOptions, expected: &str) {
        daruma_sim::run(1, |world| async move {
            let path = PathBuf::from("/var/log/a.log");
            world.disk.create_dir_all(path.parent().expect("a parent"), 0o755).await.expect("made");
            world.disk.append(&path, LOG.as_bytes().to_vec()).await.expect("written");
            let lines = stream(world.clone(), path, options.clone(), || async { false });
            let text: Vec<u8> = lines.map(|chunk| chunk.expect("readable").to_vec()).concat().await;
            assert_eq!(String::from_utf8_lossy(&text), expected, "{options:?}");
        });
    }

    #[test]
    fn selections() {
        let plain = LogOptions::default;
        check(plain(), "one\ntwo\nthree\n");
        check(LogOptions { tail_lines: Some(1), ..plain() }, "three\n");
        check(LogOptions { tail_lines: Some(2), ..plain() }, "o\nthree\n");
        check(LogOptions { tail_lines: Some(9), ..plain() }, "one\ntwo\nthree\n");
        check(LogOptions { tail_lines: Some(0), ..plain() }, "");
        check(LogOptions { limit_bytes: Some(5), ..plain() }, "one\nt");
        check(LogOptions { stream: Some("stdout".into()), ..plain() }, "one\nthree\n");
        let since = "2026-01-01T00:00:03Z".parse().expect("a time");
        check(LogOptions { since: Some(since), timestamps: true, ..plain() }, "2026-01-01T00:00:03.000000001Z three\n");
    }

    #[test]
    fn following_over_a_rotation() {
        daruma_sim::run(2, |world| async move {
            let path = PathBuf::from("/var/log/a.log");
            let line = |text: &str| format!("2026-01-01T00:00:01Z stdout F {text}\n").into_bytes();
            world.disk.create_dir_all(path.parent().expect("a parent"), 0o755).await.expect("made");
            world.disk.append(&path, line("a")).await.expect("written");
            let options = LogOptions { follow: true, ..LogOptions::default() };
            let ends = world.monotonic() + Duration::from_secs(2);
            let clock = world.clone();
            let lines = stream(world.clone(), path.clone(), options, move || {
                let running = clock.monotonic() < ends;
                async move { running }
            });
            let writer = async {
                world.sleep(Duration::from_millis(500)).await;
                world.disk.append(&path, line("b")).await.expect("written");
                world.sleep(Duration::from_millis(500)).await;
                world.disk.append(&path, line("late")).await.expect("written");
                world.disk.rename(&path, &PathBuf::from("/var/log/a.log.1")).await.expect("renamed");
                world.disk.append(&path, line("c")).await.expect("written");
            };
            let read = lines.map(|chunk| chunk.expect("readable").to_vec()).concat();
            let (text, ()) = futures::join!(read, writer);
            assert_eq!(&text[..], b"a\nb\nlate\nc\n");
        });
    }
}
