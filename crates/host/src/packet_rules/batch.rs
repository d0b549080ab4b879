//! Changes of a table as one nf_tables transaction (linux/netfilter/nf_tables.h).

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;

use daruma_world::packet_rules::{Base, ChainKind, Change, Field, Hook, Key, Rule, SetKind, Statement, Value, Verdict};

use super::expressions;
use crate::netlink::nf_tables::{BaseChain, Family, Transaction};
use crate::netlink::{Messages, Socket, flags};

const DELETE_CHAIN: u8 = 5;
const NEW_RULE: u8 = 6;
const DELETE_RULE: u8 = 8;
const NEW_SET: u8 = 9;
const DELETE_SET: u8 = 11;
const NEW_ELEMENTS: u8 = 12;
const DELETE_ELEMENTS: u8 = 14;

pub(super) const LIST_ELEMENT: u16 = 1;
pub(super) const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

const SET_ANONYMOUS: u32 = 0x1;
const SET_CONSTANT: u32 = 0x2;
const SET_MAP: u32 = 0x8;
const SET_TIMEOUT: u32 = 0x10;
const SET_EVAL: u32 = 0x20;
const DATA_TYPE_VERDICT: u32 = 0xffff_ff00;
/// Most keys of a set that packets fill, as the `nft` program has it.
const RECENT_SIZE: u32 = 65_535;
/// Elements in one message; an attribute holds 64 KiB.
const ELEMENTS_A_MESSAGE: usize = 200;

/// A batch for one table.
pub(super) struct Batch<'a> {
    transaction: Transaction<'a>,
    sets: u32,
}

impl<'a> Batch<'a> {
    /// An empty batch.
    pub(super) fn new(table: &'a str) -> Self {
        Self { transaction: Transaction::new(Family::Ipv4, table), sets: 0 }
    }

    /// Deletes the table, present or not.
    pub(super) fn delete_table(&mut self) {
        self.transaction.delete_table();
    }

    /// Puts an empty table in its place.
    pub(super) fn remake_table(&mut self) {
        self.transaction.delete_table();
        self.transaction.add_table();
    }

    /// Has the kernel do it.
    pub(super) fn commit(self, socket: &mut Socket) -> io::Result<()> {
        self.transaction.commit(socket)
    }

    /// Adds one change.
    pub(super) fn add(&mut self, change: &Change) {
        match change {
            Change::AddSet { name, kind, fields } => self.add_set(name, *kind, fields),
            Change::AddChain { name, base } => self.transaction.add_chain(name, base.map(base_chain)),
            Change::DeleteElements { set, kind, elements } => self.elements(DELETE_ELEMENTS, 0, set, *kind, elements),
            Change::AddElements { set, kind, elements } => {
                self.elements(NEW_ELEMENTS, flags::CREATE | flags::EXCL, set, *kind, elements);
            }
            Change::ReplaceRules { chain, rules } => {
                self.transaction.add(DELETE_RULE, 0, |messages| messages.string(2, chain));
                for rule in rules {
                    self.add_rule(chain, rule);
                }
            }
            Change::DeleteSet { name } => self.transaction.add(DELETE_SET, 0, |messages| messages.string(2, name)),
            Change::DeleteChain { name } => self.transaction.add(DELETE_CHAIN, 0, |messages| messages.string(3, name)),
        }
    }

    fn add_set(&mut self, name: &str, kind: SetKind, fields: &[Field]) {
        self.sets += 1;
        let id = self.sets;
        self.transaction.add(NEW_SET, flags::CREATE | flags::EXCL, |messages| {
            messages.string(2, name);
            let set_flags = match kind {
                SetKind::Plain => 0,
                SetKind::Verdicts => SET_MAP,
                SetKind::Recent(_) => SET_TIMEOUT | SET_EVAL,
            };
            messages.be32(3, set_flags);
            messages.be32(4, fields.iter().fold(0, |kind, field| kind << 6 | field_type(*field)));
            messages.be32(5, fields.len() as u32 * 4 - tail(fields));
            if kind == SetKind::Verdicts {
                messages.be32(6, DATA_TYPE_VERDICT);
                messages.be32(7, 0);
            }
            if let SetKind::Recent(timeout) = kind {
                messages.nested(9, |messages| messages.be32(1, RECENT_SIZE));
                messages.attribute(11, &(timeout.as_millis() as u64).to_be_bytes());
            }
            messages.be32(10, id);
        });
    }

    fn elements(
        &mut self,
        kind: u8,
        message_flags: u16,
        set: &str,
        set_kind: SetKind,
        elements: &BTreeMap<Key, Option<Verdict>>,
    ) {
        let all: Vec<_> = elements.iter().collect();
        for part in all.chunks(ELEMENTS_A_MESSAGE) {
            self.transaction.add(kind, message_flags, |messages| {
                messages.string(2, set);
                messages.nested(3, |messages| {
                    for (key, verdict) in part {
                        let verdict = verdict.as_ref().filter(|_| set_kind == SetKind::Verdicts);
                        messages.nested(LIST_ELEMENT, |messages| element(messages, &key_bytes(key), verdict.map(Data::Verdict)));
                    }
                });
            });
        }
    }

