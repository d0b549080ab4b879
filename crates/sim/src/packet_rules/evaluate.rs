//! What a machine's packet rules do to the first packet of a connection: pure.
//!
//! The way of a packet is that of netfilter: `prerouting` or `output`, then `input` or `forward`,
//! then `postrouting`; at each hook the base chains of all tables by priority. A translation ends
//! the search of its hook's translating chains (Linux `nf_nat_inet_fn`).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use daruma_world::packet_rules::{
    ChainKind, Field, Hook, Is, Protocol, Rejection, Rule, Set, SetKind, Statement, Value, Verdict,
};

use super::tables::{Named, Tables};

/// An address and a port.
pub type Endpoint = (Ipv4Addr, u16);

/// Chains that may be within each other: Linux `NFT_JUMP_STACK_SIZE`.
const DEPTH: u32 = 16;

/// The first packet of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Its protocol.
    pub protocol: Protocol,
    /// Who sends it.
    pub source: Endpoint,
    /// Where to.
    pub destination: Endpoint,
    /// Where the machine gets to see it first: [`Hook::Output`] where a program in the machine's own
    /// network sends it, [`Hook::Prerouting`] where it comes from a pod of the machine or from elsewhere.
    pub hook: Hook,
    /// The link by which it comes in, where that is known.
    pub input_link: Option<String>,
}

/// What becomes of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Accept,
    /// It is lost without a word.
    Drop,
    /// The sender is told.
    Reject(Rejection),
}

/// The rules' result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Where the packet goes.
    pub destination: Endpoint,
    /// The receiver sees the machine's address as source.
    pub masquerade: bool,
    /// What becomes of the packet.
    pub fate: Fate,
    /// Table, set and value of each [`Statement::Remember`] that was met.
    pub remembered: Vec<(String, String, Value)>,
    /// The next packet from and to the same addresses meets the same while the tables are the same: neither chance nor time
    /// was asked. The port that a packet comes from is asked by no rule.
    pub lasts: bool,
}

/// What the rules are looked at with.
pub struct Ground<'a> {
    /// All tables of the machine.
    pub tables: &'a Tables,
    /// Whether an address is the machine's own.
    pub is_local: &'a dyn Fn(Ipv4Addr) -> bool,
    /// Monotonic time, for sets whose keys vanish.
    pub now: Duration,
}

/// Sends a packet through all hooks. `random` gives a number below its argument.
pub fn translate(ground: &Ground<'_>, packet: &Packet, random: &mut dyn FnMut(u64) -> u64) -> Outcome {
    let mut way = Way {
        ground,
        random,
        protocol: packet.protocol,
        source: packet.source,
        destination: packet.destination,
        input_link: packet.input_link.as_deref(),
        mark: 0,
        translated: false,
        masquerade: false,
        remembered: Vec::new(),
        lasts: true,
    };
    let fate = way.walk(packet.hook);
    let Way { destination, masquerade, remembered, lasts, .. } = way;
    Outcome { destination, masquerade, fate, remembered, lasts }
}

/// Whether evaluation goes on behind a chain or statement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// The rule goes on.
    Next,
    /// This rule does not match, or is done: on with the next.
    NextRule,
    /// Back to where the chain was jumped to.
    Return,
    /// The packet passes this base chain.
    Accept,
    /// A translation was set; no other translating chain of the hook is asked.
    Translated,
    Drop,
    Reject(Rejection),
}

struct Way<'a, 'r> {
    ground: &'a Ground<'a>,
    random: &'r mut dyn FnMut(u64) -> u64,
    protocol: Protocol,
    source: Endpoint,
    destination: Endpoint,
    input_link: Option<&'a str>,
    mark: u32,
    translated: bool,
    masquerade: bool,
    remembered: Vec<(String, String, Value)>,
    lasts: bool,
}

