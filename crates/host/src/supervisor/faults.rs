//! Faults of links, of machines' resources and of programs.

use daruma_world::machines::{LinkFault, MachineError as Refusal, Pressure, PressureId, Program, Signal};

use super::SupervisorError;
use super::cluster::Cluster;
use super::protocol::State;
use crate::machine::orders::What;
use crate::machine::power::Running;
use crate::machine::{Doing, containers, link_faults, slow_disk};

impl Cluster {
    /// Replaces all faults of links, or changes nothing.
    pub(super) fn set_link_faults(&mut self, faults: Vec<LinkFault>) -> Result<(), SupervisorError> {
        for fault in &faults {
            link_faults::check(fault).map_err(Refusal::State)?;
            for name in [&fault.from, &fault.to].into_iter().flatten().flatten() {
                self.find(name)?;
            }
        }
        self.switch.set_link_faults(faults)?;
        self.save();
        Ok(())
    }

    /// Starts to use a machine up.
    pub(super) fn press(&mut self, name: &str, pressure: Pressure) -> Result<PressureId, SupervisorError> {
        let id = self.journal.draw();
        if let Pressure::SlowDisk { .. } = pressure {
            slow_disk::supported().map_err(Refusal::Unsupported)?;
            self.running(name)?;
            self.journal.add(id, name, pressure);
            let index = self.find(name)?;
            if let Err(error) = self.slow_disk_as_recorded(index) {
                self.journal.take(name, id);
                // What was half done is taken back; the first error is the one to report.
                let _ = self.slow_disk_as_recorded(index);
                return Err(error);
            }
            self.save();
            return Ok(id);
        }
        let problem = self.running(name)?.order(What::Press { id, pressure })?;
        if let Some(problem) = problem {
            return Err(Refusal::Failed(format!("{name}: {problem}")).into());
        }
        self.journal.add(id, name, pressure);
        self.save();
        Ok(id)
    }

    /// Ends that. A machine that hangs does it when it goes on, one that is off when it is switched on.
    pub(super) fn release(&mut self, name: &str, id: PressureId) -> Result<(), SupervisorError> {
        let index = self.find(name)?;
        let Some(pressure) = self.journal.take(name, id) else { return Ok(()) };
        self.save();
        if let Pressure::SlowDisk { .. } = pressure {
            return self.slow_disk_as_recorded(index);
        }
        if let Some(running) = &mut self.machines[index].running {
            running.leave_order(What::Release { id })?;
        }
        Ok(())
    }

    /// Sets the disk's slowness to the sum of all that is on record.
    fn slow_disk_as_recorded(&mut self, index: usize) -> Result<(), SupervisorError> {
        let machine = &mut self.machines[index];
        let delay = self.journal.disk_delay(&machine.spec.name);
        match &mut machine.running {
            Some(running) => Ok(running.slow_disk(Some(delay).filter(|delay| !delay.is_zero()))?),
            None => Ok(()),
        }
    }

    /// Sends a signal to a program.
    pub(super) fn signal(&mut self, name: &str, program: &Program, signal: Signal) -> Result<(), SupervisorError> {
        let running = self.running(name)?;
        match program {
            Program::Service(service) => {
                if let Some(problem) = running.order(What::Signal { service: service.clone(), signal })? {
                    return Err(Refusal::State(format!("{name}: {problem}")).into());
                }
            }
            Program::Container(id) => signal_container(running, name, id, signal)?,
        }
        self.journal.signalled(name, program, signal);
        self.save();
        Ok(())
    }

    /// A machine that can hear.
    fn running(&mut self, name: &str) -> Result<&mut Running, SupervisorError> {
        let index = self.find(name)?;
        let machine = &mut self.machines[index];
        let refused = |text: String| Err(Refusal::State(text).into());
        match (machine.state, &mut machine.running) {
            (State::Running, Some(running)) => Ok(running),
            (State::Hung, _) => refused(format!("{name} is hung: nothing in it moves; resume it first")),
            (State::Booting, _) => refused(format!("{name} is booting; try again in a moment")),
            (state, _) => refused(format!("{name} is {state}")),
        }
    }
}

fn signal_container(running: &Running, name: &str, id: &str, signal: Signal) -> Result<(), SupervisorError> {
    if matches!(signal, Signal::Stop | Signal::Start) {
        return Err(Refusal::Unsupported("containers are started by the kubelet alone: kill or pause them".to_owned()).into());
    }
    let none = || Refusal::State(format!("{name} has no living container {id:?}"));
    let group = containers::find(running.group(), id).ok_or_else(none)?;
    let reached = containers::signal(&group, signal).doing(|| format!("signalling container {id}"))?;
    if reached { Ok(()) } else { Err(none().into()) }
}
