//! The network of a universe: addresses, the way of a packet, link faults; TCP and UDP upon it.
//!
//! A packet from one machine to another needs power on both and a link that is not cut. Within a machine
//! it takes no time and meets no fault.

mod calls;
mod faults;
mod line;
mod pipe;
mod space;
mod tcp;
mod udp;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use daruma_world::machines::PowerState;
use daruma_world::packet_rules::{Hook, Protocol};

use crate::executor::Core;
use crate::packet_rules::{Fate, Packet, SimPacketRules};
use crate::place::Place;
use crate::random::{SplitMix, derived_seed};
use crate::scope::{Attachment, Scope, ScopeInner};
pub(crate) use faults::{Fault, Faults};
pub(crate) use line::{Break, CLIENT, Kind, Line, Part, SERVER, Transit};
pub(crate) use pipe::{Pipe, Received, retry_pause};
pub(crate) use space::{Endpoint, Server, Space, SpaceKind, endpoint};
pub(crate) use tcp::{TcpStream, open_stream};

/// Machines that a packet may pass on its way.
const MOST_HOPS: usize = 4;

/// Addresses, faults and rules.
pub(crate) struct Network {
    pub(crate) core: Arc<Core>,
    pub(crate) outside: Arc<Space>,
    has_faults: AtomicBool,
    faults: Mutex<Faults>,
    state: Mutex<State>,
    last_line: AtomicU64,
    /// What the clients of this universe have decoded; offered with every request and response.
    pub(crate) decoded: Arc<daruma_client::DecodedObjects>,
}

#[derive(Default)]
struct State {
    owners: BTreeMap<Ipv4Addr, Arc<Space>>,
    /// By number of the machine.
    rules: BTreeMap<u32, SimPacketRules>,
}

/// Where a packet ends up.
pub(crate) struct Route {
    /// Who receives it.
    pub(crate) space: Arc<Space>,
    /// After all translations.
    pub(crate) to: Endpoint,
    /// Who sends it, as the receiver sees it.
    pub(crate) source: Endpoint,
    /// The machines on the way, both ends among them.
    pub(crate) hops: Vec<Arc<Place>>,
}

/// Why a packet ends up nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Astray {
    /// Nobody says a word.
    Silent,
    /// A rule, or the receiver's kernel, refuses it.
    Refused,
    /// No route leads there.
    Unreachable,
}

impl Astray {
    pub(crate) fn error(self, to: Endpoint) -> io::Error {
        let (ip, port) = to;
        match self {
            Self::Refused => io::Error::new(io::ErrorKind::ConnectionRefused, format!("nobody listens at {ip}:{port}")),
            Self::Unreachable => io::Error::new(io::ErrorKind::HostUnreachable, format!("no route to host {ip}")),
            Self::Silent => io::Error::new(io::ErrorKind::TimedOut, format!("{ip}:{port} does not answer")),
        }
    }
}

