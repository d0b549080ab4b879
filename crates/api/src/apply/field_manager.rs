//! Writes of objects with their managers: what the server calls.
//!
//! Source: apimachinery pkg/util/managedfields/internal: fieldmanager.go, skipnonapplied.go, managedfieldsupdater.go,
//! stripmeta.go, lastappliedmanager.go, structuredmerge.go.

use serde_json::Value;

use crate::gvk::split_api_version;

use super::cap::cap;
use super::check::{Misfits, check};
use super::conflict::Conflicts;
use super::last_applied;
use super::literal::equal;
use super::managers::{ManagedError, ManagerId, Managers, Operation, Owned, decode, encode};
use super::ownership::{OwnershipError, Rules};
use super::schema::Schema;
use super::set::Set;

/// Who owned what an object had before the first configuration was applied to it.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The name of a manager that gives none.
const UNKNOWN: &str = "unknown";
const KEY: &str = "managedFields";

/// Fields that nobody owns, because the server sets them or every object has them (`stripMetaManager`).
const STRIPPED: &[&[&str]] = &[
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

/// Why a configuration is not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others own fields that it changes.
    #[error(transparent)]
    Conflicts(Conflicts),
    /// It says itself who manages it.
    #[error("metadata.managedFields must be nil")]
    ManagedFields,
    /// It does not fit its type.
    #[error("failed to create typed patch object ({object}): {source}")]
    Configuration {
        /// Namespace, name and kind of the configuration.
        object: String,
        /// What does not fit.
        source: Misfits,
    },
    /// The object's own managers cannot be read.
    #[error("failed to decode managed fields: {0}")]
    Managed(#[from] ManagedError),
    /// What the object had cannot be given to anybody.
    #[error("failed to create manager for existing fields: {0}")]
    BeforeFirstApply(String),
    /// It cannot be laid over the object, or not be compared with it.
    #[error("{0}")]
    Ownership(String),
}

/// In which versions the managers of an object may have named their fields. Those of other versions are forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// In the version that is written only.
    Same,
    /// In all versions of the group: custom resources without conversion name fields alike in all of them.
    Alike,
}

impl Versions {
    /// Whether objects of `api_version` know managers of `other`.
    pub(super) fn know(self, api_version: &str, other: &str) -> bool {
        api_version == other || (self == Self::Alike && split_api_version(api_version).0 == split_api_version(other).0)
    }
}

/// Tracks the writes of one kind, in one version, by one subresource.
#[derive(Debug, Clone, Copy)]
pub struct FieldManager<'a, S> {
    /// The kind's type.
    pub schema: S,
    /// `group/version` of the objects.
    pub api_version: &'a str,
    /// In which versions other managers may have named their fields.
    pub versions: Versions,
    /// The subresource that is written; empty for the main resource.
    pub subresource: &'a str,
    /// Fields that a write by this way does not reach.
    pub reset: &'a Set,
    /// The time of the write, as RFC 3339 in seconds.
    pub now: &'a str,
}

