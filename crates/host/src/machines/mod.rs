//! The machines of a running cluster for somebody who stands outside: its supervisor, asked over its socket.
//!
//! What is broken through it stays broken when the asking process ends: the supervisor knows it, tells it to the next
//! one ([`SupervisedMachines::status`]) and lets that one take it back ([`SupervisedMachines::undo`]).
#![expect(clippy::disallowed_methods, reason = "the supervisor's socket and the waiting block, so they run on tokio's threads")]

mod net;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use daruma_world::Net;
use daruma_world::machines::{
    Ability, LinkFault, MachineError, MachineInfo, Machines, PowerState, Pressure, PressureId, Program, Signal,
};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::doctor;
use crate::machine::link_faults::probe;
use crate::machine::{MachineSpec, ballast, cgroup, containers, slow_disk};
use crate::supervisor::{Client, ClusterStatus, MachineStatus, Request, State, SupervisorError};
use crate::world::LinuxNet;
use net::MachineNet;

type Answer<T> = BoxFuture<'static, Result<T, MachineError>>;

/// How long a machine may take to change its state.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a pressure may take to set in; a disk of many inodes takes its time.
const PRESSURE_PATIENCE: Duration = Duration::from_secs(180);
const STEP: Duration = Duration::from_millis(5);

/// The machines of one cluster. Cheap to clone; must be used inside a tokio runtime.
#[derive(Debug, Clone)]
pub struct SupervisedMachines {
    root: PathBuf,
    cluster: String,
    /// Services that machines' inits keep.
    services: BTreeSet<String>,
}

impl SupervisedMachines {
    /// The machines of `cluster` below `root`. Blocks for as long as its supervisor needs to accept.
    ///
    /// # Errors
    /// [`SupervisorError::NotUp`] when none runs.
    pub fn connect(root: &Path, cluster: &str) -> Result<Self, SupervisorError> {
        let status = Client::connect(root, cluster)?.status()?;
        let services = status.machines.into_iter().map(|machine| machine.service).collect();
        Ok(Self { root: root.to_owned(), cluster: cluster.to_owned(), services })
    }

    /// How the machines are, and everything that is broken.
    pub fn status(&self) -> Answer<ClusterStatus> {
        self.ask(Client::status)
    }

    /// Makes a further machine and switches it on; completes when its init runs.
    pub fn add(&self, spec: MachineSpec) -> Answer<()> {
        self.ask(move |client| {
            let name = spec.name.clone();
            client.ask(&Request::Add { spec: Box::new(spec) })?;
            client.wait_for(&name, State::Running, PATIENCE).map(drop)
        })
    }

    /// Keeps a mode of the binary running beside the machines, with a card of its own at the switch; one that is kept already is fine.
    pub fn keep(&self, program: Vec<String>) -> Answer<()> {
        self.request(Request::Keep { program })
    }

    /// Cuts a machine's power and removes it with its disk.
    pub fn remove(&self, name: &str) -> Answer<()> {
        self.request(Request::Remove { machine: name.to_owned() })
    }

    /// Takes back whatever is broken, beside machines that are off: mends links, lets hung machines and paused programs
    /// go on, starts stopped services, releases pressures. Gives what it did, in words. Goes on after errors and
    /// returns the first.
    pub fn undo(&self) -> Answer<Vec<String>> {
        let machines = self.clone();
        async move {
            let status = machines.status().await?;
            let mut done = Vec::new();
            let mut first = Ok(());
            let mut note = |what: String, result: Result<(), MachineError>| match result {
                Ok(()) => done.push(what),
                Err(error) if first.is_ok() => first = Err(error),
                Err(_) => {}
            };
            if !status.faults.links.is_empty() {
                note("mended all links".to_owned(), machines.set_link_faults(Vec::new()).await);
            }
            for hung in status.machines.iter().filter(|machine| machine.state == State::Hung) {
                note(format!("let {} go on", hung.name), machines.resume(&hung.name).await);
            }
            for held in &status.faults.programs {
                let signalled = machines.signal(&held.machine, &held.program, held.undo).await;
                note(format!("{:?}: {:?} on {}", held.undo, held.program, held.machine), signalled);
            }
            for pressure in &status.faults.pressures {
                let released = machines.release(&pressure.machine, pressure.id).await;
                note(format!("released {:?} on {}", pressure.pressure, pressure.machine), released);
            }
            first.map(|()| done)
        }
        .boxed()
    }

