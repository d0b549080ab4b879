//! Who owns whom: objects by uid, their owners and dependents, and what a change in it calls for.
//!
//! Source: kubernetes pkg/controller/garbagecollector (graph.go, graph_builder.go).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Absent owners remembered.
const ABSENT: usize = 500;

/// An owner reference.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Owner {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// Whether it is the controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    /// Whether the owner's foreground deletion waits for this object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

impl Owner {
    fn blocks(&self) -> bool {
        self.block_owner_deletion == Some(true)
    }

    fn is(&self, identity: &Identity) -> bool {
        self.uid == identity.uid
            && self.name == identity.name
            && self.kind == identity.kind
            && self.api_version == identity.api_version
    }
}

/// All that names an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// Kind.
    pub kind: String,
    /// Group and version.
    pub api_version: String,
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
}

/// What a watch shows of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// What it is.
    pub identity: Identity,
    /// Its owners.
    pub owners: Vec<Owner>,
    /// Whether it is being deleted.
    pub being_deleted: bool,
    /// Whether it waits for its dependents to be deleted.
    pub foreground: bool,
    /// Whether it waits for its dependents to be orphaned.
    pub orphan: bool,
}

impl Seen {
    /// Whether it waits for orphaning, and for deletion, of its dependents.
    fn waits(&self) -> (bool, bool) {
        (self.being_deleted && self.orphan, self.being_deleted && self.foreground)
    }
}

/// One object.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// What it is; of an object never seen, what a dependent says.
    pub identity: Identity,
    /// Its owners.
    pub owners: Vec<Owner>,
    /// Uids of objects that name it as owner.
    pub dependents: BTreeSet<String>,
    /// Whether it is being deleted.
    pub being_deleted: bool,
    /// Whether it waits for its dependents to be deleted.
    pub deleting_dependents: bool,
    /// Whether it has been seen, not only named by a dependent.
    pub observed: bool,
    /// Whether it last showed that it waits for orphaning, and for deletion, of its dependents.
    pub waits: (bool, bool),
}

/// What is to be done after a change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Look whether the object with this uid must go.
    Attempt(String),
    /// The same, with back-off.
    AttemptLater(String),
    /// Take the object with this uid out of its dependents' owners.
    Orphan(String),
    /// The object names an owner that is in another namespace.
    WrongNamespace(Identity, Owner),
}

/// The graph.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: BTreeMap<String, Node>,
    absent: BTreeSet<Identity>,
    effects: Vec<Effect>,
}

impl Graph {
    /// One object.
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// Objects known.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether an owner is known not to exist; `namespace` is its dependent's.
    pub fn is_absent(&self, owner: &Owner, namespace: &str) -> bool {
        self.absent.contains(&coordinates(owner, "")) || self.absent.contains(&coordinates(owner, namespace))
    }

    /// Remembers that an owner does not exist.
    pub fn remember_absent(&mut self, owner: &Owner, namespace: &str) {
        self.remember(coordinates(owner, namespace));
    }

    fn remember(&mut self, identity: Identity) {
        if self.absent.len() >= ABSENT {
            self.absent.pop_first();
        }
        self.absent.insert(identity);
    }

    /// The dependents that hold up the foreground deletion of `uid`.
    pub fn blocking_dependents(&self, uid: &str) -> Vec<&Node> {
        let Some(node) = self.nodes.get(uid) else { return Vec::new() };
        let dependents = node.dependents.iter().filter_map(|dependent| self.nodes.get(dependent));
        dependents.filter(|dependent| dependent.owners.iter().any(|owner| owner.uid == uid && owner.blocks())).collect()
    }

    /// All dependents of `uid`.
    pub fn dependents(&self, uid: &str) -> Vec<&Node> {
        let Some(node) = self.nodes.get(uid) else { return Vec::new() };
        node.dependents.iter().filter_map(|dependent| self.nodes.get(dependent)).collect()
    }

