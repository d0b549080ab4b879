//! ClusterRole.

use daruma_api::status::FieldError;
use serde_json::Value;

use crate::access::{get, has, list};
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, Names, Scope};
use crate::{names, selectors, verbs};

/// The kind.
pub struct ClusterRole;

static NAMES: Names = Names {
    group: super::GROUP,
    version: "v1",
    kind: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    short_names: &[],
    categories: &[],
    scope: Scope::Cluster,
    verbs: verbs::ALL,
};

impl Kind for ClusterRole {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        super::validate_rules(&mut errors, object, false);
        let rule = get(object, "aggregationRule");
        if has(object, "aggregationRule") {
            let (root, found) = (Path::Root("aggregationRule"), list(rule, "clusterRoleSelectors"));
            let path = root.child("clusterRoleSelectors");
            if found.is_empty() {
                errors.required(&path, "at least one clusterRoleSelector required if aggregationRule is non-nil");
            }
            for (index, selector) in found.iter().enumerate() {
                selectors::validate(&mut errors, &path.index(index), selector);
            }
        }
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
