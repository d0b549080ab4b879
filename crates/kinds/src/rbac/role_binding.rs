//! RoleBinding.

use daruma_api::status::FieldError;
use serde_json::Value;

use crate::field::Errors;
use crate::kind::{Column, Kind, Names, Scope};
use crate::{names, verbs};

/// The kind.
pub struct RoleBinding;

static NAMES: Names = Names {
    group: super::GROUP,
    version: "v1",
    kind: "RoleBinding",
    plural: "rolebindings",
    singular: "rolebinding",
    short_names: &[],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: verbs::ALL,
};

impl Kind for RoleBinding {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn default(&self, object: &mut Value) {
        super::default_binding(object);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        super::validate_binding(&mut errors, object, true);
        errors.into_vec()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        super::validate_same_role(&mut errors, new, old);
        errors.into_vec()
    }

    fn columns(&self) -> &'static [Column] {
        super::BINDING_COLUMNS
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        super::binding_cells(object, now)
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        names::path_segment(name)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }
}
