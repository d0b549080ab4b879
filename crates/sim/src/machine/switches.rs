//! [`Machines`] of a universe: the hand on the switches.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daruma_world::Net;
use daruma_world::machines::{
    Ability, LinkEffect, LinkFault, MachineError, MachineInfo, Machines, PowerState, Pressure, PressureId, Program, Signal,
};
use daruma_world::net::{Datagrams, Listener, Stream};
use futures::FutureExt;
use futures::future::{BoxFuture, ready, select};

use super::{Hull, engine};
use crate::clock::Sleep;
use crate::handle::Handle;
use crate::network::Fault;
use crate::universe::Inner;

type Answer<T> = BoxFuture<'static, Result<T, MachineError>>;

/// What containers get between SIGTERM and SIGKILL when a machine goes down, as on real machines.
const CONTAINER_GRACE: Duration = Duration::from_secs(3);

/// See the module.
pub(crate) struct VirtualMachines {
    universe: Arc<Inner>,
}

impl VirtualMachines {
    pub(crate) fn new(universe: Arc<Inner>) -> Self {
        Self { universe }
    }

    /// Does `work` when the call is polled.
    fn at_once<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&Arc<Hull>) -> Result<T, MachineError> + Send + 'static,
    ) -> Answer<T> {
        let (universe, name) = (self.universe.clone(), name.to_owned());
        async move { work(&universe.find(&name)?) }.boxed()
    }

    fn numbers(&self, names: Option<BTreeSet<String>>) -> Result<Option<BTreeSet<u32>>, MachineError> {
        let number = |name: &String| self.universe.find(name).map(|hull| hull.index());
        names.map(|names| names.iter().map(number).collect()).transpose()
    }

    fn compiled(&self, fault: LinkFault) -> Result<Fault, MachineError> {
        if let LinkEffect::Loss(percent) = fault.effect
            && !(0.0..=100.0).contains(&percent)
        {
            return Err(MachineError::Unsupported(format!("a loss of {percent} % is not between 0 and 100")));
        }
        Ok(Fault::new(self.numbers(fault.from)?, self.numbers(fault.to)?, fault.effect))
    }
}

/// Ends everything on a machine in order, then turns it off.
async fn go_down(hull: &Arc<Hull>) -> Result<(), MachineError> {
    let machine = hull.running()?;
    if hull.power() == PowerState::Hung {
        return Err(MachineError::State(format!("{} hangs and hears nothing", hull.name())));
    }
    let init = machine.init();
    let ending = async {
        machine.inner.services.stop_all(&init).await;
        let engine = machine.engine();
        for id in engine.living() {
            // One that cannot be asked is ended with the power.
            let _ = engine.signal(&id, Signal::Terminate);
        }
        let until = hull.core.now_ns() + CONTAINER_GRACE.as_nanos() as u64;
        while hull.core.now_ns() < until && !engine.living().is_empty() {
            Sleep::new(&init.inner, Duration::from_millis(100)).await;
        }
    };
    let ending = std::pin::pin!(ending);
    // Somebody may pull the plug meanwhile.
    select(ending, init.ended()).await;
    if init.is_dead() { Ok(()) } else { hull.power_down() }
}

/// The time that a machine needs from power to init.
async fn boot_time(hull: &Arc<Hull>) {
    Sleep::new(&hull.outside().inner, hull.spec.boot_time).await;
}

/// Power after the boot time, unless somebody was faster.
async fn come_back(hull: &Arc<Hull>) -> Result<(), MachineError> {
    boot_time(hull).await;
    if hull.power() == PowerState::Off { hull.power_on() } else { Ok(()) }
}

/// Runs to its end even where whoever asked stops waiting: a button is pressed once.
fn button(hull: Arc<Hull>, press: impl FnOnce(Arc<Hull>) -> Answer<()>) -> Answer<()> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let outside = hull.outside().clone();
    let pressed = press(hull);
    outside.spawn("switch", async move {
        // Nobody may be waiting any more.
        let _ = sender.send(pressed.await);
    });
    async move { receiver.await.unwrap_or_else(|_| Err(MachineError::Failed("the world has ended".into()))) }.boxed()
}

/// What simulated machines can do.
///
/// # Errors
/// They cannot do it, and why.
pub fn supports(ability: &Ability<'_>) -> Result<(), MachineError> {
    match ability {
        Ability::Signal(Program::Container(_), Signal::Stop | Signal::Start) => {
            Err(MachineError::Unsupported("containers are started by the kubelet alone: kill or pause them".to_owned()))
        }
        _ => Ok(()),
    }
}

impl Machines for VirtualMachines {
    fn list(&self) -> Answer<Vec<MachineInfo>> {
        let universe = self.universe.clone();
        async move { Ok(universe.all().iter().map(|hull| hull.info()).collect()) }.boxed()
    }

    fn supports(&self, ability: &Ability<'_>) -> Result<(), MachineError> {
        supports(ability)
    }

