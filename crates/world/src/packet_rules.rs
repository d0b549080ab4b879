//! Packet rules of one machine's network namespace: a small typed vocabulary for tables of chains
//! and sets, their differences, and the connections that the kernel remembers. IPv4 only.
//!
//! The vocabulary follows nf_tables in shape and meaning, so that a kernel can carry it out as it
//! stands and a simulation can interpret it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::links::Prefix;

type Answer<T> = BoxFuture<'static, io::Result<T>>;

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The number in an IP header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A part of a packet by which sets are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// Source address.
    SourceAddress,
    /// Destination address.
    DestinationAddress,
    /// Transport protocol.
    Protocol,
    /// Destination port.
    DestinationPort,
}

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Of an address field.
    Address(Ipv4Addr),
    /// Of the protocol field.
    Protocol(Protocol),
    /// Of a port field.
    Port(u16),
}

/// Values of a set's fields, in their order.
pub type Key = Vec<Value>;

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It passes this hook.
    Accept,
    /// It is lost.
    Drop,
    /// Back to the chain from where this one was jumped to.
    Return,
    /// On to a chain, and back after its end.
    Jump(String),
    /// On to a chain for good.
    Goto(String),
}

/// How a packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rejection {
    /// An ICMP message "port unreachable".
    PortUnreachable,
    /// A TCP reset; only for TCP packets.
    TcpReset,
}

/// Whether a match must hold or must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Is {
    /// Must hold.
    In,
    /// Must not hold.
    NotIn,
}

/// A step of a rule. A match that fails ends the rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Statement {
    /// The source address and a network.
    Source(Is, Prefix),
    /// The destination address and a network.
    Destination(Is, Prefix),
    /// The transport protocol is this.
    Protocol(Protocol),
    /// The link that the packet came in by has this name.
    InputLink(String),
    /// The link that the packet goes out by has this name.
    OutputLink(String),
    /// The source is an address of the machine itself.
    SourceIsLocal,
    /// The destination is an address of the machine itself.
    DestinationIsLocal,
    /// The packet begins a connection.
    NewConnection,
    /// The connection's destination was translated.
    WasDestinationTranslated,
    /// Some bit of `mask` is set in the packet's mark.
    Marked {
        /// Bits looked at.
        mask: u32,
    },
    /// Sets the bits of `mask` in the packet's mark.
    SetMark {
        /// Bits set.
        mask: u32,
    },
    /// Inverts the bits of `mask` in the packet's mark.
    InvertMark {
        /// Bits inverted.
        mask: u32,
    },
    /// The packet's fields and a set.
    Lookup {
        /// Which fields, in the set's order.
        fields: Vec<Field>,
        /// Whether they must be in it.
        is: Is,
        /// Name of the set.
        set: String,
    },
    /// Takes the verdict that a map has for the packet's fields; goes on where it has none.
    Dispatch {
        /// Which fields, in the map's order.
        fields: Vec<Field>,
        /// Name of the map.
        map: String,
    },
    /// Takes one of these verdicts at random.
    DispatchRandom(Vec<Verdict>),
    /// Adds a field to a [`SetKind::Recent`] set, or makes it young again.
    Remember {
        /// Which field.
        field: Field,
        /// Name of the set.
        set: String,
    },
    /// Counts packets and bytes.
    Counter,
    /// Sends the connection to one of these instead, chosen at random. In `Nat` chains only, after a
    /// match of the protocol.
    TranslateDestination(Vec<(Ipv4Addr, u16)>),
    /// Gives the connection the machine's address as source, with a random port. In `Nat` chains only.
    Masquerade,
    /// Refuses the packet.
    Reject(Rejection),
    /// The end.
    Verdict(Verdict),
}

/// Statements in order.
pub type Rule = Vec<Statement>;

/// Where a base chain sees packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// All that come in, before the routing decision.
    Prerouting,
    /// Those for the machine itself.
    Input,
    /// Those that pass through.
    Forward,
    /// Those of the machine itself.
    Output,
    /// All that go out, after the routing decision.
    Postrouting,
}

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChainKind {
    /// Accept and drop.
    Filter,
    /// Translate addresses; sees the first packet of a connection only.
    Nat,
}

/// Makes a chain a base chain, with policy accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Base {
    /// What it may do.
    pub kind: ChainKind,
    /// Where it sees packets.
    pub hook: Hook,
    /// Order among the chains of a hook, lowest first (-100 translates destinations, 0 filters, 100
    /// translates sources).
    pub priority: i32,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// `None` for a chain that is only jumped to.
    pub base: Option<Base>,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

/// What a set is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetKind {
    /// Membership.
    Plain,
    /// A verdict for each key.
    Verdicts,
    /// Filled by [`Statement::Remember`]; keys vanish after this time.
    Recent(Duration),
}

