//! The switches of the simulated machines, for those who ask at the process's socket.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use daruma_cluster::simulated;
use daruma_host::machine::link_faults;
use daruma_host::supervisor::{Faults, PressureStatus, ProgramStatus};
use daruma_sim::Injector;
use daruma_world::machines::{MachineError, Machines, PowerState, Pressure, Program, Signal};
use futures::FutureExt;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

use super::clock::Clocks;
use super::fleet::Power;
use super::protocol::{Reply, Request, Status, Switch};

/// A machine that is to come or to go, for the thread that runs the universe.
pub struct Order {
    /// Its number.
    pub number: u32,
    /// Whether it is to be there afterwards.
    pub there: bool,
    /// Where the outcome goes.
    pub done: oneshot::Sender<Result<(), MachineError>>,
}

/// The machines, and what was broken of them.
pub struct Switches {
    machines: Arc<dyn Machines>,
    clocks: Arc<Clocks>,
    power: Power,
    injector: Injector,
    orders: mpsc::Sender<Order>,
    faults: Mutex<Faults>,
}

impl Switches {
    /// Nothing is broken at first.
    pub fn new(power: Power, injector: &Injector, orders: mpsc::Sender<Order>) -> Self {
        let (machines, clocks) = (power.machines.clone(), power.clocks.clone());
        Self { machines, clocks, power, injector: injector.clone(), orders, faults: Mutex::default() }
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is asked. Runs in the universe: much of it takes simulated time.
    async fn obey(&self, request: Request) -> Result<Reply, MachineError> {
        match request {
            Request::Status => Ok(Reply::Status(self.status().await?)),
            Request::Add(numbers) => self.add(numbers).await.map(|()| Reply::Done),
            Request::Remove(machine) => self.remove(&machine).await.map(|()| Reply::Done),
            Request::Switch(machine, switch) => self.switch(&machine, switch).await.map(|()| Reply::Done),
            Request::Links(links) => {
                self.machines.set_link_faults(links.clone()).await?;
                self.faults().links = links;
                Ok(Reply::Done)
            }
            Request::Press(machine, pressure) => {
                let id = self.machines.press(&machine, pressure).await?;
                self.faults().pressures.push(PressureStatus { id, machine, pressure });
                Ok(Reply::Pressed(id))
            }
            Request::Release(machine, id) => {
                self.machines.release(&machine, id).await?;
                self.faults().pressures.retain(|held| held.machine != machine || held.id != id);
                Ok(Reply::Done)
            }
            Request::Signal(machine, program, signal) => {
                self.machines.signal(&machine, &program, signal).await?;
                note_signal(&mut self.faults().programs, machine, program, signal);
                Ok(Reply::Done)
            }
            Request::Clock(machine, wrong_ms) => self.clocks.set(&machine, wrong_ms).await.map(|()| Reply::Done),
            Request::Containers(machine) => self.machines.living_containers(&machine).await.map(Reply::Containers),
            Request::Undo => self.undo().await.map(Reply::Undone),
        }
    }

    async fn add(&self, numbers: Vec<u32>) -> Result<(), MachineError> {
        let there: BTreeSet<String> = self.machines.list().await?.into_iter().map(|machine| machine.name).collect();
        let mut names = Vec::new();
        for number in numbers {
            let name = simulated::name(number);
            if !there.contains(&name) {
                self.order(number, true).await?;
                names.push(name);
            }
        }
        let power = self.power.clone();
        self.power.world.spawn("power on", async move { power.on(names).await });
        Ok(())
    }

    async fn remove(&self, machine: &str) -> Result<(), MachineError> {
        let unknown = || MachineError::Unknown { name: machine.to_owned(), known: "those of simulated nodes".to_owned() };
        self.order(simulated::number(machine).ok_or_else(unknown)?, false).await?;
        self.clocks.forget(machine);
        let links = link_faults::without(&self.faults().links, machine);
        {
            let mut faults = self.faults();
            faults.programs.retain(|held| held.machine != machine);
            faults.pressures.retain(|held| held.machine != machine);
            faults.links.clone_from(&links);
        }
        self.machines.set_link_faults(links).await
    }

    async fn order(&self, number: u32, there: bool) -> Result<(), MachineError> {
        let (done, outcome) = oneshot::channel();
        let ended = || MachineError::Failed("the process is ending".to_owned());
        self.orders.send(Order { number, there, done }).map_err(|_| ended())?;
        outcome.await.map_err(|_| ended())?
    }

    async fn status(&self) -> Result<Status, MachineError> {
        let mut machines = self.machines.list().await?;
        // The gateway bears a real machine's name.
        machines.retain(|machine| simulated::is_name(&machine.name));
        Ok(Status { pid: std::process::id(), machines, faults: self.faults().clone() })
    }

    async fn switch(&self, machine: &str, switch: Switch) -> Result<(), MachineError> {
        if !matches!(switch, Switch::On | Switch::Hang | Switch::Resume) {
            forget_volatile(&mut self.faults(), machine);
        }
        match switch {
            Switch::Off => self.machines.power_off(machine, false).await,
            Switch::OffTorn => self.machines.power_off(machine, true).await,
            Switch::On => self.machines.power_on(machine).await,
            Switch::Reset => self.machines.reset(machine).await,
            Switch::Shutdown => self.machines.shutdown(machine).await,
            Switch::Reboot => self.machines.reboot(machine).await,
            Switch::Hang => self.machines.hang(machine).await,
            Switch::Resume => self.machines.resume(machine).await,
        }
    }

    /// Goes on after errors and returns the first.
    async fn undo(&self) -> Result<Vec<String>, MachineError> {
        let status = self.status().await?;
        let mut done = Vec::new();
        let mut first = Ok(());
        let mut note = |what: String, result: Result<Reply, MachineError>| match result {
            Ok(_) => done.push(what),
            Err(error) if first.is_ok() => first = Err(error),
            Err(_) => {}
        };
        if !status.faults.links.is_empty() {
            note("mended the links of simulated nodes".to_owned(), Box::pin(self.obey(Request::Links(Vec::new()))).await);
        }
        for hung in status.machines.iter().filter(|machine| machine.power == PowerState::Hung) {
            let resumed = self.switch(&hung.name, Switch::Resume).await.map(|()| Reply::Done);
            note(format!("let {} go on", hung.name), resumed);
        }
        for held in status.faults.programs {
            let what = format!("{:?}: {:?} on {}", held.undo, held.program, held.machine);
            note(what, Box::pin(self.obey(Request::Signal(held.machine, held.program, held.undo))).await);
        }
        for held in status.faults.pressures {
            let what = format!("released {:?} on {}", held.pressure, held.machine);
            note(what, Box::pin(self.obey(Request::Release(held.machine, held.id))).await);
        }
        first.map(|()| done)
    }
}

/// Without power, only files are left of what uses a machine up.
fn forget_volatile(faults: &mut Faults, machine: &str) {
    faults.programs.retain(|held| held.machine != machine);
    let stays = |pressure: &Pressure| matches!(pressure, Pressure::Disk { .. } | Pressure::Inodes { .. });
    faults.pressures.retain(|held| held.machine != machine || stays(&held.pressure));
}

fn note_signal(held: &mut Vec<ProgramStatus>, machine: String, program: Program, signal: Signal) {
    held.retain(|other| other.machine != machine || other.program != program);
    let undo = match signal {
        Signal::Pause => Signal::Continue,
        Signal::Stop => Signal::Start,
        Signal::Kill | Signal::Terminate | Signal::Continue | Signal::Start => return,
    };
    held.push(ProgramStatus { machine, program, undo });
}

/// Answers at the socket until the process ends.
pub async fn serve(listener: UnixListener, switches: Arc<Switches>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let switches = switches.clone();
                tokio::spawn(async move {
                    // A caller that went away, or talks nonsense, gets no answer.
                    let _ = answer(stream, switches).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a request");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, switches: Arc<Switches>) -> anyhow::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        let request: Request = serde_json::from_str(&line)?;
        let (sender, reply) = oneshot::channel();
        let working = switches.clone();
        let work = async move {
            let reply = working.obey(request).await.unwrap_or_else(Reply::Error);
            // Whoever asked may be gone.
            let _ = sender.send(reply);
        };
        switches.injector.inject(work.boxed());
        let mut line = serde_json::to_vec(&reply.await?)?;
        line.push(b'\n');
        writer.write_all(&line).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_kept_until_they_are_taken_back() {
        let kubelet = || Program::Service("kubelet".into());
        let mut held = Vec::new();
        let check = |held: &mut Vec<ProgramStatus>, signal: Signal, wanted: Option<Signal>| {
            note_signal(held, "simulated-0".into(), kubelet(), signal);
            assert_eq!(held.iter().map(|one| one.undo).collect::<Vec<_>>(), Vec::from_iter(wanted), "{signal:?}");
        };
        check(&mut held, Signal::Stop, Some(Signal::Start));
        check(&mut held, Signal::Pause, Some(Signal::Continue));
        check(&mut held, Signal::Kill, None);
        check(&mut held, Signal::Stop, Some(Signal::Start));
        let pressure = |id, machine: &str, pressure| PressureStatus { id, machine: machine.into(), pressure };
        let pressures = vec![
            pressure(1, "simulated-0", Pressure::Cpu { processes: 1 }),
            pressure(2, "simulated-0", Pressure::Inodes { leave: 1 }),
            pressure(3, "simulated-1", Pressure::Cpu { processes: 1 }),
        ];
        let mut faults = Faults { programs: held, pressures, links: Vec::new() };
        forget_volatile(&mut faults, "simulated-0");
        assert_eq!(faults.pressures.iter().map(|held| held.id).collect::<Vec<_>>(), [2, 3]);
        assert!(faults.programs.is_empty());
    }
}
