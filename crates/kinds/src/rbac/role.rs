//! Role.

use daruma_api::status::FieldError;
use serde_json::Value;

use crate::field::Errors;
use crate::kind::{Column, Kind, Names, Scope};
use crate::{names, verbs};

/// The kind.
pub struct Role;

static NAMES: Names = Names {
    group: super::GROUP,
    version: "v1",
    kind: "Role",
    plural: "roles",
    singular: "role",
    short_names: &[],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: verbs::ALL,
};

impl Kind for Role {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        super::validate_rules(&mut errors, object, true);
        errors.into_vec()
    }

    fn columns(&self) -> &'static [Column] {
        super::ROLE_COLUMNS
    }

    fn cells(&self, object: &Value, _now: jiff::Timestamp) -> Vec<Value> {
        super::role_cells(object)
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        names::path_segment(name)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }
}
