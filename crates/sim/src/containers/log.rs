//! A container's output: lines in CRI format in its log file, and a copy for those who are attached.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daruma_world::World;
use jiff::fmt::temporal::DateTimePrinter;
use tokio::sync::mpsc;

/// A longer line is written in parts: containerd `max_container_log_line_size`.
const LINE_BYTES: usize = 16 * 1024;
/// Chunks that wait for somebody who is attached; a slower one loses some.
const CHUNKS: usize = 256;

/// RFC 3339 to the nanosecond.
const TIME: DateTimePrinter = DateTimePrinter::new().precision(Some(9));

/// One of a process's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Output {
    const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

#[derive(Default)]
struct State {
    partial: [Vec<u8>; 2],
    waiting: Vec<u8>,
    is_writing: bool,
    attached: Vec<(mpsc::Sender<Vec<u8>>, mpsc::Sender<Vec<u8>>)>,
}

/// Takes a container's output. Clones are the same.
#[derive(Clone)]
pub struct LogSink(Arc<Inner>);

struct Inner {
    world: World,
    path: PathBuf,
    state: Mutex<State>,
}

impl LogSink {
    /// Output to the file `path` of the machine. `world` is the engine's: what a process has written is
    /// kept even when it is killed at once.
    pub(super) fn new(world: &World, path: &Path) -> Self {
        Self(Arc::new(Inner { world: world.clone(), path: path.to_owned(), state: Mutex::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes bytes; lines become visible when they are complete.
    pub fn write(&self, output: Output, data: &[u8]) {
        let now = self.0.world.now();
        let must_start = {
            let mut guard = self.state();
            let state = &mut *guard;
            for (stdout, stderr) in &state.attached {
                let to = if output == Output::Stdout { stdout } else { stderr };
                // A reader that does not keep up loses output, the container goes on.
                let _ = to.try_send(data.to_vec());
            }
            state.attached.retain(|(stdout, _)| !stdout.is_closed());
            let partial = &mut state.partial[output as usize];
            for piece in data.split_inclusive(|byte| *byte == b'\n') {
                partial.extend_from_slice(piece);
                let full = partial.pop_if(|last| *last == b'\n').is_some();
                if full || partial.len() >= LINE_BYTES {
                    format_line(&mut state.waiting, now, output, partial, full);
                    partial.clear();
                }
            }
            !state.waiting.is_empty() && !std::mem::replace(&mut state.is_writing, true)
        };
        if must_start {
            let sink = self.clone();
            self.0.world.spawn("container-log", async move { sink.flush().await });
        }
    }

    /// Writes a line.
    pub fn line(&self, output: Output, text: &str) {
        self.write(output, [text, "\n"].concat().as_bytes());
    }

    async fn flush(self) {
        loop {
            let waiting = {
                let mut state = self.state();
                if state.waiting.is_empty() {
                    state.is_writing = false;
                    return;
                }
                std::mem::take(&mut state.waiting)
            };
            // A full disk, or a directory that is gone, loses lines; the container goes on.
            let _ = self.0.world.disk.append(&self.0.path, waiting).await;
        }
    }

    /// Copies of what is written from now on: standard output and error. They end with the container.
    pub(super) fn attach(&self) -> (mpsc::Receiver<Vec<u8>>, mpsc::Receiver<Vec<u8>>) {
        let ((stdout_sender, stdout), (stderr_sender, stderr)) = (mpsc::channel(CHUNKS), mpsc::channel(CHUNKS));
        self.state().attached.push((stdout_sender, stderr_sender));
        (stdout, stderr)
    }

    /// The container has ended: unfinished lines are written, and those attached see the end.
    pub(super) fn close(&self) {
        for output in [Output::Stdout, Output::Stderr] {
            let unfinished = !self.state().partial[output as usize].is_empty();
            if unfinished {
                self.write(output, b"\n");
            }
        }
        let attached = std::mem::take(&mut self.state().attached);
        drop(attached);
    }
}

fn format_line(out: &mut Vec<u8>, now: jiff::Timestamp, output: Output, text: &[u8], full: bool) {
    // Writing to a vector does not fail.
    let _ = TIME.print_timestamp(&now, &mut *out);
    for part in [" ", output.name(), if full { " F " } else { " P " }] {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// A line that is there from the start.
pub(super) fn first_lines(now: jiff::Timestamp, lines: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        format_line(&mut out, now, Output::Stdout, line.as_bytes(), true);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_parts() {
        crate::run(1, |world| async move {
            let path = Path::new("/0.log");
            let log = LogSink::new(&world, path);
            let (mut attached, _stderr) = log.attach();
            log.write(Output::Stdout, b"one\ntw");
            log.write(Output::Stderr, b"err\n");
            log.write(Output::Stdout, b"o\nrest");
            log.close();
            world.sleep(std::time::Duration::from_millis(1)).await;
            let text = String::from_utf8(world.disk.read(path).await.unwrap()).unwrap();
            let shown: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
            assert_eq!(shown, ["stdout F one", "stderr F err", "stdout F two", "stdout F rest"]);
            assert!(text.starts_with("2026-01-01T00:00:00.000000000Z "));
            let mut copy = Vec::new();
            while let Some(chunk) = attached.recv().await {
                copy.extend(chunk);
            }
            assert_eq!(copy, b"one\ntwo\nrest\n");
        });
    }
}