    fn client(&self) -> Result<Client, SupervisorError> {
        Client::connect(&self.root, &self.cluster)
    }

    fn ask<T: Send + 'static>(&self, work: impl FnOnce(&mut Client) -> Result<T, SupervisorError> + Send + 'static) -> Answer<T> {
        let machines = self.clone();
        blocking(move || work(&mut machines.client()?))
    }

    fn request(&self, request: Request) -> Answer<()> {
        self.ask(move |client| client.ask(&request).map(drop))
    }

    fn request_and_wait(&self, request: Request, name: &str, state: State) -> Answer<()> {
        let name = name.to_owned();
        self.ask(move |client| {
            client.ask(&request)?;
            client.wait_for(&name, state, PATIENCE).map(drop)
        })
    }
}

/// Runs blocking work with the supervisor, whose refusals become the world's.
fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, SupervisorError> + Send + 'static) -> Answer<T> {
    async move {
        let done = tokio::task::spawn_blocking(work).await;
        match done.map_err(|error| MachineError::Failed(error.to_string()))? {
            Ok(found) => Ok(found),
            Err(SupervisorError::Refused(refusal)) => Err(refusal),
            Err(other) => Err(MachineError::Failed(other.to_string())),
        }
    }
    .boxed()
}

fn unsupported(result: Result<(), String>) -> Result<(), MachineError> {
    result.map_err(MachineError::Unsupported)
}

const NO_TORN_WRITES: &str = "on a real disk a power cut loses what was not synced, but tears no write: play torn writes in \
                              the virtual world";
const NO_CLOCK_OFFSET: &str = "a machine on this kernel has the host's wall clock (time namespaces do not cover it): play \
                               clock skew in the virtual world";

/// What machines of this host can do whose inits keep these services; there need not be any yet.
///
/// # Errors
/// They cannot do it, and why.
pub fn supports(services: &BTreeSet<String>, ability: &Ability<'_>) -> Result<(), MachineError> {
    match ability {
        Ability::Link(effect) => unsupported(probe::supports(*effect)),
        Ability::Pressure(Pressure::SlowDisk { .. }) => unsupported(slow_disk::supported()),
        Ability::Signal(Program::Container(_), Signal::Stop | Signal::Start) => {
            Err(MachineError::Unsupported("containers are started by the kubelet alone: kill or pause them".to_owned()))
        }
        Ability::Signal(Program::Service(name), _) if !services.contains(name) => {
            let known: Vec<&str> = services.iter().map(String::as_str).collect();
            Err(MachineError::Unsupported(format!("the machines have no service {name:?}; there is {}", known.join(", "))))
        }
        Ability::Pressure(_) | Ability::Signal(..) => Ok(()),
        Ability::Hang => unsupported(doctor::freezer()),
        Ability::ClockOffset => Err(MachineError::Unsupported(NO_CLOCK_OFFSET.to_owned())),
        Ability::TornWrites => Err(MachineError::Unsupported(NO_TORN_WRITES.to_owned())),
    }
}

impl Machines for SupervisedMachines {
    fn list(&self) -> Answer<Vec<MachineInfo>> {
        let status = self.status();
        async move {
            let mut machines: Vec<MachineInfo> = status.await?.machines.iter().map(info).collect();
            machines.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(machines)
        }
        .boxed()
    }

    fn supports(&self, ability: &Ability<'_>) -> Result<(), MachineError> {
        supports(&self.services, ability)
    }

    fn power_off(&self, name: &str, torn: bool) -> Answer<()> {
        if torn {
            return futures::future::ready(self.supports(&Ability::TornWrites)).boxed();
        }
        self.request(Request::Off { machine: name.to_owned() })
    }

    fn power_on(&self, name: &str) -> Answer<()> {
        self.request_and_wait(Request::On { machine: name.to_owned() }, name, State::Running)
    }

    fn reset(&self, name: &str) -> Answer<()> {
        self.request_and_wait(Request::Reset { machine: name.to_owned() }, name, State::Running)
    }

    fn shutdown(&self, name: &str) -> Answer<()> {
        self.request_and_wait(Request::Shutdown { machine: name.to_owned() }, name, State::Off)
    }

    fn reboot(&self, name: &str) -> Answer<()> {
        self.request_and_wait(Request::Reboot { machine: name.to_owned() }, name, State::Running)
    }

