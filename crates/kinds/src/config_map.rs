//! ConfigMap.
//!
//! Source: kubernetes pkg/registry/core/configmap, `ValidateConfigMap`.

use daruma_api::status::FieldError;
use serde_json::Value;

use crate::access::{entries, get, has, same};
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, Names, Scope};
use crate::names;
use crate::printing::{AGE, NAME, age, column, name};
use crate::verbs;

/// The kind.
pub struct ConfigMap;

/// Bytes that one ConfigMap or Secret may hold.
pub(crate) const MAX_SIZE: usize = 1024 * 1024;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: verbs::ALL,
};

static COLUMNS: &[Column] = &[NAME, column("Data", "string", "How many keys there are."), AGE];

impl Kind for ConfigMap {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let mut size = 0;
        for bag in ["data", "binaryData"] {
            let root = Path::Root(bag);
            for (key, value) in entries(object, bag) {
                let path = root.key(key);
                errors.all_invalid(&path, key, names::config_map_key(key));
                if bag == "data" && has(get(object, "binaryData"), key) {
                    errors.invalid(&path, key, "duplicate of key present in binaryData");
                }
                let text = value.as_str().unwrap_or_default();
                size += if bag == "data" { text.len() } else { decoded_length(text) };
            }
        }
        if size > MAX_SIZE {
            errors.too_long(&Path::Root(""), MAX_SIZE);
        }
        errors.into_vec()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate_frozen(&mut errors, new, old, &["data", "binaryData"]);
        errors.into_vec()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let count = entries(object, "data").count() + entries(object, "binaryData").count();
        vec![name(object), count.into(), age(object, now)]
    }
}

/// How many bytes base64 text stands for.
pub(crate) fn decoded_length(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

/// What may not change once `immutable` is set.
pub(crate) fn validate_frozen(errors: &mut Errors, new: &Value, old: &Value, bags: &[&str]) {
    if get(old, "immutable") != &Value::Bool(true) {
        return;
    }
    let text = "field is immutable when `immutable` is set";
    if get(new, "immutable") != &Value::Bool(true) {
        errors.forbidden(&Path::Root("immutable"), text);
    }
    for bag in bags {
        if !same(get(new, bag), get(old, bag)) {
            errors.forbidden(&Path::Root(bag), text);
        }
    }
}
