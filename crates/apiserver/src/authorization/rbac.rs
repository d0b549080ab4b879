//! Role-based access control over the cached roles and bindings.
//!
//! Facts: kubernetes pkg/registry/rbac/validation/rule.go, plugin/pkg/auth/authorizer/rbac,
//! pkg/apis/rbac/v1/evaluation_helpers.go. Aggregated cluster roles are united by label when read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use daruma_api::metav1::LabelSelector;
use daruma_api::selector::Selector;
use daruma_api::status::ApiError;
use serde::Deserialize;
use serde::Serialize;

use super::{Decision, Question};
use crate::registry::Resource;
use crate::server::ApiServer;
use crate::storage::Item;
use crate::user::User;

const GROUP: &str = "rbac.authorization.k8s.io";

/// A policy rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Verbs; `*` is all.
    pub verbs: Vec<String>,
    /// API groups; `*` is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// `pods`, `pods/log`, `*/scale`, `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Names; none is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Paths; a final `*` is a prefix.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

impl Rule {
    /// Whether the rule covers the question.
    pub fn allows(&self, question: &Question<'_>) -> bool {
        let has = |list: &[String], value: &str| list.iter().any(|one| one == "*" || one == value);
        if !has(&self.verbs, question.verb) {
            return false;
        }
        if !question.is_resource {
            return self.non_resource_urls.iter().any(|url| {
                url == "*"
                    || url == question.path
                    || url.strip_suffix('*').is_some_and(|prefix| question.path.starts_with(prefix))
            });
        }
        has(&self.api_groups, question.group)
            && self.resources.iter().any(|resource| covers(resource, question))
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == question.name))
    }
}

