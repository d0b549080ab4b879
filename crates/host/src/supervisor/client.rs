//! The other end of the supervisor's socket.
#![expect(clippy::disallowed_methods, reason = "commands wait for machines in real time")]

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use daruma_world::machines::{MachineError as Refusal, Pressure, PressureId};

use super::protocol::{ClusterStatus, MachineStatus, Reply, Request, State};
use super::{Files, SupervisorError, unknown};

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
    /// [`SupervisorError::Refused`] with what the supervisor says.
    pub fn ask(&mut self, request: &Request) -> Result<ClusterStatus, SupervisorError> {
        match self.converse(request)? {
            Reply::Done(status) => Ok(status),
            Reply::Pressed(_) => self.status(),
            Reply::Error(refusal) => Err(refusal.into()),
        }
    }

    /// Starts to use a machine up; gives what ends that. The reply comes before the effect.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn press(&mut self, machine: &str, pressure: Pressure) -> Result<PressureId, SupervisorError> {
        match self.converse(&Request::Press { machine: machine.to_owned(), pressure })? {
            Reply::Pressed(id) => Ok(id),
            Reply::Error(refusal) => Err(refusal.into()),
            Reply::Done(_) => Err(Refusal::Failed("the supervisor did not say which pressure began".to_owned()).into()),
        }
    }

    fn converse(&mut self, request: &Request) -> Result<Reply, SupervisorError> {
        let talk = |source| SupervisorError::Talk { doing: "talking to the supervisor".to_owned(), source };
        let mut line = serde_json::to_vec(request).map_err(|error| talk(error.into()))?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).map_err(talk)?;
        let mut reply = String::new();
        if self.stream.read_line(&mut reply).map_err(talk)? == 0 {
            return Err(talk(io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_str(&reply).map_err(|error| talk(error.into()))
    }

    /// How the machines are.
    pub fn status(&mut self) -> Result<ClusterStatus, SupervisorError> {
        self.ask(&Request::List)
    }

    /// How one machine is.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn find(&mut self, machine: &str) -> Result<MachineStatus, SupervisorError> {
        let status = self.status()?;
        let found = status.machine(machine).cloned();
        found.ok_or_else(|| unknown(machine, status.machines.iter().map(|machine| machine.name.as_str())))
    }

    /// Waits until `machine` is in `state`.
    ///
    /// # Errors
    /// When it goes off instead (with the reason), or `limit` passes.
    pub fn wait_for(&mut self, machine: &str, state: State, limit: Duration) -> Result<MachineStatus, SupervisorError> {
        let end = Instant::now() + limit;
        loop {
            let found = self.find(machine)?;
            if found.state == state {
                return Ok(found);
            }
            let why = found.last_end.clone().unwrap_or_default();
            if found.state == State::Off {
                return Err(SupervisorError::Refused(Refusal::Failed(format!("{machine} is off: {why}"))));
            }
            if Instant::now() > end {
                let late = format!("{machine} is still {} after {limit:?}", found.state);
                return Err(SupervisorError::Refused(Refusal::Failed(late)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