    fn power_off(&self, name: &str, torn: bool) -> Answer<()> {
        self.at_once(name, move |hull| hull.power_off(torn))
    }

    fn power_on(&self, name: &str) -> Answer<()> {
        self.at_once(name, Hull::power_on)
    }

    fn reset(&self, name: &str) -> Answer<()> {
        let (universe, name) = (self.universe.clone(), name.to_owned());
        async move {
            let hull = universe.find(&name)?;
            hull.power_off(false)?;
            button(hull, |hull| async move { come_back(&hull).await }.boxed()).await
        }
        .boxed()
    }

    fn shutdown(&self, name: &str) -> Answer<()> {
        let (universe, name) = (self.universe.clone(), name.to_owned());
        async move {
            let hull = universe.find(&name)?;
            button(hull, |hull| async move { go_down(&hull).await }.boxed()).await
        }
        .boxed()
    }

    fn reboot(&self, name: &str) -> Answer<()> {
        let (universe, name) = (self.universe.clone(), name.to_owned());
        async move {
            let hull = universe.find(&name)?;
            let press = |hull: Arc<Hull>| {
                async move {
                    go_down(&hull).await?;
                    come_back(&hull).await
                }
                .boxed()
            };
            button(hull, press).await
        }
        .boxed()
    }

    fn hang(&self, name: &str) -> Answer<()> {
        self.at_once(name, |hull| hull.hang())
    }

    fn resume(&self, name: &str) -> Answer<()> {
        self.at_once(name, |hull| hull.resume())
    }

    fn set_link_faults(&self, faults: Vec<LinkFault>) -> Answer<()> {
        let faults: Result<Vec<Fault>, MachineError> = faults.into_iter().map(|fault| self.compiled(fault)).collect();
        let universe = self.universe.clone();
        async move {
            universe.network.set_faults(faults?);
            universe.outside.disturb();
            Ok(())
        }
        .boxed()
    }

    fn press(&self, name: &str, pressure: Pressure) -> Answer<PressureId> {
        self.at_once(name, move |hull| hull.press(pressure))
    }

    fn release(&self, name: &str, id: PressureId) -> Answer<()> {
        self.at_once(name, move |hull| {
            hull.release(id);
            Ok(())
        })
    }

    fn signal(&self, name: &str, program: &Program, signal: Signal) -> Answer<()> {
        if let Err(error) = self.supports(&Ability::Signal(program, signal)) {
            return ready(Err(error)).boxed();
        }
        let (universe, name, program) = (self.universe.clone(), name.to_owned(), program.clone());
        async move {
            let machine = universe.find(&name)?.running()?;
            match program {
                Program::Service(service) if service == engine::SERVICE => {
                    machine.engine().control(signal);
                    Ok(())
                }
                Program::Service(service) => machine.inner.services.signal(&machine.inner.scope, &service, signal).await,
                Program::Container(id) => machine.engine().signal(&id, signal),
            }
        }
        .boxed()
    }

    fn set_clock_offset(&self, name: &str, offset_ms: i64) -> Answer<()> {
        self.at_once(name, move |hull| {
            hull.place.set_offset_ms(offset_ms);
            Ok(())
        })
    }

    fn net(&self, name: Option<&str>) -> Result<Arc<dyn Net>, MachineError> {
        match name {
            None => Ok(Arc::new(Handle::new(self.universe.outside.inner.clone()))),
            Some(name) => Ok(Arc::new(MachineNet { hull: self.universe.find(name)? })),
        }
    }

    fn living_containers(&self, name: &str) -> Answer<BTreeSet<String>> {
        let (universe, name) = (self.universe.clone(), name.to_owned());
        async move {
            let hull = universe.find(&name)?;
            match hull.known_engine().filter(|_| hull.power() != PowerState::Off) {
                Some(engine) => Ok(engine.living()),
                None => Ok(BTreeSet::new()),
            }
        }
        .boxed()
    }
}

/// Sockets of a machine as it is when each call is made.
struct MachineNet {
    hull: Arc<Hull>,
}

impl MachineNet {
    fn handle(&self) -> io::Result<Handle> {
        let off = || io::Error::new(io::ErrorKind::NetworkDown, format!("{} is off", self.hull.name()));
        self.hull.machine().map(|machine| Handle::new(machine.inner.scope.inner.clone())).ok_or_else(off)
    }

    fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Handle) -> BoxFuture<'static, io::Result<T>>,
    ) -> BoxFuture<'static, io::Result<T>> {
        match self.handle() {
            Ok(handle) => call(&handle),
            Err(error) => ready(Err(error)).boxed(),
        }
    }
}

impl Net for MachineNet {
    fn connect(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        self.call(|handle| handle.connect(to))
    }

    fn listen(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        self.call(|handle| handle.listen(at))
    }

    fn bind_udp(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Datagrams>>> {
        self.call(|handle| handle.bind_udp(at))
    }
}