    fn add_rule(&mut self, chain: &str, rule: &Rule) {
        // Sets inside a rule have to be there before it.
        let anonymous: Vec<u32> = rule.iter().filter_map(|statement| self.add_anonymous(statement)).collect();
        self.transaction.add(NEW_RULE, flags::CREATE | flags::APPEND, |messages| {
            messages.string(2, chain);
            messages.nested(4, |messages| expressions::write(messages, rule, &anonymous));
        });
    }

    /// Makes the map of a statement that chooses at random among several; gives its number.
    fn add_anonymous(&mut self, statement: &Statement) -> Option<u32> {
        let (data_type, data_length, data): (u32, u32, Vec<Data<'_>>) = match statement {
            Statement::DispatchRandom(verdicts) => (DATA_TYPE_VERDICT, 0, verdicts.iter().map(Data::Verdict).collect()),
            Statement::TranslateDestination(targets) if targets.len() > 1 => {
                let kind = field_type(Field::DestinationAddress) << 6 | field_type(Field::DestinationPort);
                (kind, 8, targets.iter().map(|(address, port)| Data::Target(*address, *port)).collect())
            }
            _ => return None,
        };
        self.sets += 1;
        let id = self.sets;
        self.transaction.add(NEW_SET, flags::CREATE | flags::EXCL, |messages| {
            messages.string(2, "__map%d");
            messages.be32(3, SET_ANONYMOUS | SET_CONSTANT | SET_MAP);
            // An integer of four bytes; that it is in host order is said in the user data, for `nft list`.
            messages.be32(4, 4);
            messages.be32(5, 4);
            messages.be32(6, data_type);
            messages.be32(7, data_length);
            messages.nested(9, |messages| messages.be32(1, data.len() as u32));
            messages.be32(10, id);
            messages.attribute(13, &[0, 4, 1, 0, 0, 0]);
        });
        let numbered: Vec<_> = data.into_iter().enumerate().collect();
        for part in numbered.chunks(ELEMENTS_A_MESSAGE) {
            self.transaction.add(NEW_ELEMENTS, flags::CREATE, |messages| {
                messages.string(2, "__map%d");
                messages.be32(4, id);
                messages.nested(3, |messages| {
                    for (number, data) in part {
                        let key = (*number as u32).to_ne_bytes();
                        messages.nested(LIST_ELEMENT, |messages| element(messages, &key, Some(*data)));
                    }
                });
            });
        }
        Some(id)
    }
}

/// What a map gives for a key.
#[derive(Clone, Copy)]
enum Data<'a> {
    Verdict(&'a Verdict),
    Target(Ipv4Addr, u16),
}

fn element(messages: &mut Messages, key: &[u8], data: Option<Data<'_>>) {
    messages.nested(1, |messages| messages.attribute(DATA_VALUE, key));
    match data {
        Some(Data::Verdict(of)) => messages.nested(2, |messages| verdict(messages, of)),
        Some(Data::Target(address, port)) => messages.nested(2, |messages| {
            let mut bytes = address.octets().to_vec();
            bytes.extend_from_slice(&port.to_be_bytes());
            bytes.extend_from_slice(&[0, 0]);
            messages.attribute(DATA_VALUE, &bytes);
        }),
        None => {}
    }
}

/// The attribute of a verdict (`NFTA_DATA_VERDICT`).
pub(super) fn verdict(messages: &mut Messages, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3i32, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5, None),
    };
    messages.nested(DATA_VERDICT, |messages| {
        messages.be32(1, code as u32);
        if let Some(chain) = chain {
            messages.string(2, chain);
        }
    });
}

fn base_chain(base: Base) -> BaseChain {
    let kind = if base.kind == ChainKind::Nat { "nat" } else { "filter" };
    BaseChain { hook: hook_number(base.hook), priority: base.priority, accept: true, kind }
}

/// Types as the `nft` program numbers them, so that it can list what we made.
fn field_type(field: Field) -> u32 {
    match field {
        Field::SourceAddress | Field::DestinationAddress => 7,
        Field::Protocol => 12,
        Field::DestinationPort => 13,
    }
}

/// Bytes by which a key's last field is shorter than a register; only a key of one field is cut.
fn tail(fields: &[Field]) -> u32 {
    match fields {
        [Field::Protocol] => 3,
        [Field::DestinationPort] => 2,
        _ => 0,
    }
}

fn key_bytes(key: &Key) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() * 4);
    for value in key {
        match value {
            Value::Address(address) => bytes.extend_from_slice(&address.octets()),
            Value::Protocol(protocol) => bytes.push(protocol.number()),
            Value::Port(port) => bytes.extend_from_slice(&port.to_be_bytes()),
        }
        while key.len() > 1 && !bytes.len().is_multiple_of(4) {
            bytes.push(0);
        }
    }
    bytes
}

fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}
