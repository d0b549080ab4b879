//! Who owns which fields: tracking of writes, and the one place where apply meets kinds and errors.
//!
//! An object that nobody has applied has no managers, and its writes are not tracked
//! (docs/decisions/2026-11-30-managed-fields.md).

use bytes::Bytes;
use daruma_api::apply::{self, ApplyError, FieldManager, Set, Versions};
use daruma_api::gvk;
use daruma_api::metav1::{StatusCause, StatusDetails};
use daruma_api::status::ApiError;
use daruma_kinds::AnyKind;
use daruma_kinds::schema::{self, View};
use jiff::Timestamp;
use serde_json::Value;

use crate::document;
use crate::registry::Resource;

/// What is written: a kind's objects by one way.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Group, version and kind.
    pub gvk: [&'a str; 3],
    /// The subresource; empty for the main resource.
    pub subresource: &'a str,
    /// Fields that are not reached this way.
    pub reset: &'a [daruma_kinds::FieldPath],
    /// The kind that tells its type, where it is one that the registry knows.
    kind: Option<&'a AnyKind>,
}

impl<'a> Target<'a> {
    /// Objects of a resource.
    pub fn of(resource: &'a Resource, subresource: &'a str) -> Self {
        let (kind, names) = (&resource.kind, resource.kind.names());
        let gvk = [names.group, names.version, names.kind];
        Self { gvk, subresource, reset: kind.reset_fields(subresource), kind: Some(kind) }
    }

    /// Scales.
    pub fn scale() -> Self {
        Self { gvk: ["autoscaling", "v1", "Scale"], subresource: "scale", reset: &[], kind: None }
    }

    /// Calls `work` with the manager of the target's fields; `None` where the kind has no schema.
    fn with<T>(&self, now: Timestamp, work: impl FnOnce(&FieldManager<'_, View<'_>>) -> T) -> Option<T> {
        let [group, version, kind] = self.gvk;
        let schema = match self.kind {
            Some(kind) => kind.view()?,
            None => schema::view(group, version, kind)?,
        };
        let (api_version, reset, now) = (gvk::api_version(group, version), Set::of_fields(self.reset), document::seconds(now));
        Some(work(&FieldManager {
            schema,
            api_version: &api_version,
            versions: self.versions(),
            subresource: self.subresource,
            reset: &reset,
            now: &now,
        }))
    }

    fn versions(&self) -> Versions {
        self.kind.map_or(Versions::Same, versions)
    }

    /// Tracks a write of `new` over `live` by `manager`.
    pub fn track(&self, now: Timestamp, live: &Value, new: &mut Value, manager: &str) {
        if !apply::is_tracked(live, new) {
            return;
        }
        if self.with(now, |fields| fields.update(live, new, manager)).is_none() {
            apply::set_managed_fields(new, None);
        }
    }

    /// Tracks a write of a part of an object that has managers, of whom perhaps nobody owns anything of this part.
    pub fn track_part(&self, now: Timestamp, live: &Value, new: &mut Value, manager: &str) {
        if self.with(now, |fields| fields.update_part(live, new, manager)).is_none() {
            apply::set_managed_fields(new, None);
        }
    }

    /// Applies a configuration to `live`.
    ///
    /// # Errors
    /// 409 for conflicts, 400 for a configuration that names managers, 500 for one that does not fit its type.
    pub fn apply(
        &self,
        now: Timestamp,
        live: &Value,
        configuration: &Value,
        manager: &str,
        force: bool,
    ) -> Result<Value, ApiError> {
        match self.with(now, |fields| fields.apply(live, configuration, manager, force)) {
            Some(outcome) => outcome.map_err(|error| status(&error)),
            None => Err(ApiError::new(500, "", format!("no corresponding type for {}", shown(self.gvk)))),
        }
    }
}

/// `group/version, Kind=kind`.
pub fn shown([group, version, kind]: [&str; 3]) -> String {
    format!("{group}/{version}, Kind={kind}")
}

/// In which versions the managers of a kind's objects may have named their fields.
pub fn versions(kind: &AnyKind) -> Versions {
    match kind {
        AnyKind::BuiltIn(_) => Versions::Same,
        AnyKind::Custom(_) => Versions::Alike,
    }
}

/// The stored form of an object, with the managers' times of before where nothing but they would change
/// (apiserver pkg/endpoints/handlers/fieldmanager/equality.go).
pub fn stored_form(resource: &Resource, old: &Value, new: &Value, current: &Bytes) -> Bytes {
    let value = resource.head.encode(new);
    if value == *current {
        return value;
    }
    let Some(managers) = apply::same_managers(old, new) else { return value };
    let mut kept = new.clone();
    apply::set_managed_fields(&mut kept, Some(managers.clone()));
    let kept = resource.head.encode(&kept);
    if kept == *current { kept } else { value }
}

/// The error as the server sends it. What does not fit its type is no client's error to the real one either.
fn status(error: &ApplyError) -> ApiError {
    match error {
        ApplyError::Conflicts(conflicts) => {
            let cause = |conflict: &apply::Conflict| StatusCause {
                reason: Some("FieldManagerConflict".into()),
                message: Some(conflict.message()),
                field: Some(conflict.path.to_string()),
            };
            let details = StatusDetails { causes: Some(conflicts.0.iter().map(cause).collect()), ..StatusDetails::default() };
            ApiError { details: Some(Box::new(details)), ..ApiError::new(409, "Conflict", conflicts.to_string()) }
        }
        ApplyError::ManagedFields => ApiError::bad_request(error.to_string()),
        other => ApiError::new(500, "", other.to_string()),
    }
}
