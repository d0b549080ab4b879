//! A machine without regard to its power, and what switching it does.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use daruma_world::machines::{MachineError, MachineInfo, PowerState, Pressure, PressureId};

use super::{Boot, Machine, MachineSpec, engine};
use crate::clock::wall_clock;
use crate::containers::SimRuntime;
use crate::disk::Burden;
use crate::executor::Core;
use crate::network::{Network, Space};
use crate::place::Place;
use crate::random::{SplitMix, derived_seed};
use crate::scope::Scope;
use crate::universe;

/// A machine from its purchase to its end.
pub(crate) struct Hull {
    pub(crate) spec: MachineSpec,
    pub(crate) core: Arc<Core>,
    pub(crate) network: Arc<Network>,
    pub(crate) place: Arc<Place>,
    outside: Scope,
    space: Arc<Space>,
    boot: Boot,
    engine: OnceLock<SimRuntime>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Machine>,
    pressures: BTreeMap<PressureId, Pressure>,
    last_pressure: PressureId,
}

impl Hull {
    pub(crate) fn new(
        universe: &universe::Inner,
        place: Arc<Place>,
        space: Arc<Space>,
        spec: MachineSpec,
        boot: Boot,
    ) -> Arc<Self> {
        Arc::new(Self {
            spec,
            core: universe.core.clone(),
            network: universe.network.clone(),
            place,
            outside: universe.outside.clone(),
            space,
            boot,
            engine: OnceLock::new(),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn name(&self) -> &str {
        &self.spec.name
    }

    pub(crate) fn address(&self) -> Ipv4Addr {
        self.spec.address
    }

    pub(crate) fn answer_for(&self, address: Ipv4Addr) -> std::io::Result<()> {
        if self.network.owns(address, &self.space) { Ok(()) } else { self.network.own_address(address, &self.space) }
    }

    pub(crate) fn leave_address(&self, address: Ipv4Addr) {
        if address != self.spec.address && self.network.owns(address, &self.space) {
            self.network.disown_address(address);
        }
    }

    pub(crate) fn index(&self) -> u32 {
        self.place.index
    }

    pub(crate) fn power(&self) -> PowerState {
        self.place.power()
    }

    pub(crate) fn info(&self) -> MachineInfo {
        MachineInfo {
            name: self.spec.name.clone(),
            address: self.spec.address.into(),
            power: self.power(),
            cpu_millis: self.spec.cpu_millis,
            memory_bytes: self.spec.memory_bytes,
        }
    }

    /// A number of this machine that stays the same in every run of a seed.
    pub(crate) fn identity(&self, what: &str, ordinal: u64) -> u128 {
        let mut chance = SplitMix::new(derived_seed(self.core.seed, &format!("{}/{what}", self.spec.name), ordinal));
        (u128::from(chance.next()) << 64) | u128::from(chance.next())
    }

    /// What runs; `None` without power.
    pub(crate) fn machine(&self) -> Option<Machine> {
        self.state().current.clone()
    }

    /// What runs.
    pub(crate) fn running(&self) -> Result<Machine, MachineError> {
        self.machine().ok_or_else(|| MachineError::State(format!("{} is off", self.spec.name)))
    }

    pub(crate) fn engine(&self) -> SimRuntime {
        self.engine.get_or_init(|| engine::make(self)).clone()
    }

    /// An engine that exists already.
    pub(crate) fn known_engine(&self) -> Option<SimRuntime> {
        self.engine.get().cloned()
    }

    /// The outside's scope, for what belongs to the machine but not to one power-on.
    pub(crate) fn outside(&self) -> &Scope {
        &self.outside
    }

    pub(crate) fn power_on(self: &Arc<Self>) -> Result<(), MachineError> {
        if self.power() != PowerState::Off {
            return Err(MachineError::State(format!("{} is on already", self.spec.name)));
        }
        if self.outside.is_dead() {
            return Err(MachineError::Failed("the world has ended".into()));
        }
        let number = self.place.begin_boot();
        self.place.set_power(PowerState::On);
        self.place.disk.lay_out(self.core.now_ns(), wall_clock(self.core.now(), self.place.offset_ms()));
        let scope = self.outside.child_at(&self.spec.name, &self.place, self.space.clone());
        let machine = Machine::new(self, scope.clone(), uuid(self.identity("boot", number)));
        self.network.set_rules(self.index(), Some(machine.packet_rules()));
        self.state().current = Some(machine.clone());
        self.engine().power_on(&scope);
        scope.spawn_boxed("init", (self.boot)(machine));
        Ok(())
    }

    /// Cuts the power: from this moment on nobody hears of the machine, then everything in it ends.
    pub(crate) fn power_off(&self, torn: bool) -> Result<(), MachineError> {
        self.go_dark(|hull| hull.place.disk.power_cut(hull.core.now_ns(), torn))?;
        Ok(())
    }

    /// Turns the machine off after everything in it has ended and was synced.
    pub(crate) fn power_down(&self) -> Result<(), MachineError> {
        self.go_dark(|hull| hull.place.disk.power_down())
    }

    fn go_dark(&self, disk: impl FnOnce(&Self)) -> Result<(), MachineError> {
        if self.power() == PowerState::Off {
            return Err(MachineError::State(format!("{} is off already", self.spec.name)));
        }
        self.place.set_power(PowerState::Off);
        let current = {
            let mut state = self.state();
            state.pressures.retain(|_, pressure| matches!(pressure, Pressure::Disk { .. } | Pressure::Inodes { .. }));
            state.current.take()
        };
        if let Some(machine) = current {
            machine.inner.hardware.release_all();
            machine.inner.scope.kill();
            machine.inner.services.forget();
        }
        self.network.set_rules(self.index(), None);
        self.release_burdens();
        disk(self);
        if let Some(engine) = self.known_engine() {
            engine.power_cut();
        }
        Ok(())
    }

    pub(crate) fn hang(&self) -> Result<(), MachineError> {
        let machine = self.running()?;
        if self.power() == PowerState::Hung {
            return Err(MachineError::State(format!("{} hangs already", self.spec.name)));
        }
        self.place.set_power(PowerState::Hung);
        machine.inner.scope.pause();
        Ok(())
    }

    pub(crate) fn resume(&self) -> Result<(), MachineError> {
        let machine = self.running()?;
        if self.power() != PowerState::Hung {
            return Err(MachineError::State(format!("{} does not hang", self.spec.name)));
        }
        self.place.set_power(PowerState::On);
        machine.inner.scope.resume();
        Ok(())
    }

    pub(crate) fn press(&self, pressure: Pressure) -> Result<PressureId, MachineError> {
        let machine = self.running()?;
        let id = {
            let mut state = self.state();
            state.last_pressure += 1;
            let id = state.last_pressure;
            state.pressures.insert(id, pressure);
            id
        };
        let usage = self.place.disk.usage();
        match pressure {
            Pressure::Disk { leave_bytes } => {
                self.place.disk.press(id, Burden::Fill(usage.available_bytes.saturating_sub(leave_bytes), 1));
            }
            Pressure::Inodes { leave } => self.place.disk.press(id, Burden::Fill(0, usage.inodes_free.saturating_sub(leave))),
            Pressure::SlowDisk { delay } => self.place.disk.press(id, Burden::Slow(delay)),
            Pressure::Memory { .. } | Pressure::Cpu { .. } | Pressure::Pids { .. } => machine.inner.hardware.press(id, pressure),
        }
        Ok(id)
    }

    pub(crate) fn release(&self, id: PressureId) {
        self.state().pressures.remove(&id);
        self.place.disk.release(id);
        if let Some(machine) = self.machine() {
            machine.inner.hardware.release(id);
        }
    }

    /// Processes end with the power; files stay.
    fn release_burdens(&self) {
        let kept: Vec<PressureId> = self.state().pressures.keys().copied().collect();
        self.place.disk.retain_burdens(&kept);
    }

    /// Lets go of everything that could hold on to this one: the end of the world, or of the machine.
    pub(crate) fn forget(&self) {
        let current = self.state().current.take();
        if let Some(machine) = current {
            machine.inner.services.forget();
        }
        self.network.set_rules(self.index(), None);
        if let Some(engine) = self.known_engine() {
            engine.forget();
        }
    }
}

/// A number as a UUID is written.
pub(super) fn uuid(number: u128) -> String {
    let hex = format!("{number:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