impl<'a> Way<'a, '_> {
    fn walk(&mut self, first: Hook) -> Fate {
        let mut hooks = vec![first];
        while let Some(hook) = hooks.pop() {
            match self.hook(hook) {
                Fate::Accept => {}
                end => return end,
            }
            // The routing decision is taken anew once the destination may have been translated.
            let local = (self.ground.is_local)(self.destination.0);
            match hook {
                Hook::Prerouting if local => hooks.push(Hook::Input),
                Hook::Prerouting => hooks.push(Hook::Forward),
                Hook::Forward | Hook::Output => hooks.push(Hook::Postrouting),
                // What a machine sends to itself goes out and comes in by the loopback link; its
                // connection is known by then, so nothing is translated again.
                Hook::Postrouting if local && first == Hook::Output => hooks.push(Hook::Input),
                Hook::Postrouting | Hook::Input => {}
            }
        }
        Fate::Accept
    }

    fn hook(&mut self, hook: Hook) -> Fate {
        let mut may_translate = true;
        for base in self.ground.tables.bases(hook) {
            if base.kind == ChainKind::Nat && !may_translate {
                continue;
            }
            let Some(table) = self.ground.tables.named(&base.table) else { continue };
            match self.chain(table, &base.chain, 0) {
                Flow::Drop => return Fate::Drop,
                Flow::Reject(how) => return Fate::Reject(how),
                Flow::Translated => may_translate = false,
                Flow::Next | Flow::NextRule | Flow::Return | Flow::Accept => {}
            }
        }
        Fate::Accept
    }

    fn chain(&mut self, table: Named<'a>, chain: &str, depth: u32) -> Flow {
        let Some(rules) = table.rules(chain).filter(|_| depth < DEPTH) else { return Flow::Drop };
        for rule in rules {
            match self.rule(table, rule, depth) {
                Flow::Next | Flow::NextRule => {}
                Flow::Return => return Flow::Next,
                end => return end,
            }
        }
        Flow::Next
    }

    fn rule(&mut self, table: Named<'a>, rule: &'a Rule, depth: u32) -> Flow {
        for statement in rule {
            match self.statement(table, statement, depth) {
                Flow::Next => {}
                end => return end,
            }
        }
        Flow::NextRule
    }

    fn statement(&mut self, table: Named<'a>, statement: &'a Statement, depth: u32) -> Flow {
        let matches = |holds: bool| if holds { Flow::Next } else { Flow::NextRule };
        match statement {
            Statement::Source(is, prefix) => matches(prefix.contains(self.source.0) == (*is == Is::In)),
            Statement::Destination(is, prefix) => matches(prefix.contains(self.destination.0) == (*is == Is::In)),
            Statement::Protocol(protocol) => matches(*protocol == self.protocol),
            Statement::InputLink(name) => matches(self.input_link == Some(name)),
            // Which link a packet leaves by is the network's affair, and unknown here.
            Statement::OutputLink(_) => Flow::NextRule,
            Statement::SourceIsLocal => matches((self.ground.is_local)(self.source.0)),
            Statement::DestinationIsLocal => matches((self.ground.is_local)(self.destination.0)),
            Statement::NewConnection | Statement::Counter => Flow::Next,
            Statement::WasDestinationTranslated => matches(self.translated),
            Statement::Marked { mask } => matches(self.mark & mask != 0),
            Statement::SetMark { mask } => {
                self.mark |= mask;
                Flow::Next
            }
            Statement::InvertMark { mask } => {
                self.mark ^= mask;
                Flow::Next
            }
            Statement::Lookup { fields, is, set } => {
                let found = self.is_in(table, set, fields);
                matches(found == (*is == Is::In))
            }
            Statement::Dispatch { fields, map } => match table.verdict(map, self.key(fields).values()) {
                Some(verdict) => self.verdict(table, verdict, depth),
                None => Flow::Next,
            },
            Statement::DispatchRandom(verdicts) => match self.one_of(verdicts) {
                Some(verdict) => self.verdict(table, verdict, depth),
                None => Flow::NextRule,
            },
            Statement::Remember { field, set } => {
                self.lasts = false;
                self.remembered.push((table.name.to_owned(), set.clone(), self.field(*field)));
                Flow::Next
            }
            Statement::TranslateDestination(targets) => match self.one_of(targets) {
                Some(target) => {
                    self.destination = *target;
                    self.translated = true;
                    Flow::Translated
                }
                None => Flow::NextRule,
            },
            Statement::Masquerade => {
                self.masquerade = true;
                Flow::Translated
            }
            Statement::Reject(Rejection::TcpReset) if self.protocol != Protocol::Tcp => Flow::NextRule,
            Statement::Reject(how) => Flow::Reject(*how),
            Statement::Verdict(verdict) => self.verdict(table, verdict, depth),
        }
    }

    fn verdict(&mut self, table: Named<'a>, verdict: &'a Verdict, depth: u32) -> Flow {
        match verdict {
            Verdict::Accept => Flow::Accept,
            Verdict::Drop => Flow::Drop,
            Verdict::Return => Flow::Return,
            // Behind a jump the next rule follows, behind a chain that was gone to nothing does.
            Verdict::Jump(chain) => match self.chain(table, chain, depth + 1) {
                Flow::Next => Flow::NextRule,
                end => end,
            },
            Verdict::Goto(chain) => match self.chain(table, chain, depth + 1) {
                Flow::Next => Flow::Return,
                end => end,
            },
        }
    }

    fn one_of<T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        match list.len() {
            0 | 1 => list.first(),
            len => {
                self.lasts = false;
                list.get((self.random)(len as u64) as usize)
            }
        }
    }

    fn is_in(&mut self, table: Named<'a>, name: &str, fields: &[Field]) -> bool {
        let key = self.key(fields);
        let key = key.values();
        match table.set(name) {
            Some(Set { kind: SetKind::Recent(_), .. }) => {
                self.lasts = false;
                self.ground.tables.has_recent(table.name, name, key, self.ground.now)
                    || self.remembered.iter().any(|known| known.0 == table.name && known.1 == name && key == [known.2])
            }
            Some(set) => set.elements.contains_key(key),
            None => false,
        }
    }

    fn key(&self, fields: &[Field]) -> PacketKey {
        let mut key = PacketKey { values: [Value::Port(0); FIELDS], count: 0 };
        for (value, field) in key.values.iter_mut().zip(fields) {
            *value = self.field(*field);
            key.count += 1;
        }
        key
    }

    fn field(&self, field: Field) -> Value {
        match field {
            Field::SourceAddress => Value::Address(self.source.0),
            Field::DestinationAddress => Value::Address(self.destination.0),
            Field::Protocol => Value::Protocol(self.protocol),
            Field::DestinationPort => Value::Port(self.destination.1),
        }
    }
}

/// Most fields of a set's key.
const FIELDS: usize = 4;

/// A packet's values of a set's fields.
struct PacketKey {
    values: [Value; FIELDS],
    count: usize,
}

impl PacketKey {
    fn values(&self) -> &[Value] {
        &self.values[..self.count]
    }
}

/// Keys of sets that are filled as packets pass, with the time at which each vanishes.
pub type Recent = BTreeMap<(String, String), BTreeMap<Value, Duration>>;
