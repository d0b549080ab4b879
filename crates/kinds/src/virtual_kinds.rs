//! Resources that are asked and not stored: bindings and reviews. What they answer is the API server's.

use crate::kind::{Names, Scope};
use crate::verbs;

const fn names(group: &'static str, kind: &'static str, plural: &'static str, singular: &'static str, scope: Scope) -> Names {
    Names { group, version: "v1", kind, plural, singular, short_names: &[], categories: &[], scope, verbs: verbs::CREATE }
}

/// All of them, in the order of discovery.
pub static VIRTUAL: &[Names] = &[
    names("", "Binding", "bindings", "binding", Scope::Namespaced),
    names("authentication.k8s.io", "SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview", Scope::Cluster),
    names("authentication.k8s.io", "TokenReview", "tokenreviews", "tokenreview", Scope::Cluster),
    names(
        "authorization.k8s.io",
        "LocalSubjectAccessReview",
        "localsubjectaccessreviews",
        "localsubjectaccessreview",
        Scope::Namespaced,
    ),
    names(
        "authorization.k8s.io",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        "selfsubjectaccessreview",
        Scope::Cluster,
    ),
    names("authorization.k8s.io", "SelfSubjectRulesReview", "selfsubjectrulesreviews", "selfsubjectrulesreview", Scope::Cluster),
    names("authorization.k8s.io", "SubjectAccessReview", "subjectaccessreviews", "subjectaccessreview", Scope::Cluster),
];
