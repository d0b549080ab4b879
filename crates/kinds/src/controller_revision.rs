//! ControllerRevision.
//!
//! Source: kubernetes pkg/registry/apps/controllerrevision, pkg/apis/apps/validation/validation.go.

use daruma_api::status::FieldError;
use serde_json::Value;

use crate::access::{at, flag, get, list, number, text};
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, Names, Scope};
use crate::printing::{AGE, NAME, age, column, name};
use crate::verbs;

/// The kind.
pub struct ControllerRevision;

static NAMES: Names = Names {
    group: "apps",
    version: "v1",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    short_names: &[],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: verbs::ALL,
};

static COLUMNS: &[Column] =
    &[NAME, column("Controller", "string", "Whose state it is."), column("Revision", "string", "Number of the state."), AGE];

impl Kind for ControllerRevision {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        errors.nonnegative(&Path::Root("revision"), number(object, "revision"));
        match get(object, "data") {
            Value::Null => errors.required(&Path::Root("data"), "data is mandatory"),
            Value::Object(_) => {}
            _ => errors.required(&Path::Root("data"), "data must be a valid JSON object"),
        }
        errors.into_vec()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        errors.immutable(&Path::Root("data"), get(new, "data"), get(old, "data"));
        errors.into_vec()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let owner = list(at(object, &["metadata"]), "ownerReferences").iter().find(|owner| flag(owner, "controller"));
        let controller = owner.map_or("<none>".to_owned(), |owner| {
            let kind = text(owner, "kind").to_lowercase();
            match daruma_api::gvk::split_api_version(text(owner, "apiVersion")).0 {
                "" => format!("{kind}/{}", text(owner, "name")),
                group => format!("{kind}.{group}/{}", text(owner, "name")),
            }
        });
        vec![name(object), controller.into(), number(object, "revision").into(), age(object, now)]
    }
}
