//! PriorityClass.
//!
//! Source: kubernetes pkg/registry/scheduling/priorityclass, pkg/apis/scheduling/validation.

use daruma_api::status::FieldError;
use serde_json::Value;

use crate::access::{at, default_text, flag, get, number, text};
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, Names, Scope};
use crate::metadata::set_generation;
use crate::printing::{AGE, NAME, age, column, name};
use crate::verbs;

/// The kind.
pub struct PriorityClass;

const HIGHEST_OF_USERS: i64 = 1_000_000_000;
const SYSTEM: &[(&str, i64)] = &[("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

static NAMES: Names = Names {
    group: "scheduling.k8s.io",
    version: "v1",
    kind: "PriorityClass",
    plural: "priorityclasses",
    singular: "priorityclass",
    short_names: &["pc"],
    categories: &[],
    scope: Scope::Cluster,
    verbs: verbs::ALL,
};

static COLUMNS: &[Column] = &[
    NAME,
    column("Value", "integer", "Priority of pods of this class."),
    column("Global-Default", "boolean", "Whether pods without a class have this one."),
    AGE,
    column("PreemptionPolicy", "string", "Whether pods of this class push others out."),
];

impl Kind for PriorityClass {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn default(&self, object: &mut Value) {
        default_text(object, "preemptionPolicy", "PreemptLowerPriority");
    }

    fn prepare_create(&self, object: &mut Value) {
        set_generation(object, 1);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (name, value) = (text(at(object, &["metadata"]), "name"), number(object, "value"));
        if name.starts_with("system-") {
            let problem = match SYSTEM.iter().find(|(known, _)| *known == name) {
                None => Some(format!("{name} is not a known system priority class")),
                Some((_, own)) if *own != value => Some(format!("value of {name} PriorityClass must be {own}")),
                Some(_) if flag(object, "globalDefault") => Some(format!("globalDefault of {name} PriorityClass must be false")),
                Some(_) => None,
            };
            if let Some(problem) = problem {
                errors.forbidden(
                    &Path::Root("metadata.name"),
                    format!("priority class names with 'system-' prefix are reserved for system use only. error: {problem}"),
                );
            }
        } else if value > HIGHEST_OF_USERS {
            let text = format!("maximum allowed value of a user defined priority is {HIGHEST_OF_USERS}");
            errors.forbidden(&Path::Root("value"), text);
        }
        errors.one_of(&Path::Root("preemptionPolicy"), text(object, "preemptionPolicy"), &["PreemptLowerPriority", "Never"]);
        errors.into_vec()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if number(new, "value") != number(old, "value") {
            errors.forbidden(&Path::Root("value"), "may not be changed in an update.");
        }
        errors.immutable(&Path::Root("preemptionPolicy"), get(new, "preemptionPolicy"), get(old, "preemptionPolicy"));
        errors.into_vec()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        vec![
            name(object),
            number(object, "value").into(),
            flag(object, "globalDefault").into(),
            age(object, now),
            text(object, "preemptionPolicy").into(),
        ]
    }
}
