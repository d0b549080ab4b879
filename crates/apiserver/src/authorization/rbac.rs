//! Role-based access control over the cached roles and bindings.
//!
//! Facts: kubernetes pkg/registry/rbac/validation/rule.go, plugin/pkg/auth/authorizer/rbac,
//! pkg/apis/rbac/v1/evaluation_helpers.go. Aggregated cluster roles are united by label when read.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use daruma_api::json;
use daruma_api::metav1::LabelSelector;
use daruma_api::selector::Selector;
use daruma_api::status::ApiError;
use serde::{Deserialize, Serialize};

use super::binding::Binding;
use super::{Decision, Grant, Question};
use crate::cache::NOT_LOADED;
use crate::registry::{Registry, Resource};
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

/// What was read of objects, by their keys, and the objects themselves.
type Read<T> = BTreeMap<Arc<str>, (Arc<Item>, Arc<T>)>;

/// All roles and bindings, decoded. What has not changed is shared with the index before.
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// Cluster roles as they are written.
    written: Arc<Read<ClusterRole>>,
    /// Their rules, with those of aggregated ones.
    cluster_roles: Arc<BTreeMap<Arc<str>, Arc<Vec<Rule>>>>,
    roles: Arc<Read<Vec<Rule>>>,
    cluster_bindings: Arc<Read<Binding>>,
    bindings: Arc<Read<Binding>>,
}

#[derive(Debug)]
struct ClusterRole {
    rules: Arc<Vec<Rule>>,
    /// Which roles' rules it has instead.
    aggregated: Option<Vec<Selector>>,
}

