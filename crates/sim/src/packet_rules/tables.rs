//! The tables that a machine's components have set, and their changes.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::io;
use std::time::Duration;

use daruma_world::packet_rules::{Chain, ChainKind, Change, Hook, Key, Rule, Set, SetKind, Statement, Table, Value, Verdict};

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
        let kept = self.tables.get_mut(name).ok_or_else(|| missing(format_args!("table {name}")))?;
        let table = &mut kept.table;
        let touched: Vec<Touched> = changes.iter().filter_map(Touched::by).collect();
        let moves_bases =
            changes.iter().any(|change| matches!(change, Change::AddChain { base: Some(_), .. } | Change::DeleteChain { .. }));
        let mut undo = Vec::new();
        let applied = changes.into_iter().try_for_each(|change| apply(table, change, &mut undo));
        // What stays as it is names what is there: nothing goes while somebody names it.
        if let Err(error) = applied.and_then(|()| touched.iter().try_for_each(|touched| touched.check(table))) {
            undo.into_iter().rev().for_each(|undo| undo(table));
            return Err(error);
        }
        self.recent.retain(|(of, set), _| of != name || table.sets.contains_key(set));
        if moves_bases {
            self.keep_bases(name);
        }
        Ok(())
    }

    fn keep(&mut self, name: &str, kept: Kept) {
        self.tables.insert(name.to_owned(), kept);
        self.keep_bases(name);
    }

    fn keep_bases(&mut self, name: &str) {
        self.bases.retain(|base| base.table != name);
        let chains = self.tables.get(name).into_iter().flat_map(|kept| &kept.table.chains);
        self.bases.extend(chains.filter_map(|(chain, known)| {
            let base = known.base?;
            let (hook, priority, kind) = (base.hook, base.priority, base.kind);
            Some(BaseChain { hook, priority, table: name.to_owned(), chain: chain.clone(), kind })
        }));
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

    /// A table by its name.
    pub(super) fn named<'a>(&'a self, name: &'a str) -> Option<Named<'a>> {
        self.tables.get(name).map(|kept| Named { name, table: &kept.table })
    }

    fn set(&self, table: &str, set: &str) -> Option<&Set> {
        self.tables.get(table)?.table.sets.get(set)
    }

    /// Whether a set whose keys vanish has this one now.
    pub(super) fn has_recent(&self, table: &str, set: &str, key: &[Value], now: Duration) -> bool {
        let known = self.recent.get(&(table.to_owned(), set.to_owned()));
        known.zip(key.first()).and_then(|(known, value)| known.get(value)).is_some_and(|vanishes| *vanishes > now)
    }
}

/// A table and its name.
#[derive(Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    table: &'a Table,
}

impl<'a> Named<'a> {
    pub(super) fn rules(self, chain: &str) -> Option<&'a [Rule]> {
        self.table.chains.get(chain).map(|chain| chain.rules.as_slice())
    }

    pub(super) fn set(self, set: &str) -> Option<&'a Set> {
        self.table.sets.get(set)
    }

    pub(super) fn verdict(self, map: &str, key: &[Value]) -> Option<&'a Verdict> {
        self.set(map)?.elements.get(key)?.as_ref()
    }
}

/// Takes one change back.
type Undo = Box<dyn FnOnce(&mut Table)>;

