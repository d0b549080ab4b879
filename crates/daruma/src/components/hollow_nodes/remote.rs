//! The simulated machines for another process, by way of their socket.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daruma_world::Net;
use daruma_world::machines::{Ability, LinkFault, MachineError, MachineInfo, Machines, Pressure, PressureId, Program, Signal};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::protocol::{Reply, Request, Status, Switch, socket};

type Answer<T> = BoxFuture<'static, Result<T, MachineError>>;

const NO_SOCKETS: &str = "nothing can be asked from a simulated node: it has no sockets outside of its simulation";

/// The simulated machines of one cluster. Cheap to clone; must be used inside a tokio runtime.
#[derive(Debug, Clone)]
pub struct SimulatedMachines {
    socket: PathBuf,
}

impl SimulatedMachines {
    /// Those of the cluster in `directory`; whether their process runs is seen when it is asked.
    pub fn of(directory: &Path) -> Self {
        Self { socket: socket(directory) }
    }

    /// How they are.
    pub fn status(&self) -> Answer<Status> {
        self.ask(Request::Status, |reply| match reply {
            Reply::Status(status) => Some(status),
            _ => None,
        })
    }

    /// Takes back whatever is broken, beside machines that are off. Gives what was done, in words.
    pub fn undo(&self) -> Answer<Vec<String>> {
        self.ask(Request::Undo, |reply| match reply {
            Reply::Undone(lines) => Some(lines),
            _ => None,
        })
    }

    /// Makes the machines of these numbers, where they are not there yet. They are switched on one after the other, later.
    pub fn add(&self, numbers: Vec<u32>) -> Answer<()> {
        self.done(Request::Add(numbers))
    }

    /// Cuts a machine's power and takes it away.
    pub fn remove(&self, name: &str) -> Answer<()> {
        self.done(Request::Remove(name.to_owned()))
    }

    fn ask<T: Send + 'static>(&self, request: Request, wanted: impl FnOnce(Reply) -> Option<T> + Send + 'static) -> Answer<T> {
        let socket = self.socket.clone();
        async move {
            match exchange(&socket, &request).await {
                Ok(Reply::Error(error)) => Err(error),
                Ok(reply) => wanted(reply).ok_or_else(|| MachineError::Failed("an answer to another question".into())),
                Err(error) => Err(MachineError::Failed(format!(
                    "the process of the simulated nodes does not answer ({error}); it is started again within seconds, and \
                     `daruma logs supervisor` tells why it ended"
                ))),
            }
        }
        .boxed()
    }

    fn done(&self, request: Request) -> Answer<()> {
        self.ask(request, |reply| (reply == Reply::Done).then_some(()))
    }

    fn switch(&self, name: &str, switch: Switch) -> Answer<()> {
        self.done(Request::Switch(name.to_owned(), switch))
    }
}

async fn exchange(socket: &Path, request: &Request) -> io::Result<Reply> {
    let (reader, mut writer) = UnixStream::connect(socket).await?.into_split();
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    writer.write_all(&line).await?;
    let mut answer = String::new();
    if BufReader::new(reader).read_line(&mut answer).await? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended on the way"));
    }
    Ok(serde_json::from_str(&answer)?)
}

impl Machines for SimulatedMachines {
    fn list(&self) -> Answer<Vec<MachineInfo>> {
        let status = self.status();
        async move { Ok(status.await?.machines) }.boxed()
    }

    /// Whatever the virtual world can do.
    fn supports(&self, ability: &Ability<'_>) -> Result<(), MachineError> {
        daruma_sim::supports(ability)
    }

    fn power_off(&self, name: &str, torn: bool) -> Answer<()> {
        self.switch(name, if torn { Switch::OffTorn } else { Switch::Off })
    }

    fn power_on(&self, name: &str) -> Answer<()> {
        self.switch(name, Switch::On)
    }

    fn reset(&self, name: &str) -> Answer<()> {
        self.switch(name, Switch::Reset)
    }

    fn shutdown(&self, name: &str) -> Answer<()> {
        self.switch(name, Switch::Shutdown)
    }

    fn reboot(&self, name: &str) -> Answer<()> {
        self.switch(name, Switch::Reboot)
    }

    fn hang(&self, name: &str) -> Answer<()> {
        self.switch(name, Switch::Hang)
    }

    fn resume(&self, name: &str) -> Answer<()> {
        self.switch(name, Switch::Resume)
    }

    fn set_link_faults(&self, faults: Vec<LinkFault>) -> Answer<()> {
        self.done(Request::Links(faults))
    }

    fn press(&self, name: &str, pressure: Pressure) -> Answer<PressureId> {
        self.ask(Request::Press(name.to_owned(), pressure), |reply| match reply {
            Reply::Pressed(id) => Some(id),
            _ => None,
        })
    }

    fn release(&self, name: &str, id: PressureId) -> Answer<()> {
        self.done(Request::Release(name.to_owned(), id))
    }

    fn signal(&self, name: &str, program: &Program, signal: Signal) -> Answer<()> {
        self.done(Request::Signal(name.to_owned(), program.clone(), signal))
    }

    fn set_clock_offset(&self, name: &str, offset_ms: i64) -> Answer<()> {
        self.done(Request::Clock(name.to_owned(), offset_ms))
    }

    fn net(&self, _: Option<&str>) -> Result<Arc<dyn Net>, MachineError> {
        Err(MachineError::Unsupported(NO_SOCKETS.to_owned()))
    }

    fn living_containers(&self, name: &str) -> Answer<BTreeSet<String>> {
        self.ask(Request::Containers(name.to_owned()), |reply| match reply {
            Reply::Containers(containers) => Some(containers),
            _ => None,
        })
    }
}
