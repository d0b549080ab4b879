//! The tables that a machine's components have set, and their changes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use daruma_world::packet_rules::{Chain, ChainKind, Change, Hook, Rule, Set, SetKind, Statement, Table, Value, Verdict};

use super::evaluate::Recent;

/// A base chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BaseChain {
    pub(super) hook: Hook,
    pub(super) priority: i32,
    pub(super) table: String,
    pub(super) chain: String,
    pub(super) kind: ChainKind,
}

struct Kept {
    identity: u64,
    table: Table,
}

/// All tables of a machine.
#[derive(Default)]
pub struct Tables {
    tables: BTreeMap<String, Kept>,
    bases: BTreeSet<BaseChain>,
    recent: Recent,
    identities: u64,
}

fn missing(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{what}: No such file or directory"))
}

fn busy(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, format!("{what}: Device or resource busy"))
}

fn exists(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, format!("{what}: File exists"))
}

impl Tables {
    /// Puts a table in the place of the one of this name.
    pub fn replace(&mut self, name: &str, table: Table) -> io::Result<()> {
        check(&table)?;
        self.identities += 1;
        self.recent.retain(|(of, _), _| of != name);
        self.keep(name, Kept { identity: self.identities, table });
        Ok(())
    }

    /// Changes a table, all or nothing.
    pub fn change(&mut self, name: &str, changes: Vec<Change>) -> io::Result<()> {
        let kept = self.tables.get(name).ok_or_else(|| missing(format_args!("table {name}")))?;
        let (identity, mut table) = (kept.identity, kept.table.clone());
        for change in changes {
            apply(&mut table, change)?;
        }
        check(&table)?;
        self.recent.retain(|(of, set), _| of != name || table.sets.contains_key(set));
        self.keep(name, Kept { identity, table });
        Ok(())
    }

    fn keep(&mut self, name: &str, kept: Kept) {
        self.bases.retain(|base| base.table != name);
        for (chain, base) in kept.table.chains.iter().filter_map(|(chain, known)| Some((chain, known.base?))) {
            let base = BaseChain {
                hook: base.hook,
                priority: base.priority,
                table: name.to_owned(),
                chain: chain.clone(),
                kind: base.kind,
            };
            self.bases.insert(base);
        }
        self.tables.insert(name.to_owned(), kept);
    }

    /// Deletes a table. A missing one is fine.
    pub fn delete(&mut self, name: &str) {
        self.tables.remove(name);
        self.bases.retain(|base| base.table != name);
        self.recent.retain(|(of, _), _| of != name);
    }

    /// The number of a table's making.
    pub fn identity(&self, name: &str) -> Option<u64> {
        self.tables.get(name).map(|kept| kept.identity)
    }

    /// No table is there, so that every packet passes as it is.
    pub fn is_empty(&self) -> bool {
        self.bases.is_empty()
    }

    /// Adds what a packet left behind to its sets.
    pub fn remember(&mut self, remembered: &[(String, String, Value)], now: Duration) {
        for (table, set, value) in remembered {
            if let Some(SetKind::Recent(time)) = self.set(table, set).map(|set| set.kind) {
                let known = self.recent.entry((table.clone(), set.clone())).or_default();
                known.retain(|_, vanishes| *vanishes > now);
                known.insert(*value, now + time);
            }
        }
    }

    /// The base chains of a hook, by priority.
    pub(super) fn bases(&self, hook: Hook) -> impl Iterator<Item = &BaseChain> {
        self.bases.iter().filter(move |base| base.hook == hook)
    }

    pub(super) fn rules(&self, table: &str, chain: &str) -> Option<&[Rule]> {
        self.tables.get(table)?.table.chains.get(chain).map(|chain| chain.rules.as_slice())
    }

    fn set(&self, table: &str, set: &str) -> Option<&Set> {
        self.tables.get(table)?.table.sets.get(set)
    }

