//! Machines: what stays when they have no power ([`Hull`]), and what lives from power-on to power-off
//! ([`Machine`]).

mod engine;
mod hardware;
mod hull;
mod services;
mod switches;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use daruma_world::World;
use daruma_world::hardware::Hardware;
use daruma_world::links::Prefix;
use futures::future::BoxFuture;

use crate::containers::SimRuntime;
use crate::links::SimLinks;
use crate::packet_rules::SimPacketRules;
use crate::scope::Scope;
use hardware::VirtualHardware;
pub(crate) use hull::Hull;
use services::Services;
pub(crate) use switches::VirtualMachines;
pub use switches::supports;

/// Greatest packet on the network card, as on the real machines' veth.
const MTU: u32 = 1500;
/// Network part of a machine's address.
const PREFIX_LENGTH: u8 = 24;

/// What a machine is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSpec {
    /// Its name, e.g. `worker-1`.
    pub name: String,
    /// Address of its network card.
    pub address: Ipv4Addr,
    /// CPU time it may use, in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Size of its disk in bytes.
    pub disk_bytes: u64,
    /// Time from power to init in a reset or reboot.
    pub boot_time: Duration,
}

/// A machine's init: run at each power-on as a task of the machine's own scope.
pub type Boot = Arc<dyn Fn(Machine) -> BoxFuture<'static, ()> + Send + Sync>;

/// What a service runs, each time in a scope of its own, which dies when it completes.
pub type ServiceMain = Arc<dyn Fn(Scope) -> BoxFuture<'static, ()> + Send + Sync>;

struct Inner {
    hull: Arc<Hull>,
    scope: Scope,
    boot_id: String,
    hardware: Arc<VirtualHardware>,
    links: SimLinks,
    packet_rules: SimPacketRules,
    services: Services,
}

/// One machine during one power-on. Clones are the same.
#[derive(Clone)]
pub struct Machine {
    inner: Arc<Inner>,
}

impl Machine {
    fn new(hull: &Arc<Hull>, scope: Scope, boot_id: String) -> Self {
        let world = scope.world();
        let address = hull.spec.address;
        let inner = Inner {
            hull: hull.clone(),
            hardware: Arc::new(VirtualHardware::new(hull, &scope, &boot_id)),
            links: SimLinks::new(Prefix::new(address, PREFIX_LENGTH), MTU, None),
            packet_rules: SimPacketRules::new(&world, address),
            services: Services::default(),
            boot_id,
            scope,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.hull.spec.name
    }

    /// Address of its network card.
    pub fn address(&self) -> Ipv4Addr {
        self.inner.hull.spec.address
    }

    /// What it is made of.
    pub fn spec(&self) -> &MachineSpec {
        &self.inner.hull.spec
    }

    /// Names this power-on.
    pub fn boot_id(&self) -> &str {
        &self.inner.boot_id
    }

    /// The world of its init.
    pub fn world(&self) -> World {
        self.inner.scope.world()
    }

    /// The scope of its init; everything on the machine is below it.
    pub fn init(&self) -> Scope {
        self.inner.scope.clone()
    }

    /// A new process.
    pub fn scope(&self, name: &str) -> Scope {
        self.inner.scope.child(name)
    }

    /// The machine as its operating system describes it.
    pub fn hardware(&self) -> Arc<dyn Hardware> {
        self.inner.hardware.clone()
    }

    /// Its container engine, whose records outlive the power.
    pub fn engine(&self) -> SimRuntime {
        self.inner.hull.engine()
    }

    /// Its network links, as they are from this power-on to its end.
    pub fn links(&self) -> SimLinks {
        self.inner.links.clone()
    }

    /// Its packet rules, as they are from this power-on to its end.
    pub fn packet_rules(&self) -> SimPacketRules {
        self.inner.packet_rules.clone()
    }

    /// Has init keep a service: it is started now, and again 10 s after its end (systemd's
    /// `RestartSec=10` of kubeadm's kubelet unit). A service of the same name is replaced after its end.
    pub fn service(&self, name: &str, main: ServiceMain) {
        self.inner.services.keep(&self.inner.scope, &self.inner.hardware, name, main);
    }

    /// Gives a process (a pod's sandbox) a network of its own with an address that all machines reach.
    /// Children that are made from now on live in it. The address goes with the scope.
    ///
    /// # Errors
    /// Where the address is somebody's already or the scope is dead or another machine's.
    pub fn add_address(&self, scope: &Scope, address: Ipv4Addr) -> std::io::Result<()> {
        if scope.machine_name() != Some(self.name()) {
            return Err(std::io::Error::other("the process belongs to another machine"));
        }
        self.inner.hull.network.add_address(scope, address)
    }

    /// Has the machine itself answer for a further address, until [`Machine::leave_address`]. Its own already is fine.
    ///
    /// # Errors
    /// Where the address is somebody else's.
    pub fn answer_for(&self, address: Ipv4Addr) -> std::io::Result<()> {
        self.inner.hull.answer_for(address)
    }

    /// Takes such an address away again. A missing one is fine.
    pub fn leave_address(&self, address: Ipv4Addr) {
        self.inner.hull.leave_address(address);
    }

    /// Takes an address of [`Machine::add_address`] away again. A missing one is fine.
    pub fn remove_address(&self, address: Ipv4Addr) {
        self.inner.hull.network.remove_address(self.inner.hull.index(), address);
    }
}
