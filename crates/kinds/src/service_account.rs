//! ServiceAccount.
//!
//! Source: kubernetes pkg/registry/core/serviceaccount/strategy.go.

use serde_json::{Value, json};

use crate::access::{list_mut, text};
use crate::kind::{Column, Kind, Names, Scope, Subresource};
use crate::printing::{AGE, NAME, age, name};
use crate::verbs;

/// The kind.
pub struct ServiceAccount;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: verbs::ALL,
};

static SUBRESOURCES: &[Subresource] =
    &[Subresource { name: "token", group: "authentication.k8s.io", version: "v1", kind: "TokenRequest", verbs: verbs::CREATE }];

static COLUMNS: &[Column] = &[NAME, AGE];

impl Kind for ServiceAccount {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn subresources(&self) -> &'static [Subresource] {
        SUBRESOURCES
    }

    fn prepare_create(&self, object: &mut Value) {
        clean_secrets(object);
    }

    fn prepare_update(&self, new: &mut Value, _old: &Value) {
        clean_secrets(new);
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        vec![name(object), age(object, now)]
    }
}

/// References to secrets keep nothing but the name.
fn clean_secrets(object: &mut Value) {
    for secret in list_mut(object, "secrets") {
        *secret = json!({"name": text(secret, "name")});
    }
}