    pub(super) fn contains(&self, table: &str, name: &str, key: &[Value], now: Duration) -> bool {
        match self.set(table, name) {
            Some(Set { kind: SetKind::Recent(_), .. }) => {
                let known = self.recent.get(&(table.to_owned(), name.to_owned()));
                known.zip(key.first()).and_then(|(known, value)| known.get(value)).is_some_and(|vanishes| *vanishes > now)
            }
            Some(set) => set.elements.contains_key(key),
            None => false,
        }
    }

    pub(super) fn verdict(&self, table: &str, map: &str, key: &[Value]) -> Option<&Verdict> {
        self.set(table, map)?.elements.get(key)?.as_ref()
    }
}

/// Carries one change out as nf_tables does, or refuses it as nf_tables does.
fn apply(table: &mut Table, change: Change) -> io::Result<()> {
    match change {
        Change::AddSet { name, kind, fields } => match table.sets.get(&name) {
            Some(old) if old.kind != kind || old.fields != fields => return Err(exists(format_args!("set {name}"))),
            Some(_) => {}
            None => {
                table.sets.insert(name, Set::new(kind, &fields));
            }
        },
        Change::AddChain { name, base } => match table.chains.get(&name) {
            Some(old) if old.base != base => return Err(exists(format_args!("chain {name}"))),
            Some(_) => {}
            None => {
                table.chains.insert(name, Chain { base, rules: Vec::new() });
            }
        },
        Change::DeleteElements { set, elements, .. } => {
            let known = &mut table.sets.get_mut(&set).ok_or_else(|| missing(format_args!("set {set}")))?.elements;
            for key in elements.keys() {
                known.remove(key).ok_or_else(|| missing(format_args!("an element of set {set}")))?;
            }
        }
        Change::AddElements { set, elements, .. } => {
            let known = &mut table.sets.get_mut(&set).ok_or_else(|| missing(format_args!("set {set}")))?.elements;
            for (key, verdict) in elements {
                if known.get(&key).is_some_and(|old| *old != verdict) {
                    return Err(exists(format_args!("an element of set {set}")));
                }
                known.insert(key, verdict);
            }
        }
        Change::ReplaceRules { chain, rules } => {
            table.chains.get_mut(&chain).ok_or_else(|| missing(format_args!("chain {chain}")))?.rules = rules;
        }
        Change::DeleteSet { name } => {
            if statements(table).any(|statement| set_of(statement) == Some(&name)) {
                return Err(busy(format_args!("set {name}")));
            }
            table.sets.remove(&name).ok_or_else(|| missing(format_args!("set {name}")))?;
        }
        Change::DeleteChain { name } => {
            let chain = table.chains.get(&name).ok_or_else(|| missing(format_args!("chain {name}")))?;
            if !chain.rules.is_empty() || targets(table).any(|target| target == name) {
                return Err(busy(format_args!("chain {name}")));
            }
            table.chains.remove(&name);
        }
    }
    Ok(())
}

/// Every chain and set that is named exists.
fn check(table: &Table) -> io::Result<()> {
    if let Some(chain) = targets(table).find(|chain| !table.chains.contains_key(*chain)) {
        return Err(missing(format_args!("chain {chain}")));
    }
    match statements(table).filter_map(set_of).find(|set| !table.sets.contains_key(*set)) {
        Some(set) => Err(missing(format_args!("set {set}"))),
        None => Ok(()),
    }
}

fn statements(table: &Table) -> impl Iterator<Item = &Statement> {
    table.chains.values().flat_map(|chain| chain.rules.iter().flatten())
}

fn set_of(statement: &Statement) -> Option<&String> {
    match statement {
        Statement::Lookup { set, .. } | Statement::Remember { set, .. } | Statement::Dispatch { map: set, .. } => Some(set),
        _ => None,
    }
}

/// All chains that verdicts lead to.
fn targets(table: &Table) -> impl Iterator<Item = &str> {
    let in_rules = statements(table).flat_map(|statement| match statement {
        Statement::Verdict(verdict) => std::slice::from_ref(verdict),
        Statement::DispatchRandom(verdicts) => verdicts,
        _ => &[],
    });
    let in_maps = table.sets.values().flat_map(|set| set.elements.values().flatten());
    in_rules.chain(in_maps).filter_map(|verdict| match verdict {
        Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain.as_str()),
        _ => None,
    })
}
