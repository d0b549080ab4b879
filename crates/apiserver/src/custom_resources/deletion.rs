//! The first request to delete a definition.
//!
//! Facts: kubernetes apiextensions-apiserver pkg/registry/customresourcedefinition/etcd.go (`Delete`).

use serde_json::Value;

use super::definition::Condition;
use super::{FINALIZER, TERMINATING};
use crate::document::{self, elements, seconds};

/// Marks a definition for deletion: it waits for its objects, whether or not there are any.
pub fn mark(definition: &mut Value, now: jiff::Timestamp) {
    let metadata = document::metadata(definition);
    metadata.insert("deletionTimestamp".into(), seconds(now).into());
    let finalizers = elements(metadata, "finalizers");
    if !finalizers.iter().any(|one| one == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon".into();
    Condition { kind: TERMINATING, holds: true, reason: "InstanceDeletionPending", message }.set(definition, now);
}
