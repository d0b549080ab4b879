//! Machines that do nothing but remember what was asked of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use daruma_world::machines::{
    Ability, LinkFault, MachineError, MachineInfo, Machines, PowerState, Pressure, PressureId, Program, Signal,
};
use daruma_world::{Net, World};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};

type Answer<T> = BoxFuture<'static, Result<T, MachineError>>;

/// Clones share what they remember.
#[derive(Clone)]
pub struct FakeMachines {
    world: World,
    state: Arc<Mutex<State>>,
}

struct State {
    powers: BTreeMap<String, PowerState>,
    /// What was asked, in order.
    asked: Vec<String>,
    links: usize,
    /// What cannot be done.
    unsupported: Option<&'static str>,
}

impl FakeMachines {
    pub fn new(world: &World) -> Self {
        let names = ["controller-0", "worker-0", "worker-1"];
        let powers = names.map(|name| (name.to_owned(), PowerState::On)).into();
        let state = State { powers, asked: Vec::new(), links: 0, unsupported: None };
        Self { world: world.clone(), state: Arc::new(Mutex::new(state)) }
    }

    /// What was asked so far.
    pub fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    /// Faults of links in force.
    pub fn links(&self) -> usize {
        self.state.lock().unwrap().links
    }

    /// From now on nothing is supported, for this reason.
    pub fn refuse(&self, why: &'static str) {
        self.state.lock().unwrap().unsupported = Some(why);
    }

    fn asked(&self, what: String) {
        self.state.lock().unwrap().asked.push(what);
    }

    fn power(&self, name: &str, what: &str, power: PowerState) -> Answer<()> {
        self.asked(format!("{what} {name}"));
        self.state.lock().unwrap().powers.insert(name.to_owned(), power);
        ready(Ok(())).boxed()
    }
}

impl Machines for FakeMachines {
    fn list(&self) -> Answer<Vec<MachineInfo>> {
        let powers = self.state.lock().unwrap().powers.clone();
        let info = |(name, power)| MachineInfo {
            name,
            address: daruma_sim::OUTSIDE_ADDRESS.into(),
            power,
            cpu_millis: 2000,
            memory_bytes: 1 << 30,
        };
        ready(Ok(powers.into_iter().map(info).collect())).boxed()
    }

    fn supports(&self, ability: &Ability<'_>) -> Result<(), MachineError> {
        // As real machines, whose kubelet is their container engine.
        if let Ability::Signal(Program::Service(name), _) = ability
            && name != "kubelet"
        {
            return Err(MachineError::Unsupported(format!("no service {name}")));
        }
        match self.state.lock().unwrap().unsupported {
            Some(why) => Err(MachineError::Unsupported(why.to_owned())),
            None => Ok(()),
        }
    }

    fn power_off(&self, name: &str, _: bool) -> Answer<()> {
        self.power(name, "power off", PowerState::Off)
    }
    fn power_on(&self, name: &str) -> Answer<()> {
        self.power(name, "power on", PowerState::On)
    }
    fn reset(&self, name: &str) -> Answer<()> {
        self.power(name, "reset", PowerState::On)
    }
    fn shutdown(&self, name: &str) -> Answer<()> {
        self.power(name, "shutdown", PowerState::Off)
    }
    fn reboot(&self, name: &str) -> Answer<()> {
        self.power(name, "reboot", PowerState::On)
    }
    fn hang(&self, name: &str) -> Answer<()> {
        self.power(name, "hang", PowerState::Hung)
    }
    fn resume(&self, name: &str) -> Answer<()> {
        self.power(name, "resume", PowerState::On)
    }

    fn set_link_faults(&self, faults: Vec<LinkFault>) -> Answer<()> {
        self.asked(format!("{} link faults", faults.len()));
        self.state.lock().unwrap().links = faults.len();
        ready(Ok(())).boxed()
    }

    fn press(&self, name: &str, pressure: Pressure) -> Answer<PressureId> {
        self.asked(format!("press {name} {pressure:?}"));
        ready(Ok(7)).boxed()
    }
    fn release(&self, name: &str, id: PressureId) -> Answer<()> {
        self.asked(format!("release {name} {id}"));
        ready(Ok(())).boxed()
    }

    fn signal(&self, name: &str, program: &Program, signal: Signal) -> Answer<()> {
        self.asked(format!("{signal:?} {program:?} on {name}"));
        ready(Ok(())).boxed()
    }

    fn set_clock_offset(&self, name: &str, offset_ms: i64) -> Answer<()> {
        self.asked(format!("clock of {name} {offset_ms}"));
        ready(Ok(())).boxed()
    }

    fn net(&self, _: Option<&str>) -> Result<Arc<dyn Net>, MachineError> {
        Ok(self.world.net.clone())
    }

    fn living_containers(&self, _: &str) -> Answer<BTreeSet<String>> {
        ready(Ok(["c1".to_owned(), "ghost".to_owned()].into())).boxed()
    }
}