impl Network {
    pub(crate) fn new(core: Arc<Core>, outside: Arc<Space>) -> Arc<Self> {
        Arc::new(Self {
            core,
            outside,
            has_faults: AtomicBool::new(false),
            faults: Mutex::default(),
            state: Mutex::default(),
            decoded: Arc::default(),
            last_line: AtomicU64::new(0),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_faults(&self, faults: Vec<Fault>) {
        self.has_faults.store(!faults.is_empty(), Ordering::Release);
        *self.faults() = Faults(faults);
    }

    pub(crate) fn set_rules(&self, machine: u32, rules: Option<SimPacketRules>) {
        let mut state = self.state();
        let old = match rules {
            Some(rules) => state.rules.insert(machine, rules),
            None => state.rules.remove(&machine),
        };
        drop(state);
        drop(old);
    }

    fn rules(&self, place: &Place) -> Option<SimPacketRules> {
        self.state().rules.get(&place.index).cloned()
    }

    /// Has an address answered by a space.
    pub(crate) fn own_address(&self, ip: Ipv4Addr, space: &Arc<Space>) -> io::Result<()> {
        let mut state = self.state();
        if state.owners.contains_key(&ip) {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{ip} is somebody's already")));
        }
        state.owners.insert(ip, space.clone());
        Ok(())
    }

    /// Whether a space answers for an address.
    pub(crate) fn owns(&self, ip: Ipv4Addr, space: &Arc<Space>) -> bool {
        self.state().owners.get(&ip).is_some_and(|owner| Arc::ptr_eq(owner, space))
    }

    pub(crate) fn disown_address(&self, ip: Ipv4Addr) {
        let gone = self.state().owners.remove(&ip);
        drop(gone);
    }

    /// Whom a place sends packets for an address to.
    fn owner(&self, here: &Place, ip: Ipv4Addr) -> Option<Arc<Space>> {
        if let Some(owner) = self.state().owners.get(&ip) {
            // Routes to pods exist on machines only.
            let is_hidden = here.is_outside() && owner.kind == SpaceKind::Pod;
            return if is_hidden { None } else { Some(owner.clone()) };
        }
        here.is_outside().then(|| self.outside.clone())
    }

    /// A new connection's chance, apart from that of all others.
    pub(crate) fn new_line_id(&self) -> (u64, SplitMix) {
        let id = self.last_line.fetch_add(1, Ordering::Relaxed);
        (id, SplitMix::new(derived_seed(self.core.seed, "line", id)))
    }

    /// The way of a connection's first packet; rules of the machines on the way may translate it.
    pub(crate) fn route(&self, from: &Arc<Space>, source_port: u16, to: Endpoint) -> Result<Route, Astray> {
        self.walk(Protocol::Tcp, from, source_port, to, |rules, here, packet| {
            let outcome = rules.open(packet);
            let source = if outcome.masquerade { (here.address, packet.source.1) } else { packet.source };
            astray(outcome.fate).map_or(Ok((source, outcome.destination)), Err)
        })
    }

    /// The way of a datagram; the machines on the way remember its flow.
    pub(crate) fn route_datagram(&self, from: &Arc<Space>, source_port: u16, to: Endpoint) -> Result<Route, Astray> {
        self.walk(Protocol::Udp, from, source_port, to, |rules, _, packet| {
            let flow = match rules.answer(packet.source, packet.destination) {
                Some(flow) => flow,
                None => rules.datagram(packet).map_err(|fate| astray(fate).unwrap_or(Astray::Silent))?,
            };
            Ok((flow.source, flow.destination))
        })
    }

    fn walk(
        &self,
        protocol: Protocol,
        from: &Arc<Space>,
        source_port: u16,
        to: Endpoint,
        ask: impl Fn(&SimPacketRules, &Place, &Packet) -> Result<(Endpoint, Endpoint), Astray>,
    ) -> Result<Route, Astray> {
        if to.0.is_loopback() || to.0.is_unspecified() {
            let to = (Ipv4Addr::LOCALHOST, to.1);
            return Ok(Route {
                space: from.clone(),
                to,
                source: (Ipv4Addr::LOCALHOST, source_port),
                hops: vec![from.place.clone()],
            });
        }
        let mut source = (from.source_ip(), source_port);
        let mut to = to;
        let mut hops = vec![from.place.clone()];
        let mut hook = if from.kind == SpaceKind::Pod { Hook::Prerouting } else { Hook::Output };
        loop {
            let here = hops.last().expect("the way has a beginning").clone();
            if let Some(rules) = self.rules(&here) {
                let packet = Packet { protocol, source, destination: to, hook, input_link: None };
                (source, to) = ask(&rules, &here, &packet)?;
            }
            let space = self.owner(&here, to.0).ok_or(Astray::Unreachable)?;
            if space.place.index == here.index {
                if Arc::ptr_eq(&space, from) && from.kind == SpaceKind::Outside {
                    source.0 = to.0;
                }
                return Ok(Route { space, to, source, hops });
            }
            if hops.len() > MOST_HOPS {
                return Err(Astray::Silent);
            }
            hops.push(space.place.clone());
            hook = Hook::Prerouting;
        }
    }

    /// Whether packets of this size arrive, and after how many nanoseconds; `forth` along the hops or back.
    pub(crate) fn cross(&self, hops: &[Arc<Place>], forth: bool, bytes: usize, chance: &mut SplitMix) -> Option<u64> {
        let mut total: u64 = 0;
        for pair in hops.windows(2) {
            let (from, to) = if forth { (&pair[0], &pair[1]) } else { (&pair[1], &pair[0]) };
            if from.power() != PowerState::On || to.power() != PowerState::On {
                return None;
            }
            from.tx_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            let delay = if self.has_faults.load(Ordering::Acquire) {
                self.faults().cross(from.index, to.index, bytes, self.core.now_ns(), chance)?
            } else {
                faults::latency(chance)
            };
            to.rx_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            total = total.saturating_add(delay);
        }
        Some(total)
    }

    /// Whether nothing comes through in this direction.
    pub(crate) fn is_cut(&self, hops: &[Arc<Place>], forth: bool) -> bool {
        hops.windows(2).any(|pair| {
            let (from, to) = if forth { (&pair[0], &pair[1]) } else { (&pair[1], &pair[0]) };
            let is_dark = from.power() != PowerState::On || to.power() != PowerState::On;
            is_dark || (self.has_faults.load(Ordering::Acquire) && self.faults().is_cut(from.index, to.index))
        })
    }

    /// Gives a scope (a pod's sandbox) a network of its own, where that is not one already, and in it an
    /// address that everybody reaches by way of the scope's machine. Children that are made from now on
    /// live in it. The address goes with the scope.
    ///
    /// # Errors
    /// Where the address is somebody's already, or the scope has ended or is outside.
    pub(crate) fn add_address(&self, scope: &Scope, ip: Ipv4Addr) -> io::Result<()> {
        let inner = &scope.inner;
        if inner.is_dead() || inner.place.is_outside() {
            return Err(io::Error::other("only a living process of a machine can have an address"));
        }
        let present = inner.space();
        let space = if present.kind == SpaceKind::Pod { present } else { Space::new(&inner.place, SpaceKind::Pod, Vec::new()) };
        self.own_address(ip, &space)?;
        space.add_address(ip);
        inner.set_space(space.clone());
        let lease: Arc<dyn Attachment> = Arc::new(Lease { ip, space: Arc::downgrade(&space) });
        inner.attach(Arc::downgrade(&lease));
        space.keep(ip, lease);
        Ok(())
    }

    /// Takes an address of a machine's pod away again.
    pub(crate) fn remove_address(&self, machine: u32, ip: Ipv4Addr) {
        let owner = self.state().owners.get(&ip).cloned();
        if let Some(space) = owner.filter(|space| space.kind == SpaceKind::Pod && space.place.index == machine) {
            self.disown_address(ip);
            space.remove_address(ip);
        }
    }
}

/// Takes an address away when its scope dies.
struct Lease {
    ip: Ipv4Addr,
    space: Weak<Space>,
}

impl Attachment for Lease {
    fn died(&self, scope: &ScopeInner) {
        scope.network.disown_address(self.ip);
        if let Some(space) = self.space.upgrade() {
            space.remove_address(self.ip);
        }
    }
}

/// Why a packet with this fate ends up nowhere.
fn astray(fate: Fate) -> Option<Astray> {
    match fate {
        Fate::Accept => None,
        Fate::Drop => Some(Astray::Silent),
        Fate::Reject(_) => Some(Astray::Refused),
    }
}

/// An address of a socket for the outside of this crate.
pub(crate) fn socket_address((ip, port): Endpoint) -> SocketAddr {
    SocketAddr::from((ip, port))
}
