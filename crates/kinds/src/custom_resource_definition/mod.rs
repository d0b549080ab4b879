//! CustomResourceDefinition.
//!
//! Source: apiextensions-apiserver pkg/registry/customresourcedefinition/strategy.go, pkg/apis/apiextensions/v1/defaults.go and
//! pkg/apis/apiextensions/validation/validation.go. Paths in messages are those of the internal version, as the real server's are:
//! what is the same in all versions is told of `spec.validation`, `spec.subresources` and so on.

mod approval;
mod conversion;
mod default_validation;
mod rules;
mod schema_validation;
mod spec_validation;
mod structural;
#[cfg(test)]
mod tests;

use daruma_api::status::FieldError;
use serde_json::{Value, json};

use crate::access::{at, default_text, default_to, ensure, flag, get, has, keep, list, object_mut, same, set, text};
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, Names, Scope, Subresource};
use crate::printing::{NAME, column, name};
use crate::{metadata, names, verbs};

/// The kind.
pub struct CustomResourceDefinition;

static NAMES: Names = Names {
    group: "apiextensions.k8s.io",
    version: "v1",
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    singular: "customresourcedefinition",
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    scope: Scope::Cluster,
    verbs: verbs::ALL,
};

static SUBRESOURCES: &[Subresource] =
    &[Subresource { name: "status", group: "", version: "", kind: "CustomResourceDefinition", verbs: verbs::PART }];

static COLUMNS: &[Column] = &[NAME, column("Created At", "date", "When the object was created.")];

impl Kind for CustomResourceDefinition {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn subresources(&self) -> &'static [Subresource] {
        SUBRESOURCES
    }

    fn default(&self, object: &mut Value) {
        let spec = ensure(object, "spec");
        let kind = text(get(spec, "names"), "kind").to_owned();
        if !kind.is_empty() {
            let names = ensure(spec, "names");
            default_text(names, "singular", &kind.to_lowercase());
            default_text(names, "listKind", &format!("{kind}List"));
        }
        default_to(spec, "conversion", json!({"strategy": "None"}));
        if let Some(service) = spec.pointer_mut("/conversion/webhook/clientConfig/service").filter(|one| one.is_object()) {
            default_to(service, "port", 443);
        }
        store_storage_version(object, <[Value]>::is_empty);
    }

    fn prepare_create(&self, object: &mut Value) {
        set(object, "status", json!({"acceptedNames": {"kind": "", "plural": ""}, "storedVersions": []}));
        store_storage_version(object, |_| true);
        metadata::set_generation(object, 1);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
        metadata::bump_generation(new, old, !same(get(new, "spec"), get(old, "spec")));
        store_storage_version(new, |_| true);
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let spec = get(object, "spec");
        let own = text(get(object, "metadata"), "name");
        if own != format!("{}.{}", text(at(spec, &["names"]), "plural"), text(spec, "group")) {
            errors.invalid(&Path::Root("metadata.name"), own, "must be spec.names.plural+\".\"+spec.group");
        }
        spec_validation::validate(&mut errors, spec);
        validate_status(&mut errors, object);
        validate_stored_versions(&mut errors, object);
        approval::validate(&mut errors, object);
        if flag(spec, "preserveUnknownFields") {
            errors.invalid(
                &Path::Root("spec.preserveUnknownFields"),
                &Value::Bool(true),
                "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
            );
        }
        errors.into_vec()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (new, was, spec) = (get(new, "spec"), get(old, "spec"), Path::Root("spec"));
        let names = spec.child("names");
        if is_established(old) {
            errors.immutable(&spec.child("scope"), get(new, "scope"), get(was, "scope"));
            errors.immutable(&names.child("kind"), at(new, &["names", "kind"]), at(was, &["names", "kind"]));
            conversion::validate_authorities(&mut errors, new, was);
        }
        errors.immutable(&spec.child("group"), get(new, "group"), get(was, "group"));
        errors.immutable(&names.child("plural"), at(new, &["names", "plural"]), at(was, &["names", "plural"]));
        errors.into_vec()
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let before = old.map(schema_validation::unknown_formats).unwrap_or_default();
        let formats = schema_validation::unknown_formats(object).into_iter().filter(|format| !before.contains(format));
        formats.map(|format| format!("unrecognized format {format:?}")).collect()
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate_status(&mut errors, new);
        errors.into_vec()
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, _now: jiff::Timestamp) -> Vec<Value> {
        vec![name(object), at(object, &["metadata", "creationTimestamp"]).clone()]
    }
}

fn is_established(definition: &Value) -> bool {
    list(get(definition, "status"), "conditions")
        .iter()
        .any(|condition| text(condition, "type") == "Established" && text(condition, "status") == "True")
}

/// Puts the storage version into `status.storedVersions`, where it is not yet and `wanted` says so.
fn store_storage_version(object: &mut Value, wanted: impl FnOnce(&[Value]) -> bool) {
    let Some(storage) = list(get(object, "spec"), "versions").iter().find(|version| flag(version, "storage")) else { return };
    let storage = Value::from(text(storage, "name"));
    let stored = list(get(object, "status"), "storedVersions");
    if stored.contains(&storage) || !wanted(stored) {
        return;
    }
    let mut stored = stored.to_vec();
    stored.push(storage);
    ensure(object, "status");
    if let Some(status) = object_mut(object, "status") {
        status.insert("storedVersions".to_owned(), stored.into());
    }
}

fn validate_status(errors: &mut Errors, object: &Value) {
    validate_names(errors, &Path::Root("status.acceptedNames"), at(object, &["status", "acceptedNames"]));
}

fn validate_stored_versions(errors: &mut Errors, object: &Value) {
    let path = Path::Root("status.storedVersions");
    let stored = at(object, &["status", "storedVersions"]);
    let names: Vec<&str> = stored.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if names.is_empty() {
        errors.invalid(&path, stored, "must have at least one stored version");
        return;
    }
    let versions = list(get(object, "spec"), "versions");
    for version in versions.iter().filter(|version| flag(version, "storage")) {
        let name = text(version, "name");
        if !names.contains(&name) {
            errors.invalid(&path, stored, format!("must have the storage version {name}"));
        }
    }
    for (index, name) in names.iter().enumerate() {
        if !versions.iter().any(|version| text(version, "name") == *name) {
            errors.invalid(
                &path.index(index),
                *name,
                format!(
                    "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
                ),
            );
        }
    }
}

fn validate_names(errors: &mut Errors, path: &Path<'_>, own: &Value) {
    for key in ["plural", "singular"] {
        let name = text(own, key);
        let wrong = names::dns_1035_label(name);
        if !name.is_empty() && !wrong.is_empty() {
            errors.invalid(&path.child(key), name, wrong.join(","));
        }
    }
    for key in ["kind", "listKind"] {
        let name = text(own, key);
        let wrong = names::dns_1035_label(&name.to_lowercase());
        if !name.is_empty() && !wrong.is_empty() {
            let detail = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
            errors.invalid(&path.child(key), name, detail);
        }
    }
    let label = |errors: &mut Errors, key: &str| {
        for (index, name) in list(own, key).iter().filter_map(Value::as_str).enumerate() {
            let wrong = names::dns_1035_label(name);
            if !wrong.is_empty() {
                errors.invalid(&path.child(key).index(index), name, wrong.join(","));
            }
        }
    };
    label(errors, "shortNames");
    if has(own, "kind") && !text(own, "kind").is_empty() && text(own, "kind") == text(own, "listKind") {
        errors.invalid(&path.child("listKind"), text(own, "listKind"), "kind and listKind may not be the same");
    }
    label(errors, "categories");
}
