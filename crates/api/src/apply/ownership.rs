//! What a write does to the ownership of fields.
//!
//! Source: structured-merge-diff merge/update.go, for objects of one version: what managers own in others is obsolete.

use std::collections::BTreeMap;

use serde_json::Value;

use super::check::Misfits;
use super::compare::{Comparison, compare};
use super::conflict::Conflicts;
use super::field_manager::Versions;
use super::field_set::field_set;
use super::literal::equal;
use super::managers::{ManagerId, Managers, Owned};
use super::merge::merge;
use super::remove::{drop_emptied, remove};
use super::schema::Schema;
use super::set::Set;

/// Why ownership cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OwnershipError {
    /// Others own fields that the configuration changes.
    #[error(transparent)]
    Conflicts(Conflicts),
    /// Objects that cannot be compared.
    #[error("failed to compare objects: {0}")]
    Compare(String),
    /// A configuration that cannot be laid over the object.
    #[error("failed to merge config: {0}")]
    Merge(String),
    /// A configuration that does not fit its type.
    #[error(transparent)]
    Misfits(#[from] Misfits),
}

/// The type and version of the objects, and the fields that writes of this kind do not reach.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a, S> {
    pub schema: S,
    pub api_version: &'a str,
    pub versions: Versions,
    pub reset: &'a Set,
}

impl<S: Schema> Rules<'_, S> {
    /// A write of `new` over `old` by `manager`: it owns what it changed, nobody owns what went.
    pub fn update(&self, old: &Value, new: &Value, managers: Managers, manager: &ManagerId) -> Result<Managers, OwnershipError> {
        let (mut managers, comparison) = self.transfer(old, new, self.current(managers), manager, true)?;
        let own = managers.remove(manager).unwrap_or_default();
        let set = own.set.difference(&comparison.removed).union(&comparison.modified).union(&comparison.added);
        let set = set.without_subtrees(self.reset);
        if !set.is_empty() {
            let owned = Owned { set, api_version: self.api_version.to_owned(), applied: false, time: own.time };
            managers.insert(manager.clone(), owned);
        }
        Ok(managers)
    }

    /// `configuration` applied to `live` by `manager`: the object (`None` where it stays as it is) and its managers.
    pub fn apply(
        &self,
        live: &Value,
        configuration: &Value,
        managers: Managers,
        manager: &ManagerId,
        force: bool,
    ) -> Result<(Option<Value>, Managers), OwnershipError> {
        let mut managers = self.current(managers);
        let merged = merge(live, configuration, self.schema).map_err(OwnershipError::Merge)?;
        let set = field_set(configuration, self.schema).without_subtrees(self.reset);
        let last = managers.remove(manager);
        let time = last.as_ref().and_then(|last| last.time.clone());
        managers.insert(manager.clone(), Owned { set, api_version: self.api_version.to_owned(), applied: true, time });
        let mut new = match last {
            Some(last) if !last.set.is_empty() => self.prune(&merged, &managers, &last.set),
            _ => merged,
        };
        let (managers, _) = self.transfer(live, &new, managers, manager, force)?;
        drop_emptied(&mut new, Some(live), self.schema);
        Ok(((!equal(live, &new)).then_some(new), managers))
    }

    /// Managers whose fields are named in a version that the objects know, by the types of today.
    fn current(&self, managers: Managers) -> Managers {
        let of_version = managers.into_iter().filter(|(_, owned)| self.versions.know(self.api_version, &owned.api_version));
        of_version.map(|(id, owned)| (id, Owned { set: owned.set.with_whole_fields(self.schema), ..owned })).collect()
    }

    /// Takes from all but `writer` what differs between the objects.
    fn transfer(
        &self,
        old: &Value,
        new: &Value,
        mut managers: Managers,
        writer: &ManagerId,
        force: bool,
    ) -> Result<(Managers, Comparison), OwnershipError> {
        let comparison = compare(old, new, self.schema).map_err(OwnershipError::Compare)?.without(self.reset);
        let changed = comparison.modified.clone().union(&comparison.added);
        let others = managers.iter().filter(|(id, _)| *id != writer);
        let taken: BTreeMap<ManagerId, Set> = others
            .map(|(id, owned)| (id.clone(), owned.set.intersection(&changed)))
            .filter(|(_, taken)| !taken.is_empty())
            .collect();
        if !force && !taken.is_empty() {
            return Err(OwnershipError::Conflicts(Conflicts::of(&taken)));
        }
        for (id, owned) in managers.iter_mut().filter(|(id, _)| *id != writer) {
            if let Some(taken) = taken.get(id) {
                owned.set = owned.set.difference(taken);
            }
            owned.set = owned.set.difference(&comparison.removed);
        }
        managers.retain(|_, owned| !owned.set.is_empty());
        Ok((managers, comparison))
    }

    /// Takes out of `merged` what the applier owned before and nobody owns now.
    fn prune(&self, merged: &Value, managers: &Managers, last: &Set) -> Value {
        let named = |set: &Set| set.with_named_fields(Some(self.schema));
        let fields = |value: &Value| named(&field_set(value, self.schema));
        let (merged_set, last) = (fields(merged), named(last));
        let pruned = remove(merged, &last, self.schema);
        let owned = managers.values().fold(Set::default(), |all, owned| all.union(&owned.set));
        // What went with its parent and is owned comes back.
        let kept = fields(&pruned).union(&named(&owned));
        let pruned = remove(merged, &merged_set.difference(&kept), self.schema);
        // So does what the applier never owned.
        let gone = merged_set.difference(&fields(&pruned)).intersection(&last);
        remove(merged, &gone, self.schema)
    }
}
