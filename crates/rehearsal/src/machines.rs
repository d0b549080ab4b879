//! The hand on the switches, with every act on the record.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use daruma_world::machines::{Ability, LinkFault, MachineError, MachineInfo, Machines, Pressure, PressureId, Program, Signal};
use daruma_world::{Net, World};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::event_log::EventLog;

type Answer<T> = BoxFuture<'static, Result<T, MachineError>>;

/// Notes what is done to the machines, and when it has taken effect.
pub struct LoggedMachines {
    machines: Arc<dyn Machines>,
    world: World,
    log: EventLog,
}

impl LoggedMachines {
    /// Notes at the time of `world`.
    pub fn new(machines: Arc<dyn Machines>, world: &World, log: &EventLog) -> Self {
        Self { machines, world: world.clone(), log: log.clone() }
    }

    fn note<T: Debug + Send + 'static>(&self, what: String, act: Answer<T>) -> Answer<T> {
        let (world, log) = (self.world.clone(), self.log.clone());
        async move {
            log.act(world.monotonic(), what.clone());
            let answer = act.await;
            match &answer {
                Ok(_) => log.act(world.monotonic(), format!("done: {what}")),
                Err(error) => log.act(world.monotonic(), format!("failed: {what}: {error}")),
            }
            answer
        }
        .boxed()
    }
}

impl Machines for LoggedMachines {
    fn list(&self) -> Answer<Vec<MachineInfo>> {
        let listed = self.machines.list();
        async move {
            let mut machines = listed.await?;
            machines.retain(|machine| machine.name != crate::load_balancer::MACHINE);
            Ok(machines)
        }
        .boxed()
    }

    fn supports(&self, ability: &Ability<'_>) -> Result<(), MachineError> {
        self.machines.supports(ability)
    }

    fn power_off(&self, name: &str, torn: bool) -> Answer<()> {
        let how = if torn { ", tearing what is being written" } else { "" };
        self.note(format!("power off {name}{how}"), self.machines.power_off(name, torn))
    }

    fn power_on(&self, name: &str) -> Answer<()> {
        self.note(format!("power on {name}"), self.machines.power_on(name))
    }

    fn reset(&self, name: &str) -> Answer<()> {
        self.note(format!("reset {name}"), self.machines.reset(name))
    }

    fn shutdown(&self, name: &str) -> Answer<()> {
        self.note(format!("shut down {name}"), self.machines.shutdown(name))
    }

    fn reboot(&self, name: &str) -> Answer<()> {
        self.note(format!("reboot {name}"), self.machines.reboot(name))
    }

    fn hang(&self, name: &str) -> Answer<()> {
        self.note(format!("hang {name}"), self.machines.hang(name))
    }

    fn resume(&self, name: &str) -> Answer<()> {
        self.note(format!("resume {name}"), self.machines.resume(name))
    }

    fn set_link_faults(&self, faults: Vec<LinkFault>) -> Answer<()> {
        self.note(format!("link faults {faults:?}"), self.machines.set_link_faults(faults))
    }

    fn press(&self, name: &str, pressure: Pressure) -> Answer<PressureId> {
        self.note(format!("press {name} {pressure:?}"), self.machines.press(name, pressure))
    }

    fn release(&self, name: &str, id: PressureId) -> Answer<()> {
        self.note(format!("release {name} {id}"), self.machines.release(name, id))
    }

    fn signal(&self, name: &str, program: &Program, signal: Signal) -> Answer<()> {
        self.note(format!("signal {name} {program:?} {signal:?}"), self.machines.signal(name, program, signal))
    }

    fn set_clock_offset(&self, name: &str, offset_ms: i64) -> Answer<()> {
        self.note(format!("clock of {name} {offset_ms} ms"), self.machines.set_clock_offset(name, offset_ms))
    }

    fn net(&self, name: Option<&str>) -> Result<Arc<dyn Net>, MachineError> {
        self.machines.net(name)
    }

    fn living_containers(&self, name: &str) -> Answer<BTreeSet<String>> {
        self.machines.living_containers(name)
    }
}
