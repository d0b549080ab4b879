//! A running container inside the shim: its streams, its log, those attached to it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::unistd::Pid;

use super::log::LogFile;
use super::protocol::StartSpec;

/// Bytes that wait for a slow attached reader before it is let go.
const BACKLOG_BYTES: usize = 1024 * 1024;

/// A descriptor of an attached session that output goes to.
pub struct Sink {
    /// Where to.
    pub fd: OwnedFd,
    /// Which stream: 0 stdout, 1 stderr.
    pub stream: usize,
    /// What could not be written yet.
    pub backlog: VecDeque<u8>,
}

impl Sink {
    /// Writes what is possible; `false` when the reader is gone or far behind.
    pub fn write(&mut self, data: &[u8]) -> bool {
        self.backlog.extend(data);
        while !self.backlog.is_empty() {
            let (front, _) = self.backlog.as_slices();
            match nix::unistd::write(&self.fd, front) {
                Ok(len) => drop(self.backlog.drain(..len)),
                Err(nix::Error::EAGAIN) => break,
                Err(nix::Error::EINTR) => {}
                Err(_) => return false,
            }
        }
        self.backlog.len() <= BACKLOG_BYTES
    }
}

/// The input of an attached session.
pub struct Source {
    /// Where from.
    pub fd: OwnedFd,
}

/// How a container ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Nanoseconds since the epoch.
    pub at_ns: i64,
    /// Exit code; 128 + signal.
    pub code: i32,
    /// The out-of-memory killer struck in it.
    pub oom: bool,
}

/// A container.
pub struct Container {
    /// What it was made from.
    pub spec: StartSpec,
    /// Its main process.
    pub pid: Pid,
    /// Start time, nanoseconds since the epoch.
    pub started_ns: i64,
    /// Its end.
    pub ended: Option<Ended>,
    /// Reading ends of its output, by stream; the terminal's master is stream 0.
    pub outputs: [Option<OwnedFd>; 2],
    /// Writing end of its standard input (not used with a terminal).
    pub stdin: Option<OwnedFd>,
    /// Input that it has not taken yet.
    pub stdin_backlog: VecDeque<u8>,
    /// The log.
    pub log: LogFile,
    /// Attached readers.
    pub sinks: Vec<Sink>,
    /// Attached writers.
    pub sources: Vec<Source>,
}

/// Makes reads and writes return at once.
pub fn set_nonblocking(fd: RawFd) {
    // SAFETY: sets a flag on a descriptor that the caller owns.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK);
    }
}

impl Container {
    /// Where input is written to.
    pub fn input(&self) -> Option<&OwnedFd> {
        if self.spec.process.tty { self.outputs[0].as_ref().filter(|_| self.spec.stdin) } else { self.stdin.as_ref() }
    }

    /// Reads output that is there, at most `rounds` buffers of it; drops the stream at its end.
    pub fn read_output(&mut self, stream: usize, rounds: usize) {
        let mut buffer = [0u8; 16 * 1024];
        for _ in 0..rounds {
            let Some(fd) = &self.outputs[stream] else { return };
            match nix::unistd::read(fd, &mut buffer) {
                Ok(0) => self.outputs[stream] = None,
                Ok(len) => {
                    self.log.output(stream, &buffer[..len], super::now());
                    self.sinks.retain_mut(|sink| sink.stream != stream || sink.write(&buffer[..len]));
                }
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => return,
                // A terminal whose last user is gone reports EIO.
                Err(_) => self.outputs[stream] = None,
            }
        }
    }

    /// Passes input of an attached session on; `false` when the session's input has ended.
    pub fn read_source(&mut self, index: usize) -> bool {
        let mut buffer = [0u8; 16 * 1024];
        match nix::unistd::read(&self.sources[index].fd, &mut buffer) {
            Ok(0) => false,
            Ok(len) => {
                self.stdin_backlog.extend(&buffer[..len]);
                self.write_stdin();
                true
            }
            Err(nix::Error::EINTR | nix::Error::EAGAIN) => true,
            Err(_) => false,
        }
    }

    /// Writes waiting input.
    pub fn write_stdin(&mut self) {
        while !self.stdin_backlog.is_empty() {
            let (front, _) = self.stdin_backlog.as_slices();
            let written = match self.input() {
                Some(fd) => nix::unistd::write(fd, front),
                None => return self.stdin_backlog.clear(),
            };
            match written {
                Ok(len) => drop(self.stdin_backlog.drain(..len)),
                Err(nix::Error::EAGAIN) => return,
                Err(nix::Error::EINTR) => {}
                Err(_) => {
                    self.stdin = None;
                    self.stdin_backlog.clear();
                }
            }
        }
    }

    /// Ends a session's input; the container's own too, where it asked for one session only.
    pub fn drop_source(&mut self, index: usize) {
        self.sources.remove(index);
        if self.spec.stdin_once && self.sources.is_empty() {
            self.stdin = None;
        }
    }

    /// Kills every process of the container.
    pub fn kill_all(&self) {
        if self.ended.is_none() {
            let _ = nix::sys::signal::kill(self.pid, nix::sys::signal::Signal::SIGKILL);
        }
        for file in &self.spec.kill_files {
            if file.ends_with("cgroup.kill") {
                let _ = std::fs::write(file, "1");
                continue;
            }
            for pid in std::fs::read_to_string(file)
                .unwrap_or_default()
                .lines()
                .filter_map(|line| line.parse().ok())
                .filter(|pid| *pid > 1)
            {
                let _ = nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
    }

    /// Everything that the end of the main process entails.
    pub fn end(&mut self, code: i32) -> Ended {
        self.kill_all();
        for stream in 0..2 {
            self.read_output(stream, 1024);
            self.outputs[stream] = None;
        }
        let now = super::now();
        self.log.finish(now);
        self.stdin = None;
        self.sources.clear();
        self.sinks.clear();
        let oom = code != 0
            && self
                .spec
                .oom_file
                .as_ref()
                .and_then(|file| std::fs::read_to_string(file).ok())
                .is_some_and(|text| crate::cgroups::field(&text, "oom_kill") > 0);
        let ended = Ended { at_ns: super::nanoseconds(now), code, oom };
        self.ended = Some(ended);
        ended
    }

    /// Sets the size of the terminal.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        let Some(master) = self.outputs[0].as_ref().filter(|_| self.spec.process.tty) else { return Ok(()) };
        crate::terminal::set_size(master.as_raw_fd(), columns, rows)
    }
}
