//! Metadata of every object: what a create and an update may say.
//!
//! Source of rules and messages: apimachinery pkg/api/validation/objectmeta.go.

use daruma_api::apply::check_manager;
use daruma_api::gvk::split_api_version;
use daruma_api::status::FieldError;
use serde_json::Value;

use crate::access::{at, ensure, flag, get, has, integer, keep, list, number, remove, same, text};
use crate::field::{Errors, Path};
use crate::kind::{Kind, Scope};
use crate::{names, selectors};

const ROOT: Path<'static> = Path::Root("metadata");
/// Keys and values of all annotations together, in bytes.
const ANNOTATIONS_LIMIT: usize = 256 * 1024;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Before a create, and before [`Kind::prepare_create`]: clears what only the server sets. Name, uid and
/// creation time are the caller's.
///
/// Source: apiserver pkg/registry/rest/create.go (`BeforeCreate`).
pub fn prepare_create(object: &mut Value) {
    let metadata = ensure(object, "metadata");
    for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"] {
        remove(metadata, key);
    }
}

/// Before an update, and before [`Kind::prepare_update`]: takes over what a client may not change.
///
/// Source: apiserver pkg/registry/rest/update.go (`BeforeUpdate`).
pub fn prepare_update(new: &mut Value, old: &Value) {
    let (metadata, before) = (ensure(new, "metadata"), get(old, "metadata"));
    if text(metadata, "uid").is_empty() {
        keep(metadata, before, "uid");
    }
    keep(metadata, before, "creationTimestamp");
    keep(metadata, before, "generation");
    if has(before, "deletionTimestamp") {
        keep(metadata, before, "deletionTimestamp");
    }
    if !has(metadata, "deletionGracePeriodSeconds") {
        keep(metadata, before, "deletionGracePeriodSeconds");
    }
    remove(metadata, "selfLink");
}

/// Everything that is wrong with a new object's metadata. The name must have been generated.
pub fn validate_create(kind: &dyn Kind, object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let metadata = get(object, "metadata");
    let generate = text(metadata, "generateName");
    if !generate.is_empty() {
        // What is generated ends in letters and digits, so a prefix may end in a dash.
        let masked = generate.strip_suffix('-').map(|stem| format!("{stem}a"));
        let masked = if kind.names().group == "rbac.authorization.k8s.io" { None } else { masked };
        errors.all_invalid(&ROOT.child("generateName"), generate, kind.validate_name(masked.as_deref().unwrap_or(generate)));
    }
    let name = text(metadata, "name");
    if name.is_empty() {
        errors.required(&ROOT.child("name"), "name or generateName is required");
    } else {
        errors.all_invalid(&ROOT.child("name"), name, kind.validate_name(name));
    }
    let namespace = text(metadata, "namespace");
    match kind.names().scope {
        Scope::Namespaced if namespace.is_empty() => errors.required(&ROOT.child("namespace"), ""),
        Scope::Namespaced => errors.all_invalid(&ROOT.child("namespace"), namespace, names::dns_label(namespace)),
        Scope::Cluster if !namespace.is_empty() => errors.forbidden(&ROOT.child("namespace"), "not allowed on this type"),
        Scope::Cluster => {}
    }
    errors.nonnegative(&ROOT.child("generation"), number(metadata, "generation"));
    validate_common(&mut errors, metadata);
    validate_finalizers(&mut errors, metadata);
    errors.into_vec()
}

/// Everything that is wrong with the metadata of an object that is embedded in another one. Paths begin with `metadata`.
///
/// Source: apiextensions-apiserver pkg/apiserver/schema/objectmeta/validation.go.
pub(crate) fn validate_embedded(metadata: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    for (key, is_prefix) in [("generateName", true), ("name", false)] {
        let name = text(metadata, key);
        if !name.is_empty() {
            let wrong = names::path_segment(name);
            let is_wrong = if is_prefix { !matches!(name, "." | "..") && !wrong.is_empty() } else { !wrong.is_empty() };
            if is_wrong {
                errors.all_invalid(&ROOT.child(key), name, wrong);
            }
        }
    }
    let namespace = text(metadata, "namespace");
    if !namespace.is_empty() {
        errors.all_invalid(&ROOT.child("namespace"), namespace, names::dns_label(namespace));
    }
    errors.nonnegative(&ROOT.child("generation"), number(metadata, "generation"));
    validate_common(&mut errors, metadata);
    validate_finalizers(&mut errors, metadata);
    errors.into_vec()
}

/// Everything that is wrong with a change of metadata.
pub fn validate_update(_kind: &dyn Kind, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let (new, old) = (get(new, "metadata"), get(old, "metadata"));
    // Nothing can be wrong with a change where nothing changes: most updates are of other things.
    if new != old || text(new, "resourceVersion").is_empty() {
        validate_changes(&mut errors, new, old);
        validate_common(&mut errors, new);
    }
    errors.into_vec()
}