impl Index {
    /// Whether a binding gives `user` what is asked.
    pub fn decide(&self, user: &User, question: &Question<'_>) -> Decision {
        let mut missing = Vec::new();
        for (binding, subject) in self.bindings_of(user, question.namespace) {
            match self.role(binding) {
                None => missing.push(format!("{}.{GROUP} {:?} not found", binding.role.kind.to_lowercase(), binding.role.name)),
                Some(rules) if rules.iter().any(|rule| rule.allows(question)) => {
                    return Decision::Allow(Grant(Some((binding.clone(), subject))));
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
        self.bindings_of(user, namespace).filter_map(|(binding, _)| self.role(binding)).flatten().collect()
    }

    /// The rules of a role; `resource` is `roles` or `clusterroles`.
    pub fn rules_of_role(&self, resource: &str, namespace: &str, name: &str) -> Option<&Vec<Rule>> {
        match resource {
            "roles" => self.roles.get(format!("{namespace}/{name}").as_str()).map(|(_, rules)| &**rules),
            _ => self.cluster_roles.get(name).map(|rules| &**rules),
        }
    }

    /// The bindings that concern `user` in a namespace, those of the cluster first, each with the number of the subject.
    fn bindings_of<'a>(&'a self, user: &'a User, namespace: &'a str) -> impl Iterator<Item = (&'a Arc<Binding>, usize)> {
        let first = format!("{namespace}/");
        let of_namespace = (Bound::Included(first.as_str()), Bound::Unbounded);
        let own = (!namespace.is_empty()).then(|| self.bindings.range::<str, _>(of_namespace));
        let own = own.into_iter().flatten().map(|(_, (_, binding))| binding);
        let own = own.take_while(move |binding| binding.namespace == namespace);
        let all = self.cluster_bindings.values().map(|(_, binding)| binding).chain(own);
        all.filter_map(move |binding| Some((binding, binding.subject(user)?)))
    }

    fn role(&self, binding: &Binding) -> Option<&Vec<Rule>> {
        let resource = if binding.role.kind == "Role" { "roles" } else { "clusterroles" };
        self.rules_of_role(resource, &binding.namespace, &binding.role.name)
    }
}

/// The index; the part that has changed is made anew.
pub struct Rbac {
    /// Cluster roles, roles, cluster role bindings and role bindings, where they are served.
    resources: Option<[Arc<Resource>; 4]>,
    current: Mutex<([u64; 4], Arc<Index>)>,
}

impl Rbac {
    /// An index of what the registry's resources will hold.
    pub fn new(registry: &Registry) -> Self {
        let find = |plural| registry.built_in(GROUP, "v1", plural).cloned();
        let all = [find("clusterroles"), find("roles"), find("clusterrolebindings"), find("rolebindings")];
        let resources = match all {
            [Some(cluster_roles), Some(roles), Some(cluster_bindings), Some(bindings)] => {
                Some([cluster_roles, roles, cluster_bindings, bindings])
            }
            _ => None,
        };
        Self { resources, current: Mutex::default() }
    }

    /// The index of what the caches hold now.
    ///
    /// # Errors
    /// 500 where the store fails.
    pub async fn index(&self, server: &ApiServer) -> Result<Arc<Index>, ApiError> {
        let Some(resources) = &self.resources else { return Ok(Arc::default()) };
        let versions = || resources.each_ref().map(|resource| resource.cache.version());
        let mut now = versions();
        if now.contains(&NOT_LOADED) {
            for resource in resources {
                server.feed.load(&resource.prefix, &resource.cache).await?;
            }
            now = versions();
        }
        let mut current = self.current.lock().expect("no panic while held");
        let (known, index) = &mut *current;
        if *known != now {
            let [cluster_roles, roles, cluster_bindings, bindings] = resources;
            let is_new = |part: usize| known[part] != now[part];
            let mut new = Index::clone(index);
            if is_new(0) {
                new.written = Arc::new(read(cluster_roles, &index.written, cluster_role));
                new.cluster_roles = Arc::new(united(&new.written));
            }
            if is_new(1) {
                let rules = |item: &Item| decode::<RoleDocument>(item).rules.unwrap_or_default();
                new.roles = Arc::new(read(roles, &index.roles, rules));
            }
            if is_new(2) {
                new.cluster_bindings = Arc::new(read(cluster_bindings, &index.cluster_bindings, Binding::read));
            }
            if is_new(3) {
                new.bindings = Arc::new(read(bindings, &index.bindings, Binding::read));
            }
            *current = (now, Arc::new(new));
        }
        Ok(current.1.clone())
    }
}

/// Reads the objects of a resource that have changed since `before`.
fn read<T>(resource: &Resource, before: &Read<T>, of: impl Fn(&Item) -> T) -> Read<T> {
    let one = |item: &Arc<Item>| match before.get(&item.key) {
        Some((same, known)) if Arc::ptr_eq(same, item) => known.clone(),
        _ => Arc::new(of(item)),
    };
    resource.cache.snapshot(0).objects.values().map(|item| (item.key.clone(), (item.clone(), one(item)))).collect()
}

fn cluster_role(item: &Item) -> ClusterRole {
    let document: RoleDocument = decode(item);
    let aggregated = document.aggregation_rule.map(|rule| {
        let selectors = rule.cluster_role_selectors.iter();
        selectors.filter_map(|selector| Selector::from_label_selector(Some(selector)).ok()).collect()
    });
    ClusterRole { rules: Arc::new(document.rules.unwrap_or_default()), aggregated }
}

/// The rules of all cluster roles: an aggregated one has those of the roles that it selects.
fn united(written: &Read<ClusterRole>) -> BTreeMap<Arc<str>, Arc<Vec<Rule>>> {
    let mut all: BTreeMap<_, _> = written.iter().map(|(name, (_, role))| (name.clone(), role.rules.clone())).collect();
    let aggregated: Vec<_> = written.iter().filter_map(|(name, (_, role))| Some((name, role.aggregated.as_deref()?))).collect();
    // An aggregated role may select another one: as many rounds as there are such roles reach the end.
    for _ in 0..aggregated.len().min(4) {
        let mut changed = false;
        for (name, selectors) in &aggregated {
            let mut union: Vec<&Rule> = Vec::new();
            for (item, _) in written.values().filter(|(item, _)| item.key != **name) {
                if selectors.iter().any(|selector| selector.matches_with(|key| item.label(key))) {
                    for rule in all.get(&item.key).into_iter().flat_map(|rules| rules.iter()) {
                        if !union.contains(&rule) {
                            union.push(rule);
                        }
                    }
                }
            }
            if all.get(*name).is_none_or(|rules| !rules.iter().eq(union.iter().copied())) {
                let union = union.into_iter().cloned().collect();
                all.insert((*name).clone(), Arc::new(union));
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    all
}

/// An object as far as it is of interest here; what does not decode grants nothing.
pub(super) fn decode<T: serde::de::DeserializeOwned + Default>(item: &Item) -> T {
    json::parse(&item.value).unwrap_or_else(|error| {
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
    fn aggregated_roles_have_the_rules_of_others() {
        let item = |name: &str, labels: &str, rest: &str| {
            let value = format!(r#"{{"metadata":{{"labels":{{{labels}}}}},{rest}}}"#);
            Arc::new(Item::new(name, 1, value.into(), &crate::storage::Extractor::new(&[])))
        };
        let selects = |label: &str| {
            format!(
                r#""rules":[{{"verbs":["old"]}}],"aggregationRule":{{"clusterRoleSelectors":[{{"matchLabels":{{"{label}":"1"}}}}]}}"#
            )
        };
        // `a` has what `b` has, which has what `c` and `d` have, and not what it is written to have.
        let roles = [
            item("a", "", &selects("to-a")),
            item("b", r#""to-a":"1""#, &selects("to-b")),
            item("c", r#""to-b":"1""#, r#""rules":[{"verbs":["get"]},{"verbs":["list"]}]"#),
            item("d", r#""to-b":"1""#, r#""rules":[{"verbs":["get"]}]"#),
        ];
        let written = roles.into_iter().map(|item| (item.key.clone(), (item.clone(), Arc::new(cluster_role(&item))))).collect();
        let united = united(&written);
        let verbs = |name: &str| united[name].iter().flat_map(|rule| rule.verbs.clone()).collect::<Vec<_>>();
        assert_eq!([verbs("a"), verbs("b"), verbs("d")], [vec!["get", "list"], vec!["get", "list"], vec!["get"]]);
    }

    #[test]
    fn paths() {
        let rule = Rule { verbs: vec!["get".into()], non_resource_urls: vec!["/healthz/*".into()], ..Rule::default() };
        assert!(rule.allows(&Question { verb: "get", path: "/healthz/ping", ..Question::default() }));
        assert!(!rule.allows(&Question { verb: "get", path: "/metrics", ..Question::default() }));
    }
}
