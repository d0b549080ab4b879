//! A virtual machine's packet rules: the tables that components set, what they do to new
//! connections, and the datagram flows that are remembered.
//!
//! The network asks [`SimPacketRules::open`] for a TCP connection, and [`SimPacketRules::datagram`] and
//! [`SimPacketRules::answer`] for UDP, on the machine that sends and on each machine that a packet comes to.

mod conntrack;
mod evaluate;
mod tables;

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daruma_world::World;
use daruma_world::packet_rules::{Change, Connection, Hook, PacketRules, Protocol, Table};
use futures::FutureExt;
use futures::future::BoxFuture;

use conntrack::Conntrack;
pub use conntrack::Flow;
pub use evaluate::{Endpoint, Fate, Ground, Outcome, Packet, translate};
pub use tables::Tables;

type Answer<T> = BoxFuture<'static, io::Result<T>>;

/// First port of those that masqueraded connections leave by: Linux `ip_local_port_range`.
const FIRST_PORT: u16 = 32_768;
/// How many there are.
const PORTS: u16 = 28_232;

/// Outcomes that a machine remembers.
const OUTCOMES: usize = 128;

/// What a lasting outcome depends on beside the tables: protocol, sender, receiver, and where the packet comes in.
type Asked = (Protocol, Ipv4Addr, Endpoint, Hook);

#[derive(Default)]
struct State {
    tables: Tables,
    /// What became of packets since the tables last changed: most connections are made again and again.
    outcomes: BTreeMap<Asked, Outcome>,
    conntrack: Conntrack,
}

impl State {
    fn tables_mut(&mut self) -> &mut Tables {
        self.outcomes.clear();
        &mut self.tables
    }
}

/// The packet rules of one machine from power-on to power-off. Clones share them.
#[derive(Clone)]
pub struct SimPacketRules {
    world: World,
    address: Ipv4Addr,
    state: Arc<Mutex<State>>,
}

impl SimPacketRules {
    /// None yet, on a machine whose network card has `address`. Of the world, time and chance are used.
    pub fn new(world: &World, address: Ipv4Addr) -> Self {
        Self { world: world.clone(), address, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything, as the loss of power does.
    pub fn clear(&self) {
        *self.state() = State::default();
    }

    fn is_local(&self, address: Ipv4Addr) -> bool {
        address == self.address || address.is_loopback()
    }

    /// What becomes of a new connection.
    pub fn open(&self, packet: &Packet) -> Outcome {
        let mut state = self.state();
        self.evaluate(&mut state, packet)
    }

    fn evaluate(&self, state: &mut State, packet: &Packet) -> Outcome {
        if state.tables.is_empty() {
            // Most machines of a large world never set a rule.
            return Outcome {
                destination: packet.destination,
                masquerade: false,
                fate: Fate::Accept,
                remembered: Vec::new(),
                lasts: true,
            };
        }
        let asked = (packet.protocol, packet.source.0, packet.destination, packet.hook);
        if packet.input_link.is_none()
            && let Some(known) = state.outcomes.get(&asked)
        {
            return known.clone();
        }
        let now = self.world.monotonic();
        let is_local = |address| self.is_local(address);
        let ground = Ground { tables: &state.tables, is_local: &is_local, now };
        let outcome = translate(&ground, packet, &mut |bound| self.world.random.below(bound));
        state.tables.remember(&outcome.remembered, now);
        if outcome.lasts && packet.input_link.is_none() {
            if state.outcomes.len() >= OUTCOMES {
                state.outcomes.clear();
            }
            state.outcomes.insert(asked, outcome.clone());
        }
        outcome
    }

    /// What becomes of a datagram: where it goes and whom it seems to come from, or why not. The
    /// first of a flow decides for all of them.
    ///
    /// # Errors
    /// The fate of a datagram that does not go on.
    pub fn datagram(&self, packet: &Packet) -> Result<Flow, Fate> {
        let now = self.world.monotonic();
        let mut state = self.state();
        if let Some(flow) = state.conntrack.find(packet.source, packet.destination, now) {
            return Ok(flow);
        }
        let outcome = self.evaluate(&mut state, packet);
        if outcome.fate != Fate::Accept {
            return Err(outcome.fate);
        }
        let source = if outcome.masquerade { self.masqueraded(&state, outcome.destination) } else { packet.source };
        let flow = Flow { source, destination: outcome.destination };
        state.conntrack.insert(packet.source, packet.destination, flow, now);
        Ok(flow)
    }

    /// Our address with a port that no other flow to this destination has.
    fn masqueraded(&self, state: &State, destination: Endpoint) -> Endpoint {
        let start = self.world.random.below(u64::from(PORTS)) as u16;
        let mut candidates = (0..PORTS).map(|step| (self.address, FIRST_PORT + (start + step) % PORTS));
        let free = candidates.find(|source| !state.conntrack.uses(*source, destination));
        free.unwrap_or((self.address, FIRST_PORT + start))
    }

    /// Whether a datagram answers a flow that this machine has translated: then who gets it, and whom it
    /// seems to come from.
    pub fn answer(&self, from: Endpoint, to: Endpoint) -> Option<Flow> {
        let now = self.world.monotonic();
        self.state().conntrack.answer(from, to, now)
    }

    fn call<T: Send + 'static>(&self, work: impl FnOnce(&mut State) -> io::Result<T> + Send + 'static) -> Answer<T> {
        let rules = self.clone();
        async move { work(&mut rules.state()) }.boxed()
    }
}

impl PacketRules for SimPacketRules {
    fn replace_table(&self, name: &str, table: Table) -> Answer<()> {
        let name = name.to_owned();
        self.call(move |state| state.tables_mut().replace(&name, table))
    }

    fn change_table(&self, name: &str, changes: Vec<Change>) -> Answer<()> {
        let name = name.to_owned();
        self.call(move |state| state.tables_mut().change(&name, changes))
    }

    fn delete_table(&self, name: &str) -> Answer<()> {
        let name = name.to_owned();
        self.call(move |state| {
            state.tables_mut().delete(&name);
            Ok(())
        })
    }

    fn table_identity(&self, name: &str) -> Answer<Option<u64>> {
        let name = name.to_owned();
        self.call(move |state| Ok(state.tables.identity(&name)))
    }

    fn connections(&self, protocol: Protocol) -> Answer<Vec<Connection>> {
        let now = self.world.monotonic();
        self.call(move |state| match protocol {
            Protocol::Udp => Ok(state.conntrack.list(now)),
            other => {
                let text = format!("the virtual world remembers UDP flows only, not those of {}", other.name());
                Err(io::Error::new(io::ErrorKind::Unsupported, text))
            }
        })
    }

    fn forget_connections(&self, connections: Vec<Connection>) -> Answer<()> {
        self.call(move |state| {
            for connection in connections.iter().filter(|connection| connection.protocol == Protocol::Udp) {
                state.conntrack.forget(connection.source, connection.destination);
            }
            Ok(())
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
