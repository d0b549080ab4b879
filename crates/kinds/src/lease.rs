//! Lease.
//!
//! Source: kubernetes pkg/registry/coordination/lease, `ValidateLeaseSpec`.

use daruma_api::status::FieldError;
use serde_json::Value;

use crate::access::{get, integer, text};
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, Names, Scope};
use crate::printing::{AGE, NAME, age, column, name};
use crate::verbs;

/// The kind.
pub struct Lease;

static NAMES: Names = Names {
    group: "coordination.k8s.io",
    version: "v1",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    short_names: &[],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: verbs::ALL,
};

static COLUMNS: &[Column] = &[NAME, column("Holder", "string", "Who holds the lease."), AGE];

impl Kind for Lease {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, root) = (get(object, "spec"), Path::Root("spec"));
        if let Some(seconds) = integer(spec, "leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
            errors.invalid(&root.child("leaseDurationSeconds"), seconds, "must be greater than 0");
        }
        if let Some(count) = integer(spec, "leaseTransitions").filter(|count| *count < 0) {
            errors.invalid(&root.child("leaseTransitions"), count, "must be greater than or equal to 0");
        }
        errors.into_vec()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        vec![name(object), text(get(object, "spec"), "holderIdentity").into(), age(object, now)]
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }
}
