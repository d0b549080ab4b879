//! What a kind says of itself.

use daruma_api::status::{ApiError, FieldError};
use serde_json::Value;

use crate::schema;

/// Whether objects live in namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// In namespaces.
    Namespaced,
    /// In the cluster as a whole.
    Cluster,
}

/// Names and verbs of a kind in one version of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Names {
    /// API group; empty for core.
    pub group: &'static str,
    /// Version; also the storage version unless [`Kind::storage_version`] says otherwise.
    pub version: &'static str,
    /// E.g. `Pod`.
    pub kind: &'static str,
    /// E.g. `pods`.
    pub plural: &'static str,
    /// E.g. `pod`.
    pub singular: &'static str,
    /// E.g. `po`.
    pub short_names: &'static [&'static str],
    /// E.g. `all`.
    pub categories: &'static [&'static str],
    /// Where objects live.
    pub scope: Scope,
    /// Verbs as discovery prints them, sorted.
    pub verbs: &'static [&'static str],
}

/// A subresource as discovery prints it. What it does is the API server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subresource {
    /// E.g. `status`.
    pub name: &'static str,
    /// Group, version and kind of its body; an empty version means the parent's group and version.
    pub group: &'static str,
    /// See `group`.
    pub version: &'static str,
    /// See `group`.
    pub kind: &'static str,
    /// Verbs as discovery prints them, sorted.
    pub verbs: &'static [&'static str],
}

/// A column of the printed table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Column {
    /// Heading as the server spells it, e.g. `Nominated Node`.
    pub name: &'static str,
    /// `string`, `integer`, `boolean`, `date`.
    pub kind: &'static str,
    /// `name` for the name column, else empty.
    pub format: &'static str,
    /// What it means.
    pub description: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
}

/// A field by the names on the way to it.
pub type FieldPath = &'static [&'static str];

/// Where a scale is read and written in an object: paths of names, each with a leading dot (`.spec.replicas`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScalePaths {
    /// Wanted replicas; below `.spec`.
    pub spec_replicas: &'static str,
    /// Counted replicas; below `.status`.
    pub status_replicas: &'static str,
    /// The selector of the scaled pods as a text; below `.spec` or `.status`.
    pub label_selector: Option<&'static str>,
}

/// One resource. All methods are pure; objects are JSON documents with `apiVersion` and `kind`.
pub trait Kind: Send + Sync {
    /// Names and verbs.
    fn names(&self) -> &'static Names;

    /// Checks a decoded object against the kind's schema: gives the unknown members, each as the real server words it
    /// (`unknown field "spec.foo"`), and removes them where `prune` is set.
    ///
    /// # Errors
    /// 400 for a member of the wrong type.
    fn check_fields(&self, object: &mut Value, prune: bool) -> Result<Vec<String>, ApiError> {
        let names = self.names();
        schema::check_fields(names.group, names.version, names.kind, object, prune)
    }

    /// The type for server-side apply; `None` where there is no schema, and types are deduced from what is written.
    fn view(&self) -> Option<schema::View<'_>> {
        let names = self.names();
        schema::view(names.group, names.version, names.kind)
    }

    /// Whether strategic merge patches are accepted. Where they are not, they are answered with 415.
    fn supports_strategic_merge(&self) -> bool {
        true
    }

    /// Where the scale of a custom resource is; built-in kinds have theirs where the API server knows it.
    fn scale(&self) -> Option<ScalePaths> {
        None
    }

    /// Subresources, sorted by name.
    fn subresources(&self) -> &'static [Subresource] {
        &[]
    }

    /// Fills in defaults, as the real server's defaulting does. Idempotent.
    fn default(&self, _object: &mut Value) {}

    /// Before a create: clears what a client may not set (status, say), sets `metadata.generation`.
    fn prepare_create(&self, _object: &mut Value) {}

    /// Before an update of the main resource: keeps the old status, raises `metadata.generation` where the
    /// specification changed.
    fn prepare_update(&self, _new: &mut Value, _old: &Value) {}

    /// Before an update of the status: keeps all but the status (and what the real one lets through).
    fn prepare_status_update(&self, _new: &mut Value, _old: &Value) {}

    /// Everything that is wrong with a new object, metadata excepted.
    fn validate(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Everything that is wrong with a change, metadata excepted. [`Kind::validate`] is called as well.
    fn validate_update(&self, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Everything that is wrong with an object that takes the place of `old`: what [`Kind::validate`] and
    /// [`Kind::validate_update`] say. Kinds that let old faults pass decide otherwise.
    fn validate_change(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut wrong = self.validate(new);
        wrong.extend(self.validate_update(new, old));
        wrong
    }

    /// What a client should be told of a valid object that takes the place of `old` (of nothing, where it is new): texts of
    /// Warning headers. Status changes have none.
    fn warnings(&self, _object: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// Everything that is wrong with a status change.
    fn validate_status_update(&self, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Fields that a write by a subresource (empty for the main resource) does not reach: nobody comes to own them by it
    /// (`GetResetFields` of the real server's strategies).
    fn reset_fields(&self, subresource: &str) -> &'static [FieldPath] {
        let has_status = self.subresources().iter().any(|one| one.name == "status");
        match subresource {
            "status" => &[&["spec"]],
            "" | "finalize" if has_status => &[&["status"]],
            _ => &[],
        }
    }

    /// Columns of the table.
    fn columns(&self) -> &'static [Column];

    /// Cells of one object, one a column, as the real server's printers make them. `now` gives ages.
    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value>;

    /// Conditions of the object's table row (`Completed` of pods); `None` where it has none.
    fn row_conditions(&self, _object: &Value) -> Option<Value> {
        None
    }

    /// What a missing selectable field compares as; the empty string for most.
    fn selectable_default(&self, _field: &str) -> &'static str {
        ""
    }

    /// Fields that a field selector may name besides `metadata.name` and `metadata.namespace`, as
    /// dotted paths of the JSON document. A missing value compares as the empty string.
    fn selectable_fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// Checks an object's name; the default is a DNS-1123 subdomain. Gives what is wrong.
    fn validate_name(&self, name: &str) -> Vec<String> {
        crate::names::dns_subdomain(name)
    }

    /// Default grace period of a deletion in seconds; `None` deletes at once (everything but pods).
    fn deletion_grace_seconds(&self, _object: &Value) -> Option<i64> {
        None
    }

    /// Whether a status update or main update may create a missing object (`PUT` as create).
    fn allows_create_on_update(&self) -> bool {
        false
    }

    /// Whether an update without resourceVersion is allowed.
    fn allows_unconditional_update(&self) -> bool {
        true
    }
}