fn covers(resource: &str, question: &Question<'_>) -> bool {
    if resource == "*" {
        return true;
    }
    match resource.split_once('/') {
        None => question.subresource.is_empty() && resource == question.resource,
        Some((main, sub)) => sub == question.subresource && (main == "*" || main == question.resource),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RoleDocument {
    rules: Option<Vec<Rule>>,
    aggregation_rule: Option<Aggregation>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Aggregation {
    cluster_role_selectors: Vec<LabelSelector>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BindingDocument {
    subjects: Option<Vec<Subject>>,
    role_ref: RoleRef,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Debug)]
struct Binding {
    name: String,
    namespace: String,
    subjects: Vec<Subject>,
    role: RoleRef,
}

impl Subject {
    fn is(&self, user: &User, namespace: &str) -> bool {
        match self.kind.as_str() {
            "User" => user.name == self.name,
            "Group" => user.is_in(&self.name),
            "ServiceAccount" => {
                let own = if self.namespace.is_empty() { namespace } else { &self.namespace };
                user.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'))
                    == Some((own, self.name.as_str()))
            }
            _ => false,
        }
    }
}

/// All roles and bindings, decoded. What has not changed is shared with the index before.
#[derive(Debug, Clone, Default)]
pub struct Index {
    cluster_roles: Arc<BTreeMap<String, Vec<Rule>>>,
    roles: Arc<BTreeMap<String, Vec<Rule>>>,
    cluster_bindings: Arc<Vec<Binding>>,
    bindings: Arc<BTreeMap<String, Vec<Binding>>>,
}

impl Index {
    /// Whether a binding gives `user` what is asked.
    pub fn decide(&self, user: &User, question: &Question<'_>) -> Decision {
        let mut missing = Vec::new();
        let bindings = self.cluster_bindings.iter().chain(self.bindings.get(question.namespace).into_iter().flatten());
        for binding in bindings {
            if !binding.subjects.iter().any(|subject| subject.is(user, &binding.namespace)) {
                continue;
            }
            match self.role(binding) {
                None => missing.push(format!("{}.{GROUP} {:?} not found", binding.role.kind.to_lowercase(), binding.role.name)),
                Some(rules) if rules.iter().any(|rule| rule.allows(question)) => {
                    let kind = if binding.namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
                    let shown = if binding.namespace.is_empty() {
                        binding.name.clone()
                    } else {
                        format!("{}/{}", binding.name, binding.namespace)
                    };
                    return Decision::Allow(format!(
                        "RBAC: allowed by {kind} {shown:?} of {} {:?} to {}",
                        binding.role.kind,
                        binding.role.name,
                        whom(binding, user)
                    ));
                }
                Some(_) => {}
            }
        }
        Decision::NoOpinion(match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        })
    }

    /// The rules that apply to `user` in `namespace`.
    pub fn rules_of(&self, user: &User, namespace: &str) -> Vec<&Rule> {
        let bindings = self.cluster_bindings.iter().chain(self.bindings.get(namespace).into_iter().flatten());
        bindings
            .filter(|binding| binding.subjects.iter().any(|subject| subject.is(user, &binding.namespace)))
            .filter_map(|binding| self.role(binding))
            .flatten()
            .collect()
    }

    /// The rules of a role; `resource` is `roles` or `clusterroles`.
    pub fn rules_of_role(&self, resource: &str, namespace: &str, name: &str) -> Option<&Vec<Rule>> {
        match resource {
            "roles" => self.roles.get(&format!("{namespace}/{name}")),
            _ => self.cluster_roles.get(name),
        }
    }

    fn role(&self, binding: &Binding) -> Option<&Vec<Rule>> {
        match binding.role.kind.as_str() {
            "Role" => self.roles.get(&format!("{}/{}", binding.namespace, binding.role.name)),
            _ => self.cluster_roles.get(&binding.role.name),
        }
    }
}

fn whom(binding: &Binding, user: &User) -> String {
    let subject = binding.subjects.iter().find(|subject| subject.is(user, &binding.namespace));
    subject
        .map(|subject| match subject.kind.as_str() {
            "ServiceAccount" => format!("ServiceAccount \"{}/{}\"", subject.name, subject.namespace),
            kind => format!("{kind} {:?}", subject.name),
        })
        .unwrap_or_default()
}

/// The index; the part that has changed is made anew.
#[derive(Default)]
pub struct Rbac {
    current: Mutex<([u64; 4], Arc<Index>)>,
}

impl Rbac {
    /// The index of what the caches hold now.
    ///
    /// # Errors
    /// 500 where the store fails.
    pub async fn index(&self, server: &Arc<ApiServer>) -> Result<Arc<Index>, ApiError> {
        let find = |plural| server.registry.built_in(GROUP, "v1", plural);
        let (Some(cluster_roles), Some(roles), Some(cluster_bindings), Some(bindings)) =
            (find("clusterroles"), find("roles"), find("clusterrolebindings"), find("rolebindings"))
        else {
            return Ok(Arc::default());
        };
        let all = [cluster_roles, roles, cluster_bindings, bindings];
        for resource in all {
            server.feed.load(&resource.prefix, &resource.cache).await?;
        }
        let versions = all.map(|resource| resource.cache.version());
        let mut current = self.current.lock().expect("no panic while held");
        let (known, index) = &mut *current;
        if *known != versions {
            let mut new = Index::clone(index);
            let is_new = |part: usize| known[part] != versions[part];
            if is_new(0) {
                new.cluster_roles = Arc::new(read_cluster_roles(cluster_roles));
            }
            if is_new(1) {
                new.roles = Arc::new(read_roles(roles));
            }
            if is_new(2) {
                new.cluster_bindings =
                    Arc::new(cluster_bindings.cache.snapshot(0).objects.values().map(|item| binding(item)).collect());
            }
            if is_new(3) {
                new.bindings = Arc::new(read_bindings(bindings));
            }
            *current = (versions, Arc::new(new));
        }
        Ok(current.1.clone())
    }
}

fn read_cluster_roles(cluster_roles: &Resource) -> BTreeMap<String, Vec<Rule>> {
    let mut all = BTreeMap::new();
    let snapshot = cluster_roles.cache.snapshot(0);
    let mut aggregated = Vec::new();
    for item in snapshot.objects.values() {
        let role: RoleDocument = decode(item);
        if let Some(rule) = role.aggregation_rule {
            aggregated.push((item.name().to_owned(), rule));
        }
        all.insert(item.name().to_owned(), role.rules.unwrap_or_default());
    }
    // An aggregated role may select another one: as many rounds as there are such roles reach the end.
    for _ in 0..aggregated.len().min(4) {
        for (name, rule) in &aggregated {
            let selectors: Vec<Selector> = rule
                .cluster_role_selectors
                .iter()
                .filter_map(|selector| Selector::from_label_selector(Some(selector)).ok())
                .collect();
            let mut union: Vec<Rule> = Vec::new();
            for item in snapshot.objects.values().filter(|item| item.name() != name) {
                if selectors.iter().any(|selector| selector.matches_with(|key| item.label(key))) {
                    for rule in all.get(item.name()).into_iter().flatten() {
                        if !union.contains(rule) {
                            union.push(rule.clone());
                        }
                    }
                }
            }
            all.insert(name.clone(), union);
        }
    }
    all
}

fn read_roles(roles: &Resource) -> BTreeMap<String, Vec<Rule>> {
    let rules = |item: &Item| decode::<RoleDocument>(item).rules.unwrap_or_default();
    roles.cache.snapshot(0).objects.values().map(|item| (item.key.to_string(), rules(item))).collect()
}

fn read_bindings(bindings: &Resource) -> BTreeMap<String, Vec<Binding>> {
    let mut all: BTreeMap<String, Vec<Binding>> = BTreeMap::new();
    for item in bindings.cache.snapshot(0).objects.values() {
        all.entry(item.namespace().to_owned()).or_default().push(binding(item));
    }
    all
}

fn binding(item: &Item) -> Binding {
    let document: BindingDocument = decode(item);
    Binding {
        name: item.name().to_owned(),
        namespace: item.namespace().to_owned(),
        subjects: document.subjects.unwrap_or_default(),
        role: document.role_ref,
    }
}

fn decode<T: serde::de::DeserializeOwned + Default>(item: &Item) -> T {
    serde_json::from_slice(&item.value).unwrap_or_else(|error| {
        tracing::warn!(%error, key = %item.key, "a role or binding does not decode");
        T::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Rule {
        let own = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
        Rule {
            verbs: own(verbs),
            api_groups: own(groups),
            resources: own(resources),
            resource_names: own(names),
            ..Rule::default()
        }
    }

    #[track_caller]
    fn check(rule: &Rule, verb: &str, resource: &str, subresource: &str, name: &str, expected: bool) {
        let question = Question { verb, is_resource: true, resource, subresource, name, ..Question::default() };
        assert_eq!(rule.allows(&question), expected, "{verb} {resource}/{subresource} {name}");
    }

    #[test]
    fn rules() {
        check(&rule(&["get"], &[""], &["pods"], &[]), "get", "pods", "", "a", true);
        check(&rule(&["get"], &[""], &["pods"], &[]), "get", "pods", "log", "a", false);
        check(&rule(&["get"], &["apps"], &["pods"], &[]), "get", "pods", "", "a", false);
        check(&rule(&["*"], &["*"], &["*/scale"], &[]), "update", "deployments", "scale", "a", true);
        check(&rule(&["get"], &[""], &["*"], &["a"]), "get", "pods", "log", "a", true);
        check(&rule(&["get"], &[""], &["*"], &["a"]), "get", "pods", "log", "b", false);
    }

    #[test]
    fn paths() {
        let rule = Rule { verbs: vec!["get".into()], non_resource_urls: vec!["/healthz/*".into()], ..Rule::default() };
        assert!(rule.allows(&Question { verb: "get", path: "/healthz/ping", ..Question::default() }));
        assert!(!rule.allows(&Question { verb: "get", path: "/metrics", ..Question::default() }));
    }
}
