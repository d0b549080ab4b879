//! Short ways to read object metadata.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::{Metadata, Resource};

/// Reads metadata fields without spelling out the options. Missing strings read as empty.
pub trait ObjectExt: Resource + Metadata<Ty = ObjectMeta> {
    /// `metadata.name`.
    fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }
    /// `metadata.namespace`; empty for cluster-scoped objects.
    fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }
    /// `metadata.uid`.
    fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }
    /// `namespace/name`, or the bare name for cluster-scoped objects (the key of work queues).
    fn key(&self) -> String {
        match self.namespace() {
            "" => self.name().to_owned(),
            namespace => [namespace, "/", self.name()].concat(),
        }
    }
    /// The value of one label.
    fn label(&self, key: &str) -> Option<&str> {
        self.metadata().labels.as_ref()?.get(key).map(String::as_str)
    }
    /// The value of one annotation.
    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata().annotations.as_ref()?.get(key).map(String::as_str)
    }
    /// Whether deletion has been asked for.
    fn is_being_deleted(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }
    /// The owner that controls this object.
    fn controller(&self) -> Option<&OwnerReference> {
        self.metadata().owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))
    }
}

impl<K: Resource + Metadata<Ty = ObjectMeta>> ObjectExt for K {}

/// An owner reference to `owner` as its controller, blocking its foreground deletion.
pub fn controller_reference<K: Resource + Metadata<Ty = ObjectMeta>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: owner.name().to_owned(),
        uid: owner.uid().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Splits a `namespace/name` key; the namespace is empty for a bare name.
pub fn split_key(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}