/// A set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// What it is for.
    pub kind: SetKind,
    /// Fields of its keys; one to four.
    pub fields: Vec<Field>,
    /// Its keys, with verdicts where it is a map. Empty for [`SetKind::Recent`].
    pub elements: BTreeMap<Key, Option<Verdict>>,
}

impl Set {
    /// An empty set.
    pub fn new(kind: SetKind, fields: &[Field]) -> Self {
        Self { kind, fields: fields.to_vec(), elements: BTreeMap::new() }
    }

    fn is_like(&self, other: &Self) -> bool {
        self.kind == other.kind && self.fields == other.fields
    }
}

/// A table: all the rules of one component.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// Chains by name.
    pub chains: BTreeMap<String, Chain>,
    /// Sets and maps by name.
    pub sets: BTreeMap<String, Set>,
}

/// One change of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes a set without elements.
    AddSet {
        /// Its name.
        name: String,
        /// What it is for.
        kind: SetKind,
        /// Fields of its keys.
        fields: Vec<Field>,
    },
    /// Makes a chain without rules; an existing one is fine.
    AddChain {
        /// Its name.
        name: String,
        /// `None` for a chain that is only jumped to.
        base: Option<Base>,
    },
    /// Removes elements that are there.
    DeleteElements {
        /// Name of the set.
        set: String,
        /// What kind it is.
        kind: SetKind,
        /// The elements as they are.
        elements: BTreeMap<Key, Option<Verdict>>,
    },
    /// Adds elements that are not there.
    AddElements {
        /// Name of the set.
        set: String,
        /// What kind it is.
        kind: SetKind,
        /// The elements.
        elements: BTreeMap<Key, Option<Verdict>>,
    },
    /// Sets all rules of an existing chain.
    ReplaceRules {
        /// Name of the chain.
        chain: String,
        /// The rules.
        rules: Vec<Rule>,
    },
    /// Deletes a set that no rule names.
    DeleteSet {
        /// Its name.
        name: String,
    },
    /// Deletes a chain without rules that nothing jumps to.
    DeleteChain {
        /// Its name.
        name: String,
    },
}

/// What turns one table into another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// To be applied at once.
    pub changes: Vec<Change>,
    /// Chains left over, without rules and unreferenced. They are to be deleted after `changes`, in a
    /// step of their own: Linux before 6.2 notices a map element's end a moment late and refuses.
    pub stale_chains: Vec<String>,
}

impl Table {
    /// All changes that make this table out of nothing.
    pub fn creation(&self) -> Vec<Change> {
        match Self::default().difference(self) {
            Some(difference) => difference.changes,
            None => Vec::new(),
        }
    }

    /// What turns this table into `wanted`; `None` where only a new table will do (a base chain or a
    /// set changes its nature).
    pub fn difference(&self, wanted: &Self) -> Option<Difference> {
        let mut changes = Vec::new();
        let (sets, chains) = (side_by_side(&self.sets, &wanted.sets), side_by_side(&self.chains, &wanted.chains));
        for (name, old, set) in &sets {
            match (old, set) {
                (Some(old), Some(set)) if !old.is_like(set) => return None,
                (None, Some(set)) => {
                    changes.push(Change::AddSet { name: (*name).clone(), kind: set.kind, fields: set.fields.clone() });
                }
                _ => {}
            }
        }
        for (name, old, chain) in &chains {
            match (old, chain) {
                (Some(old), Some(chain)) if old.base != chain.base => return None,
                (None, Some(chain)) => changes.push(Change::AddChain { name: (*name).clone(), base: chain.base }),
                _ => {}
            }
        }
        let nothing = BTreeMap::new();
        for (name, old, set) in &sets {
            let Some(set) = set else { continue };
            let old = old.map_or(&nothing, |old| &old.elements);
            if *old == set.elements {
                continue;
            }
            let leaving = missing(old, &set.elements);
            if !leaving.is_empty() {
                changes.push(Change::DeleteElements { set: (*name).clone(), kind: set.kind, elements: leaving });
            }
            let coming = missing(&set.elements, old);
            if !coming.is_empty() {
                changes.push(Change::AddElements { set: (*name).clone(), kind: set.kind, elements: coming });
            }
        }
        for (name, old, chain) in &chains {
            let Some(chain) = chain else { continue };
            if old.map_or(&[][..], |old| &old.rules) != chain.rules {
                changes.push(Change::ReplaceRules { chain: (*name).clone(), rules: chain.rules.clone() });
            }
        }
        let mut stale_chains = Vec::new();
        for (name, old, chain) in &chains {
            let (Some(old), None) = (old, chain) else { continue };
            if !old.rules.is_empty() {
                changes.push(Change::ReplaceRules { chain: (*name).clone(), rules: Vec::new() });
            }
            stale_chains.push((*name).clone());
        }
        let gone = sets.iter().filter(|(_, _, set)| set.is_none());
        changes.extend(gone.map(|(name, _, _)| Change::DeleteSet { name: (*name).clone() }));
        Some(Difference { changes, stale_chains })
    }
}

