//! A whole virtual world: many machines, one network, one clock, one seed.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use daruma_world::World;
use daruma_world::machines::{MachineError, Machines, PowerState};
use futures::future::BoxFuture;

use crate::clock::{nanos, wall_clock};
use crate::disk::SimDisk;
use crate::executor::Core;
use crate::machine::{Boot, Hull, MachineSpec, VirtualMachines};
use crate::network::{Network, Space, SpaceKind};
use crate::place::Place;
use crate::random::derived_seed;
use crate::scope::Scope;
use crate::wire::Wire;

/// Address of those who stand outside of the cluster (of a range for documentation, RFC 5737).
pub const OUTSIDE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Size of the outside's disk.
const OUTSIDE_DISK_BYTES: u64 = 16 << 30;

/// What universe and switches share.
pub(crate) struct Inner {
    pub(crate) core: Arc<Core>,
    pub(crate) network: Arc<Network>,
    pub(crate) outside: Scope,
    hulls: Mutex<Hulls>,
}

#[derive(Default)]
struct Hulls {
    by_name: BTreeMap<String, Arc<Hull>>,
    last_index: u32,
}

impl Inner {
    fn hulls(&self) -> MutexGuard<'_, Hulls> {
        self.hulls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All machines, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Hull>> {
        self.hulls().by_name.values().cloned().collect()
    }

    /// One machine.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<Hull>, MachineError> {
        let hulls = self.hulls();
        hulls.by_name.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = hulls.by_name.keys().map(String::as_str).take(20).collect();
            let more = hulls.by_name.len() - known.len();
            let known = if more > 0 { format!("{} and {more} more", known.join(", ")) } else { known.join(", ") };
            MachineError::Unknown { name: name.to_owned(), known: if known.is_empty() { "none".into() } else { known } }
        })
    }
}

/// Ends everything when the last clone of the universe goes; that breaks the circles between tasks
/// and the worlds they hold.
struct Owner(Arc<Inner>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.outside.kill();
        let hulls = std::mem::take(&mut *self.0.hulls());
        for hull in hulls.by_name.into_values() {
            hull.forget();
        }
    }
}

/// A virtual world. Clones are the same one; it ends with the last of them, so no task within it may
/// keep one (use [`Universe::machines`] and [`Universe::wire`] there).
#[derive(Clone)]
pub struct Universe {
    inner: Arc<Inner>,
    _owner: Arc<Owner>,
}

impl Universe {
    /// A world without machines at virtual time 0. Everything that happens by chance comes from `seed`.
    pub fn new(seed: u64) -> Self {
        let core = Core::new(seed);
        let now = wall_clock(Duration::ZERO, 0);
        let disk = Arc::new(SimDisk::new(OUTSIDE_DISK_BYTES, seed, false, now));
        let place = Place::new(None, 0, OUTSIDE_ADDRESS, disk);
        let space = Space::new(&place, SpaceKind::Outside, vec![OUTSIDE_ADDRESS]);
        let network = Network::new(core.clone(), space.clone());
        network.own_address(OUTSIDE_ADDRESS, &space).expect("a new network has no addresses");
        let outside = Scope::root(&core, &network, &place, space);
        let inner = Arc::new(Inner { core, network, outside, hulls: Mutex::default() });
        Self { inner: inner.clone(), _owner: Arc::new(Owner(inner)) }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.inner.core.seed
    }

    /// The world of an observer outside of the cluster: the true clock, a disk of its own whose writes are
    /// durable at once, and sockets that reach the machines' addresses.
    pub fn outside(&self) -> World {
        self.inner.outside.world()
    }

    /// The scope of [`Universe::outside`]; killing it ends the whole world.
    pub fn outside_scope(&self) -> Scope {
        self.inner.outside.clone()
    }

    /// Virtual time since the beginning.
    pub fn now(&self) -> Duration {
        self.inner.core.now()
    }

    /// Runs until `main` completes. `main` is polled among the tasks, as one of the outside.
    ///
    /// # Panics
    /// With the seed printed: where `main` waits and no deadline is left that could wake it, where tasks
    /// wake each other for ever without the clock moving, where a task panics, and where the world is
    /// being run already.
    pub fn run<F: Future>(&self, main: F) -> F::Output {
        self.inner.core.run(main)
    }

