//! Roles and bindings.
//!
//! Source: kubernetes pkg/apis/rbac (v1/defaults.go, validation/validation.go, helpers.go) and
//! pkg/registry/rbac.

pub(crate) mod cluster_role;
pub(crate) mod cluster_role_binding;
pub(crate) mod role;
pub(crate) mod role_binding;

use serde_json::Value;

use crate::access::{at, default_text, ensure, get, list, list_mut, text};
use crate::field::{Errors, Path, Shown};
use crate::kind::Column;
use crate::names;
use crate::printing::{AGE, NAME, age, column, name, wide};

const GROUP: &str = "rbac.authorization.k8s.io";

static ROLE_COLUMNS: &[Column] = &[NAME, Column { kind: "date", ..column("Created At", "date", "When the object was created.") }];

static BINDING_COLUMNS: &[Column] = &[
    NAME,
    column("Role", "string", "Kind and name of the role that is given."),
    AGE,
    wide("Users", "string", "Users that have it."),
    wide("Groups", "string", "Groups that have it."),
    wide("ServiceAccounts", "string", "Service accounts that have it."),
];

fn role_cells(object: &Value) -> Vec<Value> {
    vec![name(object), at(object, &["metadata", "creationTimestamp"]).clone()]
}

fn binding_cells(object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let role = get(object, "roleRef");
    let subjects = |kind: &str| -> Value {
        let names: Vec<String> = list(object, "subjects")
            .iter()
            .filter(|subject| text(subject, "kind") == kind)
            .map(|subject| match kind {
                "ServiceAccount" => format!("{}/{}", text(subject, "namespace"), text(subject, "name")),
                _ => text(subject, "name").to_owned(),
            })
            .collect();
        names.join(", ").into()
    };
    vec![
        name(object),
        format!("{}/{}", text(role, "kind"), text(role, "name")).into(),
        age(object, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

fn default_binding(object: &mut Value) {
    default_text(ensure(object, "roleRef"), "apiGroup", GROUP);
    for subject in list_mut(object, "subjects") {
        if matches!(text(subject, "kind"), "User" | "Group") {
            default_text(subject, "apiGroup", GROUP);
        }
    }
}

fn validate_rules(errors: &mut Errors, object: &Value, namespaced: bool) {
    let root = Path::Root("rules");
    for (index, rule) in list(object, "rules").iter().enumerate() {
        let path = root.index(index);
        if list(rule, "verbs").is_empty() {
            errors.required(&path.child("verbs"), "verbs must contain at least one value");
        }
        let urls = get(rule, "nonResourceURLs");
        if !list(rule, "nonResourceURLs").is_empty() {
            let path = path.child("nonResourceURLs");
            if namespaced {
                errors.invalid(&path, urls, "namespaced rules cannot apply to non-resource URLs");
            }
            if ["apiGroups", "resources", "resourceNames"].iter().any(|key| !list(rule, key).is_empty()) {
                errors.invalid(&path, urls, "rules cannot apply to both regular resources and non-resource URLs");
            }
            continue;
        }
        if list(rule, "apiGroups").is_empty() {
            errors.required(&path.child("apiGroups"), "resource rules must supply at least one api group");
        }
        if list(rule, "resources").is_empty() {
            errors.required(&path.child("resources"), "resource rules must supply at least one resource");
        }
    }
}

fn validate_binding(errors: &mut Errors, object: &Value, namespaced: bool) {
    let (role, root) = (get(object, "roleRef"), Path::Root("roleRef"));
    let (group, kind, name) = (text(role, "apiGroup"), text(role, "kind"), text(role, "name"));
    if group != GROUP {
        errors.not_supported(&root.child("apiGroup"), group, &[GROUP]);
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&kind) {
        errors.not_supported(&root.child("kind"), kind, kinds);
    }
    if name.is_empty() {
        errors.required(&root.child("name"), "");
    } else {
        errors.all_invalid(&root.child("name"), name, names::path_segment(name));
    }
    let root = Path::Root("subjects");
    for (index, subject) in list(object, "subjects").iter().enumerate() {
        let path = root.index(index);
        let (name, group) = (text(subject, "name"), text(subject, "apiGroup"));
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        match text(subject, "kind") {
            "ServiceAccount" => {
                if !name.is_empty() {
                    errors.all_invalid(&path.child("name"), name, names::dns_subdomain(name));
                }
                if !group.is_empty() {
                    errors.not_supported(&path.child("apiGroup"), group, &[""]);
                }
                if !namespaced && text(subject, "namespace").is_empty() {
                    errors.required(&path.child("namespace"), "");
                }
            }
            "User" | "Group" => {
                if group != GROUP {
                    errors.not_supported(&path.child("apiGroup"), group, &[GROUP]);
                }
            }
            other => errors.not_supported(&path.child("kind"), other, &["ServiceAccount", "User", "Group"]),
        }
    }
}

fn validate_same_role(errors: &mut Errors, new: &Value, old: &Value) {
    let (now, before) = (get(new, "roleRef"), get(old, "roleRef"));
    if ["apiGroup", "kind", "name"].iter().any(|key| text(now, key) != text(before, key)) {
        // The real server shows the members by the names of its own Go struct.
        let shown = format!(
            "{{\"APIGroup\":{:?},\"Kind\":{:?},\"Name\":{:?}}}",
            text(now, "apiGroup"),
            text(now, "kind"),
            text(now, "name")
        );
        errors.invalid(&Path::Root("roleRef"), Shown::raw(shown), "cannot change roleRef");
    }
}