impl<S: Schema> FieldManager<'_, S> {
    /// A write of `new` over `live` by `manager`, other than by applying. Sets the managers of `new`.
    ///
    /// Managers that cannot be told are dropped: a write never fails for them.
    pub fn update(&self, live: &Value, new: &mut Value, manager: &str) {
        if self.live_or_new(live, new).is_empty() {
            set_managed_fields(new, None);
            return;
        }
        self.update_part(live, new, manager);
    }

    /// As [`FieldManager::update`], where nobody need own anything of what is written: it is part of an object that has managers.
    pub fn update_part(&self, live: &Value, new: &mut Value, manager: &str) {
        let managers = self.live_or_new(live, new);
        set_managed_fields(new, None);
        if let Ok(managers) = self.track(live, new, managers, manager) {
            set_managed_fields(new, encode(&managers));
        }
    }

    /// The managers to begin with: those that the writer sends, else those of the object. An empty list, or one with an
    /// empty entry, takes them all away.
    fn live_or_new(&self, live: &Value, new: &Value) -> Managers {
        let of = |object: &Value| decode(managed_fields(object));
        if !self.subresource.is_empty() {
            return of(live).unwrap_or_default();
        }
        match managed_fields(new).and_then(Value::as_array).map(Vec::as_slice) {
            Some([]) => return Managers::new(),
            Some([Value::Object(only)]) if only.is_empty() => return Managers::new(),
            _ => {}
        }
        match of(new) {
            Ok(managers) if !managers.is_empty() => managers,
            _ => of(live).unwrap_or_default(),
        }
    }

    fn rules(&self) -> Rules<'_, S> {
        Rules { schema: self.schema, api_version: self.api_version, versions: self.versions, reset: self.reset }
    }

    fn id(&self, manager: &str, operation: Operation) -> ManagerId {
        let manager = if manager.is_empty() { UNKNOWN } else { manager };
        ManagerId::new(manager, operation, self.api_version, self.subresource)
    }

    fn track(&self, live: &Value, new: &Value, managers: Managers, manager: &str) -> Result<Managers, OwnershipError> {
        // What this write changes is told apart from what the manager owns already.
        let now = ManagerId::new("current-operation", Operation::Update, self.api_version, self.subresource);
        let mut managers = self.rules().update(&bare(live), &bare(new), managers, &now)?;
        strip(&mut managers, &now);
        if let Some(own) = managers.remove(&now) {
            let id = self.id(manager, Operation::Update);
            let before = managers.remove(&id).unwrap_or_default();
            managers.insert(id, Owned { set: own.set.union(&before.set), time: Some(self.now.to_owned()), ..own });
        }
        cap(&mut managers);
        Ok(managers)
    }

    /// Applies `configuration` to `live`, which is a mere `apiVersion` and `kind` where there is no object yet.
    ///
    /// # Errors
    /// Conflicts, unless `force` is set; a configuration that does not fit its type or names managers.
    pub fn apply(&self, live: &Value, configuration: &Value, manager: &str, force: bool) -> Result<Value, ApplyError> {
        let mut managers = decode(managed_fields(live))?;
        let live = bare(live);
        if managers.is_empty() {
            let nothing = Value::Object(serde_json::Map::new());
            managers = self
                .track(&nothing, &live, managers, BEFORE_FIRST_APPLY)
                .map_err(|error| ApplyError::BeforeFirstApply(error.to_string()))?;
        }
        if managed_fields(configuration).is_some_and(|entries| !entries.is_null()) {
            return Err(ApplyError::ManagedFields);
        }
        check(configuration, self.schema)
            .map_err(|source| ApplyError::Configuration { object: self.named(configuration), source })?;
        let outcome = match self.merged(&live, configuration, managers.clone(), manager, force) {
            Err(OwnershipError::Conflicts(conflicts)) if manager == last_applied::KUBECTL => {
                match self.beyond_last_applied(&live, conflicts) {
                    Some(conflicts) => Err(OwnershipError::Conflicts(conflicts)),
                    None => self.merged(&live, configuration, managers, manager, true),
                }
            }
            outcome => outcome,
        };
        let (mut object, managers) = outcome.map_err(|error| match error {
            OwnershipError::Conflicts(conflicts) => ApplyError::Conflicts(conflicts),
            other => ApplyError::Ownership(other.to_string()),
        })?;
        if manager == last_applied::KUBECTL {
            last_applied::refresh(&mut object, configuration);
        }
        set_managed_fields(&mut object, encode(&managers));
        Ok(object)
    }

    fn merged(
        &self,
        live: &Value,
        configuration: &Value,
        managers: Managers,
        manager: &str,
        force: bool,
    ) -> Result<(Value, Managers), OwnershipError> {
        let id = self.id(manager, Operation::Apply);
        let (object, mut managers) = self.rules().apply(live, configuration, managers, &id, force)?;
        strip(&mut managers, &id);
        let Some(object) = object else { return Ok((live.clone(), managers)) };
        if let Some(own) = managers.get_mut(&id) {
            own.time = Some(self.now.to_owned());
        }
        Ok((object, managers))
    }

    /// The conflicts that are left when kubectl may take what it applied from the client's side; `None` for none.
    fn beyond_last_applied(&self, live: &Value, conflicts: Conflicts) -> Option<Conflicts> {
        let Some(own) = last_applied::unchanged(live, self.schema, self.api_version) else { return Some(conflicts) };
        let left: Vec<_> = conflicts.0.into_iter().filter(|conflict| !own.has(&conflict.path.0)).collect();
        (!left.is_empty()).then_some(Conflicts(left))
    }

    /// `namespace/name; group/version, Kind=kind`, as messages name a configuration.
    fn named(&self, configuration: &Value) -> String {
        let text = |pointer: &str| configuration.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let core = if self.api_version.contains('/') { "" } else { "/" };
        let version = format!("{core}{}", self.api_version);
        format!("{}/{}; {version}, Kind={}", text("/metadata/namespace"), text("/metadata/name"), text("/kind"))
    }
}

/// Whether a write has anything to track: an object has managers when somebody has applied a configuration to it, or when
/// the writer says who they are. Every other write pays these two look-ups.
pub fn is_tracked(live: &Value, new: &Value) -> bool {
    managed_fields(live).is_some() || managed_fields(new).is_some()
}

/// The managers of `old`, where those of `new` are the same but for the times of their writes.
pub fn same_managers<'a>(old: &'a Value, new: &Value) -> Option<&'a Value> {
    let (before, after) = (managed_fields(old)?, managed_fields(new)?);
    let timeless = |entries: &Value| -> Option<Value> { Some(entries.as_array()?.iter().map(without_time).collect()) };
    equal(&timeless(before)?, &timeless(after)?).then_some(before)
}

fn without_time(entry: &Value) -> Value {
    let mut entry = entry.clone();
    if let Some(members) = entry.as_object_mut() {
        members.remove("time");
    }
    entry
}

fn strip(managers: &mut Managers, id: &ManagerId) {
    let Some(owned) = managers.get_mut(id) else { return };
    owned.set = owned.set.difference(&Set::of_fields(STRIPPED));
    if owned.set.is_empty() {
        managers.remove(id);
    }
}

/// The object without its managers.
fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    set_managed_fields(&mut object, None);
    object
}

fn managed_fields(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get(KEY)
}

/// Sets or removes `metadata.managedFields`.
pub fn set_managed_fields(object: &mut Value, entries: Option<Value>) {
    let Some(fields) = object.as_object_mut() else { return };
    match entries {
        Some(entries) => {
            let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(serde_json::Map::new()));
            if let Some(metadata) = metadata.as_object_mut() {
                metadata.insert(KEY.into(), entries);
            }
        }
        None => {
            if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.remove(KEY);
            }
        }
    }
}