    /// An object was added or changed.
    pub fn seen(&mut self, seen: Seen) -> Vec<Effect> {
        let uid = seen.identity.uid.clone();
        self.observe(&seen.identity);
        if let Some(node) = self.nodes.get_mut(&uid) {
            let old = std::mem::replace(&mut node.owners, seen.owners.clone());
            node.being_deleted |= seen.being_deleted;
            let added: Vec<Owner> = seen.owners.iter().filter(|new| !old.iter().any(|one| one.uid == new.uid)).cloned().collect();
            for before in old {
                let now = seen.owners.iter().find(|now| now.uid == before.uid);
                if before.blocks() && !now.is_some_and(Owner::blocks) && self.nodes.contains_key(&before.uid) {
                    // The owner waits for one fewer.
                    self.effects.push(Effect::Attempt(before.uid.clone()));
                }
                if now.is_none()
                    && let Some(owner) = self.nodes.get_mut(&before.uid)
                {
                    owner.dependents.remove(&uid);
                }
            }
            self.add_to_owners(&uid, &added);
        } else {
            let node = Node {
                identity: seen.identity.clone(),
                owners: seen.owners.clone(),
                being_deleted: seen.being_deleted,
                deleting_dependents: seen.being_deleted && seen.foreground,
                observed: true,
                ..Node::default()
            };
            self.nodes.insert(uid.clone(), node);
            self.add_to_owners(&uid, &seen.owners);
        }
        self.transitions(&seen);
        std::mem::take(&mut self.effects)
    }

    /// An object that was only named so far shows itself, perhaps as something else.
    fn observe(&mut self, identity: &Identity) {
        let Some(node) = self.nodes.get_mut(&identity.uid) else { return };
        if node.observed {
            return;
        }
        node.observed = true;
        if node.identity == *identity {
            return;
        }
        node.identity = identity.clone();
        let dependents: Vec<String> = node.dependents.iter().cloned().collect();
        for dependent in dependents {
            let Some(node) = self.nodes.get(&dependent) else { continue };
            if !matches(node, identity).1 {
                continue;
            }
            if !identity.namespace.is_empty() && node.identity.namespace != identity.namespace {
                self.report(&dependent, &identity.uid);
            }
            self.effects.push(Effect::Attempt(dependent));
        }
    }

    fn report(&mut self, dependent: &str, owner: &str) {
        let Some(node) = self.nodes.get(dependent) else { return };
        if let Some(reference) = node.owners.iter().find(|one| one.uid == owner) {
            self.effects.push(Effect::WrongNamespace(node.identity.clone(), reference.clone()));
        }
    }

    fn add_to_owners(&mut self, uid: &str, owners: &[Owner]) {
        let Some(namespace) = self.nodes.get(uid).map(|node| node.identity.namespace.clone()) else { return };
        let mut doubtful = false;
        for owner in owners {
            if let Some(node) = self.nodes.get_mut(&owner.uid) {
                node.dependents.insert(uid.to_owned());
                let (identity, observed) = (node.identity.clone(), node.observed);
                if !identity.namespace.is_empty() && identity.namespace != namespace {
                    doubtful = true;
                    if observed {
                        self.report(uid, &owner.uid);
                    }
                } else if !owner.is(&identity) || (identity.namespace.is_empty() && !namespace.is_empty() && !observed) {
                    doubtful = true;
                }
            } else {
                // Never seen: whether it exists is asked live.
                let node = Node {
                    identity: coordinates(owner, &namespace),
                    dependents: BTreeSet::from([uid.to_owned()]),
                    ..Node::default()
                };
                self.nodes.insert(owner.uid.clone(), node);
                self.effects.push(Effect::Attempt(owner.uid.clone()));
            }
        }
        if doubtful {
            self.effects.push(Effect::Attempt(uid.to_owned()));
        }
    }

    fn transitions(&mut self, seen: &Seen) {
        let Some(node) = self.nodes.get_mut(&seen.identity.uid) else { return };
        let now = seen.waits();
        let before = std::mem::replace(&mut node.waits, now);
        if now.0 && !before.0 {
            self.effects.push(Effect::Orphan(seen.identity.uid.clone()));
        } else if now.1 && !before.1 {
            node.deleting_dependents = true;
            self.effects.extend(node.dependents.iter().map(|dependent| Effect::Attempt(dependent.clone())));
            self.effects.push(Effect::Attempt(seen.identity.uid.clone()));
        }
    }

    /// An object is gone.
    pub fn gone(&mut self, uid: &str) -> Vec<Effect> {
        if let Some(identity) = self.nodes.get(uid).map(|node| node.identity.clone()) {
            self.remove(uid, &identity);
        }
        std::mem::take(&mut self.effects)
    }

