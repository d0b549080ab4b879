//! The other end of the supervisor's socket.
#![expect(clippy::disallowed_methods, reason = "commands wait for machines in real time")]

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::protocol::{ClusterStatus, MachineStatus, Reply, Request, State};
use super::{Files, SupervisorError};

/// A connection to a cluster's supervisor. Its calls block.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the supervisor of `cluster` below `root`.
    ///
    /// # Errors
    /// [`SupervisorError::NotUp`] when none runs.
    pub fn connect(root: &Path, cluster: &str) -> Result<Self, SupervisorError> {
        let socket = Files::of(root, cluster).socket;
        match UnixStream::connect(&socket) {
            Ok(stream) => Ok(Self { stream: BufReader::new(stream) }),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Err(SupervisorError::NotUp { cluster: cluster.to_owned() })
            }
            Err(source) => Err(SupervisorError::Talk { doing: format!("connecting to {}", socket.display()), source }),
        }
    }

    /// Sends one request and waits for its reply.
    ///
    /// # Errors
    /// [`SupervisorError::Refused`] with the supervisor's own words.
    pub fn ask(&mut self, request: &Request) -> Result<ClusterStatus, SupervisorError> {
        let talk = |source| SupervisorError::Talk { doing: "talking to the supervisor".to_owned(), source };
        let mut line = serde_json::to_vec(request).map_err(|error| talk(error.into()))?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).map_err(talk)?;
        let mut reply = String::new();
        if self.stream.read_line(&mut reply).map_err(talk)? == 0 {
            return Err(talk(io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_str(&reply).map_err(|error| talk(error.into()))? {
            Reply::Done(status) => Ok(status),
            Reply::Error(problem) => Err(SupervisorError::Refused(problem)),
        }
    }

    /// How the machines are.
    pub fn status(&mut self) -> Result<ClusterStatus, SupervisorError> {
        self.ask(&Request::List)
    }

    /// Waits until `machine` is in `state`.
    ///
    /// # Errors
    /// When it goes off instead (with the reason), or `limit` passes.
    pub fn wait_for(&mut self, machine: &str, state: State, limit: Duration) -> Result<MachineStatus, SupervisorError> {
        let end = Instant::now() + limit;
        loop {
            let status = self.status()?;
            let found = status.machine(machine).cloned();
            let found = found.ok_or_else(|| SupervisorError::Refused(format!("machine {machine} does not exist")))?;
            if found.state == state {
                return Ok(found);
            }
            let why = found.last_end.clone().unwrap_or_default();
            if found.state == State::Off {
                return Err(SupervisorError::Refused(format!("{machine} is off: {why}")));
            }
            if Instant::now() > end {
                return Err(SupervisorError::Refused(format!("{machine} is still {} after {limit:?}", found.state)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