/// The values of both by name, in order of the names.
fn side_by_side<'a, V>(
    old: &'a BTreeMap<String, V>,
    new: &'a BTreeMap<String, V>,
) -> Vec<(&'a String, Option<&'a V>, Option<&'a V>)> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let mut both = Vec::with_capacity(old.len().max(new.len()));
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some((before, _)), Some((after, _))) => before.cmp(after),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return both,
        };
        let before = if order.is_le() { old.next() } else { None };
        let after = if order.is_ge() { new.next() } else { None };
        both.extend(before.or(after).map(|(name, _)| (name, before.map(|(_, value)| value), after.map(|(_, value)| value))));
    }
}

/// What of `these` is not in `those`, or differs there.
fn missing(these: &BTreeMap<Key, Option<Verdict>>, those: &BTreeMap<Key, Option<Verdict>>) -> BTreeMap<Key, Option<Verdict>> {
    let differs = |(key, verdict): &(&Key, &Option<Verdict>)| those.get(*key) != Some(*verdict);
    these.iter().filter(differs).map(|(key, verdict)| (key.clone(), verdict.clone())).collect()
}

/// A connection that the kernel remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    /// Its protocol.
    pub protocol: Protocol,
    /// Who opened it.
    pub source: (Ipv4Addr, u16),
    /// Where to, before any translation.
    pub destination: (Ipv4Addr, u16),
    /// Who answers: the destination after translation.
    pub answers_from: (Ipv4Addr, u16),
}

/// Packet rules of a machine.
pub trait PacketRules: Send + Sync {
    /// Puts `table` in the place of the table `name`, in one step.
    fn replace_table(&self, name: &str, table: Table) -> Answer<()>;
    /// Changes the existing table `name`, all or nothing.
    fn change_table(&self, name: &str, changes: Vec<Change>) -> Answer<()>;
    /// Deletes a table. A missing one is fine.
    fn delete_table(&self, name: &str) -> Answer<()>;
    /// Identity of the table: another number once somebody deleted and remade it, `None` where missing.
    fn table_identity(&self, name: &str) -> Answer<Option<u64>>;
    /// Connections of one protocol that are remembered.
    fn connections(&self, protocol: Protocol) -> Answer<Vec<Connection>>;
    /// Forgets connections, so that their next packet is looked at anew. Missing ones are fine.
    fn forget_connections(&self, connections: Vec<Connection>) -> Answer<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(elements: &[(u16, &str)], chains: &[(&str, &[&str])]) -> Table {
        let mut map = Set::new(SetKind::Verdicts, &[Field::DestinationPort]);
        map.elements =
            elements.iter().map(|(port, chain)| (vec![Value::Port(*port)], Some(Verdict::Goto((*chain).into())))).collect();
        let rule = |chain: &&str| vec![Statement::Verdict(Verdict::Jump((*chain).into()))];
        let chains = chains
            .iter()
            .map(|(name, jumps)| ((*name).to_owned(), Chain { base: None, rules: jumps.iter().map(rule).collect() }));
        Table { chains: chains.collect(), sets: BTreeMap::from([("ports".into(), map)]) }
    }

    fn names(difference: &Difference) -> Vec<String> {
        let name = |change: &Change| match change {
            Change::AddSet { name, .. } => format!("+set {name}"),
            Change::AddChain { name, .. } => format!("+chain {name}"),
            Change::DeleteElements { elements, .. } => format!("-{}", elements.len()),
            Change::AddElements { elements, .. } => format!("+{}", elements.len()),
            Change::ReplaceRules { chain, rules } => format!("{chain}={}", rules.len()),
            Change::DeleteSet { name } => format!("-set {name}"),
            Change::DeleteChain { name } => format!("-chain {name}"),
        };
        difference.changes.iter().map(name).collect()
    }

    #[track_caller]
    fn check(old: &Table, new: &Table, changes: &[&str], stale: &[&str]) {
        let difference = old.difference(new).expect("tables are alike");
        assert_eq!(names(&difference), changes);
        assert_eq!(difference.stale_chains, stale);
    }

    #[test]
    fn differences() {
        let one = table(&[(80, "a")], &[("a", &["b"]), ("b", &[])]);
        check(&one, &one, &[], &[]);
        check(&Table::default(), &one, &["+set ports", "+chain a", "+chain b", "+1", "a=1"], &[]);
        let two = table(&[(80, "c"), (81, "c")], &[("c", &[])]);
        check(&one, &two, &["+chain c", "-1", "+2", "a=0"], &["a", "b"]);
        check(&one, &Table::default(), &["a=0", "-set ports"], &["a", "b"]);
    }
}
