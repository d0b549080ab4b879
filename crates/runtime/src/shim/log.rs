//! A container's log file in CRI format, rotated by size.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file longer than this is renamed and a new one begun (kubelet `containerLogMaxSize`).
pub const MAX_SIZE_BYTES: u64 = 10 * 1024 * 1024;
/// Files kept, the current one included (kubelet `containerLogMaxFiles`).
const MAX_FILES: usize = 5;
/// A longer line is written in parts (containerd's `max_container_log_line_size`).
const MAX_LINE_BYTES: usize = 16 * 1024;

/// The file and the unfinished lines of both streams.
pub struct LogFile {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    partial: [Vec<u8>; 2],
}

/// Names of the streams in the file.
const STREAMS: [&str; 2] = ["stdout", "stderr"];

impl LogFile {
    /// Opens (appends to) `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut log = Self { path: path.to_owned(), file: None, size: 0, partial: [Vec::new(), Vec::new()] };
        log.reopen()?;
        Ok(log)
    }

    /// Opens the path again, after somebody renamed the file.
    pub fn reopen(&mut self) -> io::Result<()> {
        if let Some(parent) = self.path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Takes output of a stream (0 stdout, 1 stderr); writes the lines that are complete.
    pub fn output(&mut self, stream: usize, data: &[u8], now: jiff::Timestamp) {
        let mut out = Vec::with_capacity(data.len() + 64);
        let partial = &mut self.partial[stream];
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                partial.pop();
                format_line(&mut out, now, stream, partial, true);
                partial.clear();
            } else if partial.len() >= MAX_LINE_BYTES {
                format_line(&mut out, now, stream, partial, false);
                partial.clear();
            }
        }
        self.append(&out, now);
    }

    /// Writes unfinished lines, as the stream has ended.
    pub fn finish(&mut self, now: jiff::Timestamp) {
        let mut out = Vec::new();
        for stream in 0..2 {
            if !self.partial[stream].is_empty() {
                format_line(&mut out, now, stream, &self.partial[stream], true);
                self.partial[stream].clear();
            }
        }
        self.append(&out, now);
    }

    fn append(&mut self, out: &[u8], now: jiff::Timestamp) {
        if out.is_empty() {
            return;
        }
        // A full disk loses log lines; the container goes on.
        if let Some(file) = &mut self.file
            && file.write_all(out).is_ok()
        {
            self.size += out.len() as u64;
        }
        if self.size > MAX_SIZE_BYTES && self.rotate(now).is_err() {
            // Try again after as much again.
            self.size = 0;
        }
    }

    /// Renames the file to `<name>.<time>` and begins a new one; the oldest go.
    fn rotate(&mut self, now: jiff::Timestamp) -> io::Result<()> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let directory = self.path.parent().map(Path::to_owned).unwrap_or_default();
        let stamp = now.strftime("%Y%m%d-%H%M%S").to_string();
        std::fs::rename(&self.path, directory.join(format!("{name}.{stamp}")))?;
        let mut old: Vec<_> = std::fs::read_dir(&directory)?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|other| other.strip_prefix(&name).is_some_and(|rest| rest.starts_with('.')))
            .collect();
        old.sort();
        while old.len() > MAX_FILES - 1 {
            std::fs::remove_file(directory.join(old.remove(0)))?;
        }
        self.reopen()
    }
}

fn format_line(out: &mut Vec<u8>, now: jiff::Timestamp, stream: usize, text: &[u8], full: bool) {
    let tag = if full { 'F' } else { 'P' };
    out.extend_from_slice(format!("{now:.9} {} {tag} ", STREAMS[stream]).as_bytes());
    out.extend_from_slice(text);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_parts_and_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c/0.log");
        let mut log = LogFile::open(&path).unwrap();
        let now: jiff::Timestamp = "2026-11-24T10:00:00.5Z".parse().unwrap();
        log.output(0, b"one\ntw", now);
        log.output(1, b"err\n", now);
        log.output(0, b"o\nrest", now);
        log.finish(now);
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "2026-11-24T10:00:00.500000000Z stdout F one\n2026-11-24T10:00:00.500000000Z stderr F err\n\
             2026-11-24T10:00:00.500000000Z stdout F two\n2026-11-24T10:00:00.500000000Z stdout F rest\n"
        );
        log.output(0, &vec![b'x'; MAX_SIZE_BYTES as usize], now);
        log.output(0, b"\nafter\n", now);
        log.output(0, b"new\n", now);
        assert!(dir.path().join("c/0.log.20261124-100000").exists());
        assert!(std::fs::read_to_string(&path).unwrap().contains("stdout F new"));
    }
}