/// Carries one change out as nf_tables does, or refuses it as nf_tables does. What was done, a part of a refused change too, is
/// taken back by `undo`, the last of them first.
fn apply(table: &mut Table, change: Change, undo: &mut Vec<Undo>) -> io::Result<()> {
    match change {
        Change::AddSet { name, kind, fields } => match table.sets.get(&name) {
            Some(old) if old.kind != kind || old.fields != fields => return Err(exists(format_args!("set {name}"))),
            Some(_) => {}
            None => {
                table.sets.insert(name.clone(), Set::new(kind, &fields));
                undo.push(Box::new(move |table| drop(table.sets.remove(&name))));
            }
        },
        Change::AddChain { name, base } => match table.chains.get(&name) {
            Some(old) if old.base != base => return Err(exists(format_args!("chain {name}"))),
            Some(_) => {}
            None => {
                table.chains.insert(name.clone(), Chain { base, rules: Vec::new() });
                undo.push(Box::new(move |table| drop(table.chains.remove(&name))));
            }
        },
        Change::DeleteElements { set, elements, .. } => {
            for key in elements.into_keys() {
                let known = elements_of(table, &set)?;
                let verdict = known.remove(&key).ok_or_else(|| missing(format_args!("an element of set {set}")))?;
                let set = set.clone();
                undo.push(Box::new(move |table| {
                    if let Some(set) = table.sets.get_mut(&set) {
                        set.elements.insert(key, verdict);
                    }
                }));
            }
        }
        Change::AddElements { set, elements, .. } => {
            for (key, verdict) in elements {
                match elements_of(table, &set)?.entry(key) {
                    Entry::Occupied(old) if *old.get() != verdict => {
                        return Err(exists(format_args!("an element of set {set}")));
                    }
                    Entry::Occupied(_) => {}
                    Entry::Vacant(place) => {
                        let (set, key) = (set.clone(), place.key().clone());
                        place.insert(verdict);
                        undo.push(Box::new(move |table| {
                            if let Some(set) = table.sets.get_mut(&set) {
                                set.elements.remove(&key);
                            }
                        }));
                    }
                }
            }
        }
        Change::ReplaceRules { chain, rules } => {
            let known = table.chains.get_mut(&chain).ok_or_else(|| missing(format_args!("chain {chain}")))?;
            let old = std::mem::replace(&mut known.rules, rules);
            undo.push(Box::new(move |table| {
                table.chains.entry(chain).and_modify(|known| known.rules = old);
            }));
        }
        Change::DeleteSet { name } => {
            if statements(table).any(|statement| set_of(statement) == Some(&name)) {
                return Err(busy(format_args!("set {name}")));
            }
            let old = table.sets.remove(&name).ok_or_else(|| missing(format_args!("set {name}")))?;
            undo.push(Box::new(move |table| drop(table.sets.insert(name, old))));
        }
        Change::DeleteChain { name } => {
            let chain = table.chains.get(&name).ok_or_else(|| missing(format_args!("chain {name}")))?;
            if !chain.rules.is_empty() || targets(table).any(|target| *target == name) {
                return Err(busy(format_args!("chain {name}")));
            }
            let base = table.chains.remove(&name).and_then(|chain| chain.base);
            undo.push(Box::new(move |table| drop(table.chains.insert(name, Chain { base, rules: Vec::new() }))));
        }
    }
    Ok(())
}

fn elements_of<'a>(table: &'a mut Table, set: &str) -> io::Result<&'a mut BTreeMap<Key, Option<Verdict>>> {
    table.sets.get_mut(set).map(|set| &mut set.elements).ok_or_else(|| missing(format_args!("set {set}")))
}

/// Every chain and set that is named exists.
fn check(table: &Table) -> io::Result<()> {
    table.chains.values().try_for_each(|chain| check_rules(table, &chain.rules))?;
    table.sets.values().try_for_each(|set| check_set(table, set))
}

/// What a change may have made name what is not there.
enum Touched {
    Chain(String),
    Set(String),
}

impl Touched {
    fn by(change: &Change) -> Option<Self> {
        match change {
            Change::ReplaceRules { chain, .. } => Some(Self::Chain(chain.clone())),
            Change::AddElements { set, .. } => Some(Self::Set(set.clone())),
            _ => None,
        }
    }

    fn check(&self, table: &Table) -> io::Result<()> {
        match self {
            Self::Chain(name) => table.chains.get(name).map_or(Ok(()), |chain| check_rules(table, &chain.rules)),
            Self::Set(name) => table.sets.get(name).map_or(Ok(()), |set| check_set(table, set)),
        }
    }
}

fn check_rules(table: &Table, rules: &[Rule]) -> io::Result<()> {
    for statement in rules.iter().flatten() {
        verdicts(statement).iter().try_for_each(|verdict| check_verdict(table, verdict))?;
        if let Some(set) = set_of(statement).filter(|set| !table.sets.contains_key(*set)) {
            return Err(missing(format_args!("set {set}")));
        }
    }
    Ok(())
}

fn check_set(table: &Table, set: &Set) -> io::Result<()> {
    set.elements.values().flatten().try_for_each(|verdict| check_verdict(table, verdict))
}

fn check_verdict(table: &Table, verdict: &Verdict) -> io::Result<()> {
    match target(verdict).filter(|chain| !table.chains.contains_key(*chain)) {
        Some(chain) => Err(missing(format_args!("chain {chain}"))),
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

fn verdicts(statement: &Statement) -> &[Verdict] {
    match statement {
        Statement::Verdict(verdict) => std::slice::from_ref(verdict),
        Statement::DispatchRandom(verdicts) => verdicts,
        _ => &[],
    }
}

fn target(verdict: &Verdict) -> Option<&String> {
    match verdict {
        Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
        _ => None,
    }
}

/// All chains that verdicts lead to.
fn targets(table: &Table) -> impl Iterator<Item = &String> {
    let in_rules = statements(table).flat_map(verdicts);
    let in_maps = table.sets.values().flat_map(|set| set.elements.values().flatten());
    in_rules.chain(in_maps).filter_map(target)
}