fn validate_changes(errors: &mut Errors, new: &Value, old: &Value) {
    if !text(old, "deletionTimestamp").is_empty() {
        let before = list(old, "finalizers");
        let mut added: Vec<&str> =
            list(new, "finalizers").iter().filter(|one| !before.contains(one)).filter_map(Value::as_str).collect();
        added.sort_unstable();
        added.dedup();
        if !added.is_empty() {
            let shown: Vec<String> = added.iter().map(|one| format!("{one:?}")).collect();
            errors.forbidden(
                &ROOT.child("finalizers"),
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    shown.join(", ")
                ),
            );
        }
    }
    if text(new, "resourceVersion").is_empty() {
        errors.invalid(&ROOT.child("resourceVersion"), text(new, "resourceVersion"), "must be specified for an update");
    }
    if number(new, "generation") < number(old, "generation") {
        errors.invalid(&ROOT.child("generation"), number(new, "generation"), "must not be decremented");
    }
    for field in ["name", "namespace", "uid"] {
        if text(new, field) != text(old, field) {
            errors.invalid(&ROOT.child(field), text(new, field), "field is immutable");
        }
    }
    for field in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if !same(get(new, field), get(old, field)) {
            errors.invalid(&ROOT.child(field), get(new, field), "field is immutable");
        }
    }
}

fn validate_common(errors: &mut Errors, metadata: &Value) {
    selectors::validate_labels(errors, &ROOT.child("labels"), get(metadata, "labels"));
    validate_annotations(errors, &ROOT.child("annotations"), get(metadata, "annotations"));
    validate_owners(errors, metadata);
    for (index, entry) in list(metadata, "managedFields").iter().enumerate() {
        errors.extend(check_manager(&format!("metadata.managedFields[{index}].manager"), text(entry, "manager")));
    }
}

/// Checks keys and total size of annotations.
pub(crate) fn validate_annotations(errors: &mut Errors, path: &Path<'_>, annotations: &Value) {
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        errors.all_invalid(path, key, names::qualified_name(&key.to_lowercase()));
        size += key.len() + value.as_str().unwrap_or_default().len();
    }
    if size > ANNOTATIONS_LIMIT {
        errors.too_long(path, ANNOTATIONS_LIMIT);
    }
}

fn validate_owners(errors: &mut Errors, metadata: &Value) {
    let path = ROOT.child("ownerReferences");
    let mut controller: Option<String> = None;
    for owner in list(metadata, "ownerReferences") {
        let api_version = text(owner, "apiVersion");
        if split_api_version(api_version).1.is_empty() {
            errors.invalid(&path.child("apiVersion"), api_version, "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            if text(owner, field).is_empty() {
                errors.invalid(&path.child(field), "", "must not be empty");
            }
        }
        if api_version == "v1" && text(owner, "kind") == "Event" {
            errors.invalid(&path, owner, "/v1, Kind=Event is disallowed from being an owner");
        }
        if flag(owner, "controller") {
            let this = format!("{}/{}", text(owner, "kind"), text(owner, "name"));
            match &controller {
                Some(first) => errors.invalid(
                    &path,
                    get(metadata, "ownerReferences"),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    ),
                ),
                None => controller = Some(this),
            }
        }
    }
}

fn validate_finalizers(errors: &mut Errors, metadata: &Value) {
    let path = ROOT.child("finalizers");
    let finalizers = list(metadata, "finalizers");
    for finalizer in finalizers.iter().filter_map(Value::as_str) {
        errors.all_invalid(&path, finalizer, names::qualified_name(finalizer));
    }
    let has = |name: &str| finalizers.iter().any(|one| one == name);
    if has(ORPHAN) && has(FOREGROUND) {
        errors.invalid(&path, get(metadata, "finalizers"), format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set"));
    }
}

/// Sets `metadata.generation`.
pub(crate) fn set_generation(object: &mut Value, generation: i64) {
    crate::access::set(crate::access::ensure(object, "metadata"), "generation", generation);
}

/// `metadata.generation` of an object.
pub(crate) fn generation(object: &Value) -> i64 {
    integer(at(object, &["metadata"]), "generation").unwrap_or_default()
}

/// Raises the generation to one above the old one where `changed`, else keeps the old one.
pub(crate) fn bump_generation(new: &mut Value, old: &Value, changed: bool) {
    let before = generation(old);
    if changed {
        set_generation(new, before + 1);
    } else if before != 0 {
        set_generation(new, before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kind() -> &'static dyn Kind {
        *crate::ALL.iter().find(|kind| kind.names().kind == "ConfigMap").expect("a kind")
    }

    #[track_caller]
    fn check(errors: Vec<FieldError>, expected: &[&str]) {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), expected.len(), "{texts:#?}");
        for (text, expected) in texts.iter().zip(expected) {
            assert!(text.starts_with(expected), "{text} / {expected}");
        }
    }

    #[test]
    fn creates() {
        check(validate_create(kind(), &json!({"metadata": {"name": "a", "namespace": "b"}})), &[]);
        check(
            validate_create(
                kind(),
                &json!({"metadata": {"name": "A", "generateName": "x-", "labels": {"-": "-"}, "finalizers": ["a b"]}}),
            ),
            &[
                "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist",
                "metadata.namespace: Required value",
                "metadata.labels: Invalid value: \"-\": name part must consist",
                "metadata.labels: Invalid value: \"-\": a valid label must be",
                "metadata.finalizers: Invalid value: \"a b\": name part must consist",
            ],
        );
    }

    #[test]
    fn updates() {
        let old =
            json!({"metadata": {"name": "a", "namespace": "b", "uid": "1", "resourceVersion": "5", "deletionTimestamp": "x"}});
        let mut new = old.clone();
        new["metadata"]["uid"] = "2".into();
        new["metadata"]["finalizers"] = json!(["z", "a"]);
        check(
            validate_update(kind(), &new, &old),
            &[
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"a\", \"z\"}",
                "metadata.uid: Invalid value: \"2\": field is immutable",
            ],
        );
    }
}
