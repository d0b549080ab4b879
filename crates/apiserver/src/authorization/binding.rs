//! Bindings, decoded: who has which role.
//!
//! Facts: kubernetes pkg/registry/rbac/validation/rule.go (`appliesToUser`).

use std::fmt;

use serde::Deserialize;

use super::rbac::decode;
use crate::storage::Item;
use crate::user::User;

/// A binding, decoded.
#[derive(Debug)]
pub(super) struct Binding {
    name: String,
    /// Empty where it is of the whole cluster.
    pub(super) namespace: String,
    subjects: Vec<Subject>,
    pub(super) role: RoleRef,
}

/// The role that a binding gives.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RoleRef {
    pub(super) kind: String,
    pub(super) name: String,
}

impl Binding {
    /// Reads a stored binding.
    pub(super) fn read(item: &Item) -> Self {
        let document: BindingDocument = decode(item);
        let namespace = item.namespace();
        let subjects = document.subjects.unwrap_or_default().into_iter();
        Self {
            name: item.name().to_owned(),
            namespace: namespace.to_owned(),
            subjects: subjects.map(|subject| Subject::new(subject, namespace)).collect(),
            role: document.role_ref,
        }
    }

    /// The first subject that is `user`.
    pub(super) fn subject(&self, user: &User) -> Option<usize> {
        self.subjects.iter().position(|subject| subject.is(user))
    }

    /// Why its subject of this number may do something.
    pub(super) fn reason(&self, subject: usize) -> String {
        let (name, namespace) = (&self.name, &self.namespace);
        let (kind, shown) = if namespace.is_empty() {
            ("ClusterRoleBinding", name.clone())
        } else {
            ("RoleBinding", format!("{name}/{namespace}"))
        };
        let (role, to) = (&self.role, &self.subjects[subject]);
        format!("RBAC: allowed by {kind} {shown:?} of {} {:?} to {to}", role.kind, role.name)
    }
}

/// To whom a binding gives a role.
#[derive(Debug, PartialEq, Eq)]
enum Subject {
    User(String),
    Group(String),
    /// Namespace as it is written, name, and the user that this is.
    ServiceAccount(String, String, String),
    Nobody,
}

impl Subject {
    /// `namespace` is the binding's, for accounts that have none.
    fn new(document: SubjectDocument, namespace: &str) -> Self {
        let SubjectDocument { kind, name, namespace: own } = document;
        match kind.as_str() {
            "User" => Self::User(name),
            "Group" => Self::Group(name),
            "ServiceAccount" => {
                let user = format!("system:serviceaccount:{}:{name}", if own.is_empty() { namespace } else { &own });
                Self::ServiceAccount(own, name, user)
            }
            _ => Self::Nobody,
        }
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Self::User(name) | Self::ServiceAccount(_, _, name) => user.name == *name,
            Self::Group(name) => user.is_in(name),
            Self::Nobody => false,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "User {name:?}"),
            Self::Group(name) => write!(f, "Group {name:?}"),
            Self::ServiceAccount(namespace, name, _) => write!(f, "ServiceAccount \"{name}/{namespace}\""),
            Self::Nobody => Ok(()),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BindingDocument {
    subjects: Option<Vec<SubjectDocument>>,
    role_ref: RoleRef,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SubjectDocument {
    kind: String,
    name: String,
    namespace: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Extractor;

    fn binding(key: &str, subjects: &str) -> Binding {
        let value = format!(r#"{{"subjects":{subjects},"roleRef":{{"kind":"ClusterRole","name":"r"}}}}"#);
        Binding::read(&Item::new(key, 1, value.into(), &Extractor::new(&[])))
    }

    #[track_caller]
    fn check(key: &str, subjects: &str, user: &User, expected: Option<&str>) {
        let binding = binding(key, subjects);
        assert_eq!(binding.subject(user).map(|subject| binding.reason(subject)).as_deref(), expected, "{subjects}");
    }

    #[test]
    fn subjects_and_reasons() {
        let account = User::new("system:serviceaccount:a:b", ["g"]);
        for (key, subjects, expected) in [
            (
                "x",
                r#"[{"kind":"User","name":"b"},{"kind":"Group","name":"g"}]"#,
                Some(r#"ClusterRoleBinding "x" of ClusterRole "r" to Group "g""#),
            ),
            (
                "a/x",
                r#"[{"kind":"ServiceAccount","name":"b"}]"#,
                Some(r#"RoleBinding "x/a" of ClusterRole "r" to ServiceAccount "b/""#),
            ),
            ("c/x", r#"[{"kind":"ServiceAccount","name":"b"}]"#, None),
            (
                "c/x",
                r#"[{"kind":"ServiceAccount","name":"b","namespace":"a"}]"#,
                Some(r#"RoleBinding "x/c" of ClusterRole "r" to ServiceAccount "b/a""#),
            ),
            (
                "x",
                r#"[{"kind":"User","name":"system:serviceaccount:a:b"}]"#,
                Some(r#"ClusterRoleBinding "x" of ClusterRole "r" to User "system:serviceaccount:a:b""#),
            ),
            ("x", r#"[{"kind":"Other","name":"b"}]"#, None),
            ("x", "null", None),
        ] {
            let expected = expected.map(|binding| format!("RBAC: allowed by {binding}"));
            check(key, subjects, &account, expected.as_deref());
        }
    }
}