    /// A live look-up found that nothing of this identity exists.
    pub fn found_absent(&mut self, identity: &Identity) -> Vec<Effect> {
        let Some(node) = self.nodes.get(&identity.uid) else { return Vec::new() };
        let all: Vec<&Node> = node.dependents.iter().filter_map(|dependent| self.nodes.get(dependent)).collect();
        let matching: Vec<String> =
            all.iter().filter(|one| matches(one, identity).0).map(|one| one.identity.uid.clone()).collect();
        let others: Vec<&Node> = all.into_iter().filter(|one| matches(one, identity).1).collect();
        let replace = node.identity == *identity && !node.observed;
        let keep = if node.observed { node.identity != *identity } else { !others.is_empty() };
        if !keep {
            self.remove(&identity.uid.clone(), identity);
            return std::mem::take(&mut self.effects);
        }
        // Some dependents mean another object by this uid: that one may exist.
        let alternative = if replace { alternative(&others, identity) } else { None };
        if !matching.is_empty() {
            self.remember(identity.clone());
            self.effects.extend(matching.into_iter().map(Effect::Attempt));
        }
        if let Some(alternative) = alternative
            && let Some(node) = self.nodes.get_mut(&identity.uid)
        {
            node.identity = alternative;
            self.effects.push(Effect::AttemptLater(identity.uid.clone()));
        }
        std::mem::take(&mut self.effects)
    }

    fn remove(&mut self, uid: &str, identity: &Identity) {
        let Some(node) = self.nodes.remove(uid) else { return };
        if !node.dependents.is_empty() {
            self.remember(identity.clone());
        }
        self.effects.extend(node.dependents.into_iter().map(Effect::Attempt));
        for owner in &node.owners {
            if let Some(owner_node) = self.nodes.get_mut(&owner.uid) {
                owner_node.dependents.remove(uid);
                if owner_node.deleting_dependents {
                    self.effects.push(Effect::Attempt(owner.uid.clone()));
                }
            }
        }
    }
}

fn coordinates(owner: &Owner, namespace: &str) -> Identity {
    Identity {
        kind: owner.kind.clone(),
        api_version: owner.api_version.clone(),
        namespace: namespace.to_owned(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
    }
}

/// Whether the dependent's references agree with what its owner is, and whether any does not.
fn matches(dependent: &Node, owner: &Identity) -> (bool, bool) {
    if !owner.namespace.is_empty() && owner.namespace != dependent.identity.namespace {
        return (false, true);
    }
    let references = dependent.owners.iter().filter(|one| one.uid == owner.uid);
    let agree: Vec<bool> = references.map(|one| one.is(owner)).collect();
    (agree.contains(&true), agree.contains(&false))
}

/// What else dependents say the object with this uid is: the one after `absent`, or the first.
fn alternative(dependents: &[&Node], absent: &Identity) -> Option<Identity> {
    let mut others = BTreeSet::new();
    for dependent in dependents {
        for owner in dependent.owners.iter().filter(|owner| owner.uid == absent.uid) {
            let same_place = absent.namespace.is_empty() || absent.namespace == dependent.identity.namespace;
            if owner.is(absent) && same_place {
                continue;
            }
            let mut other = coordinates(owner, &dependent.identity.namespace);
            if absent.namespace.is_empty() && other.kind == absent.kind && other.api_version == absent.api_version {
                other.namespace.clear();
            }
            if other != *absent {
                others.insert(other);
            }
        }
    }
    others.range(absent.clone()..).next().or_else(|| others.first()).cloned()
}

/// How an owner stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It exists.
    Solid,
    /// It does not.
    Dangling,
    /// It exists and waits for its dependents' deletion.
    Waiting,
}

/// What becomes of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It stays as it is.
    Stay,
    /// It stays, without the references to these owners.
    RemoveReferences(Vec<String>),
    /// It goes once its own dependents are gone; where `unblock`, its references stop to block first,
    /// so that no circle waits for itself.
    DeleteForeground {
        /// See above.
        unblock: bool,
    },
    /// It goes, with this propagation policy.
    Delete(&'static str),
}

/// Decides about an object with owners.
pub fn judge(owners: &[(Owner, Standing)], dependents: &[&Node], orphan: bool, foreground: bool) -> Verdict {
    let uids = |standings: &[Standing]| -> Vec<String> {
        let chosen = owners.iter().filter(|(_, standing)| standings.contains(standing));
        chosen.map(|(owner, _)| owner.uid.clone()).collect()
    };
    if owners.is_empty() {
        return Verdict::Stay;
    }
    if !uids(&[Standing::Solid]).is_empty() {
        let useless = uids(&[Standing::Dangling, Standing::Waiting]);
        return if useless.is_empty() { Verdict::Stay } else { Verdict::RemoveReferences(useless) };
    }
    if !uids(&[Standing::Waiting]).is_empty() && !dependents.is_empty() {
        return Verdict::DeleteForeground { unblock: dependents.iter().any(|dependent| dependent.deleting_dependents) };
    }
    Verdict::Delete(match (orphan, foreground) {
        (true, _) => "Orphan",
        (false, true) => "Foreground",
        (false, false) => "Background",
    })
}