    /// Runs everything that is due up to a virtual time, that time included; the clock stands at it then.
    ///
    /// # Panics
    /// As [`Universe::run`], but for the missing deadline.
    pub fn run_until(&self, deadline: Duration) {
        self.inner.core.run_until(nanos(deadline));
    }

    /// When the next thing happens by itself: [`Universe::now`] where something is ready; `None` where
    /// nothing ever will.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.inner.core.next_deadline_ns().map(Duration::from_nanos)
    }

    /// The way in for other threads.
    pub fn injector(&self) -> Injector {
        Injector { core: self.inner.core.clone() }
    }

    /// How often a task was polled so far: a measure of work.
    pub fn polls(&self) -> u64 {
        self.inner.core.all_polls()
    }

    /// Upgrades for as long as anything that knows this world is in memory, which should not be longer than the universe
    /// itself: a process plays thousands of worlds, one after the other.
    pub fn vestige(&self) -> Weak<dyn Any + Send + Sync> {
        let core: Arc<dyn Any + Send + Sync> = self.inner.core.clone();
        Arc::downgrade(&core)
    }

    /// Adds a machine, without power at first. `boot` is its init.
    ///
    /// # Errors
    /// [`MachineError::State`] where its name or address is taken.
    pub fn add_machine(&self, spec: MachineSpec, boot: Boot) -> Result<(), MachineError> {
        let mut hulls = self.inner.hulls();
        if hulls.by_name.contains_key(&spec.name) {
            return Err(MachineError::State(format!("there is a machine {} already", spec.name)));
        }
        hulls.last_index += 1;
        let index = hulls.last_index;
        let now = wall_clock(self.inner.core.now(), 0);
        let disk = SimDisk::new(spec.disk_bytes, derived_seed(self.seed(), &spec.name, 0), true, now);
        let place = Place::new(Some(spec.name.clone()), index, spec.address, Arc::new(disk));
        let space = Space::new(&place, SpaceKind::Machine, vec![spec.address]);
        self.inner.network.own_address(spec.address, &space).map_err(|error| MachineError::State(error.to_string()))?;
        let hull = Hull::new(&self.inner, place, space, spec, boot);
        hulls.by_name.insert(hull.name().to_owned(), hull);
        Ok(())
    }

    /// Takes a machine away, with its disk; cuts its power first.
    ///
    /// # Errors
    /// [`MachineError::Unknown`].
    pub fn remove_machine(&self, name: &str) -> Result<(), MachineError> {
        let hull = self.inner.find(name)?;
        if hull.power() != PowerState::Off {
            hull.power_off(false)?;
        }
        self.inner.hulls().by_name.remove(name);
        self.inner.network.disown_address(hull.address());
        hull.forget();
        Ok(())
    }

    /// The hand on the machines' switches.
    pub fn machines(&self) -> Arc<dyn Machines> {
        Arc::new(VirtualMachines::new(self.inner.clone()))
    }

    /// HTTP between processes.
    pub fn wire(&self) -> Wire {
        Wire { _private: () }
    }
}

/// Hands work to a universe from another thread than the one that runs it. Cheap to clone.
#[derive(Clone)]
pub struct Injector {
    core: Arc<Core>,
}

impl Injector {
    /// Starts a future as a task of the outside, at the virtual time at which the universe next runs. When
    /// that is, is up to the world's real surroundings, so what is injected is not covered by the seed.
    pub fn inject(&self, future: BoxFuture<'static, ()>) {
        self.core.inject(future);
    }

    /// Sets what is called, on whatever thread, when something becomes ready while nobody runs the universe: a
    /// future was injected, or a waker was used. The callback must not run the universe itself.
    pub fn on_ready(&self, callback: Arc<dyn Fn() + Send + Sync>) {
        self.core.set_on_ready(callback);
    }

    /// Virtual time.
    pub fn now(&self) -> Duration {
        self.core.now()
    }
}