    fn hang(&self, name: &str) -> Answer<()> {
        self.request(Request::Hang { machine: name.to_owned() })
    }

    fn resume(&self, name: &str) -> Answer<()> {
        self.request(Request::Resume { machine: name.to_owned() })
    }

    fn set_link_faults(&self, faults: Vec<LinkFault>) -> Answer<()> {
        self.request(Request::SetLinkFaults { faults })
    }

    fn press(&self, name: &str, pressure: Pressure) -> Answer<PressureId> {
        let name = name.to_owned();
        self.ask(move |client| {
            let id = client.press(&name, pressure)?;
            if let Pressure::SlowDisk { .. } = pressure {
                // In force when the supervisor answers; no program inside the machine has a part in it.
                return Ok(id);
            }
            let set_in = await_pressure(client, &name, id);
            if set_in.is_err() {
                // The first error is the one to report.
                let _ = client.ask(&Request::Release { machine: name, id });
            }
            set_in.map(|()| id)
        })
    }

    fn release(&self, name: &str, id: PressureId) -> Answer<()> {
        let name = name.to_owned();
        self.ask(move |client| {
            client.ask(&Request::Release { machine: name.clone(), id })?;
            let end = Instant::now() + PRESSURE_PATIENCE;
            while Instant::now() < end && state_of(client, &name, id)?.is_some() {
                std::thread::sleep(STEP);
            }
            Ok(())
        })
    }

    fn signal(&self, name: &str, program: &Program, signal: Signal) -> Answer<()> {
        self.request(Request::Signal { machine: name.to_owned(), program: program.clone(), signal })
    }

    fn set_clock_offset(&self, _: &str, offset_ms: i64) -> Answer<()> {
        let result = if offset_ms == 0 { Ok(()) } else { self.supports(&Ability::ClockOffset) };
        futures::future::ready(result).boxed()
    }

    fn net(&self, name: Option<&str>) -> Result<Arc<dyn Net>, MachineError> {
        Ok(match name {
            Some(name) => Arc::new(MachineNet::new(self.clone(), name)),
            None => Arc::new(LinuxNet),
        })
    }

    fn living_containers(&self, name: &str) -> Answer<BTreeSet<String>> {
        let (name, directory) = (name.to_owned(), cgroup::cluster_directory(&self.root, &self.cluster));
        self.ask(move |client| {
            // An unknown machine is refused, not empty.
            client.find(&name)?;
            let failed = |error: io::Error| MachineError::Failed(format!("listing the containers of {name}: {error}"));
            let group = cgroup::of_machine(&directory, &name).map_err(failed)?;
            Ok(group.map(|group| containers::living(&group)).unwrap_or_default())
        })
    }
}

fn info(machine: &MachineStatus) -> MachineInfo {
    MachineInfo {
        name: machine.name.clone(),
        address: machine.address.into(),
        power: match machine.state {
            State::Off | State::Restarting => PowerState::Off,
            State::Booting | State::Running | State::Stopping => PowerState::On,
            State::Hung => PowerState::Hung,
        },
        cpu_millis: machine.cpu_millis,
        memory_bytes: machine.memory_bytes,
    }
}

/// Waits until a pressure has set in.
fn await_pressure(client: &mut Client, name: &str, id: PressureId) -> Result<(), SupervisorError> {
    let failed = |problem: &str| Err(MachineError::Failed(format!("{name}: {problem}")).into());
    let end = Instant::now() + PRESSURE_PATIENCE;
    while Instant::now() < end {
        match state_of(client, name, id)?.as_deref() {
            Some("ok") => return Ok(()),
            Some("") => {}
            Some(problem) => return failed(problem),
            None if client.find(name)?.state != State::Running => return failed("the machine stopped on the way"),
            None => {}
        }
        std::thread::sleep(STEP);
    }
    failed(&format!("the effect has not set in after {PRESSURE_PATIENCE:?}"))
}

/// What the state file of a pressure says; `None` where there is none, or no machine that could have one.
fn state_of(client: &mut Client, name: &str, id: PressureId) -> Result<Option<String>, SupervisorError> {
    let machine = client.find(name)?;
    if machine.state != State::Running {
        return Ok(None);
    }
    Ok(machine.file(&ballast::state_file(id)).and_then(|path| std::fs::read_to_string(path).ok()))
}
