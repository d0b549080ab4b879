//! Nobody gives away more than he has: who writes a role must hold its rules, who binds one must hold what it grants,
//! or be allowed the verbs `escalate` and `bind`.
//!
//! Facts: kubernetes pkg/registry/rbac/{escalation_check.go,validation/rule.go,validation/policy_compact.go} and the
//! `policybased` storages; component-helpers auth/rbac/validation/policy_comparator.go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daruma_api::status::ApiError;
use serde_json::Value;

use super::rbac::Rule;
use super::{Decision, Question};
use crate::admission::Attributes;
use crate::document::text;
use crate::server::ApiServer;
use crate::user::{MASTERS, User};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Refuses a role or binding that grants what its writer does not hold. Other resources pass.
///
/// # Errors
/// 403; 404 for a binding to a role that is not there.
pub async fn confirm(server: &Arc<ApiServer>, attributes: &Attributes) -> Result<(), ApiError> {
    let (user, object) = (&attributes.user, &attributes.object);
    if attributes.resource.group() != GROUP || user.is_in(MASTERS) || only_ownership_changes(object, attributes.old.as_deref()) {
        return Ok(());
    }
    let plural = attributes.resource.plural();
    let (verb, resource, name) = match (plural, text(object, "/roleRef/kind")) {
        ("roles" | "clusterroles", _) => ("escalate", plural, attributes.name.as_str()),
        (_, "Role") => ("bind", "roles", text(object, "/roleRef/name")),
        (_, "ClusterRole") => ("bind", "clusterroles", text(object, "/roleRef/name")),
        // Validation knows what is wrong.
        _ => return Ok(()),
    };
    let namespace = attributes.namespace.as_str();
    let question = Question { verb, is_resource: true, group: GROUP, resource, namespace, name, ..Question::default() };
    if let Decision::Allow(_) = server.authorization.decide(server, user, &question).await? {
        return Ok(());
    }
    let held = server.authorization.rules(server, user, namespace).await?;
    if object.get("aggregationRule").is_some_and(|rule| !rule.is_null()) && !missing(&held, &everything()).is_empty() {
        return Err(attributes.forbidden("must have cluster-admin privileges to use the aggregationRule"));
    }
    let granted = if verb == "escalate" {
        object.get("rules").and_then(|rules| serde_json::from_value(rules.clone()).ok()).unwrap_or_default()
    } else {
        let rules = server.authorization.rules_of_role(server, resource, namespace, name).await?;
        rules.ok_or_else(|| ApiError::not_found(GROUP, resource, name))?
    };
    let missing = missing(&held, &granted);
    if missing.is_empty() { Ok(()) } else { Err(attributes.forbidden(&refusal(user, missing))) }
}

/// Whether nothing but the fields of garbage collection differs.
fn only_ownership_changes(new: &Value, old: Option<&Value>) -> bool {
    const OWNERSHIP: [&str; 5] = ["ownerReferences", "finalizers", "resourceVersion", "generation", "managedFields"];
    fn rest<'a>(object: &'a Value, but: &'a [&str]) -> impl Iterator<Item = (&'a String, &'a Value)> {
        object.as_object().into_iter().flatten().filter(|(key, _)| !but.contains(&key.as_str()))
    }
    old.is_some_and(|old| {
        rest(old, &["metadata"]).eq(rest(new, &["metadata"]))
            && rest(&old["metadata"], &OWNERSHIP).eq(rest(&new["metadata"], &OWNERSHIP))
    })
}

fn everything() -> [Rule; 2] {
    let all = || vec!["*".to_owned()];
    [
        Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() },
        Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() },
    ]
}

fn refusal(user: &User, missing: Vec<Rule>) -> String {
    let shown: BTreeSet<String> = compact(missing).iter().map(describe).collect();
    let shown: Vec<String> = shown.into_iter().collect();
    format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        quoted(&user.groups),
        shown.join("\n")
    )
}

/// The single permissions in `granted` that no rule of `held` covers.
fn missing(held: &[Rule], granted: &[Rule]) -> Vec<Rule> {
    let single = granted.iter().flat_map(break_down);
    single.filter(|one| !held.iter().any(|rule| covers(rule, one))).collect()
}

fn break_down(rule: &Rule) -> Vec<Rule> {
    let own = |text: &String| vec![text.clone()];
    let mut single = Vec::new();
    for verb in &rule.verbs {
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let one = Rule { verbs: own(verb), api_groups: own(group), resources: own(resource), ..Rule::default() };
                if rule.resource_names.is_empty() {
                    single.push(one.clone());
                }
                single.extend(rule.resource_names.iter().map(|name| Rule { resource_names: own(name), ..one.clone() }));
            }
        }
        single.extend(rule.non_resource_urls.iter().map(|url| Rule {
            verbs: own(verb),
            non_resource_urls: own(url),
            ..Rule::default()
        }));
    }
    single
}

/// Whether `rule` covers a single permission.
fn covers(rule: &Rule, one: &Rule) -> bool {
    let has = |list: &[String], value: &String| list.iter().any(|other| other == "*" || other == value);
    let resource = |wanted: &String| {
        let of_any = wanted.split_once('/').map(|(_, sub)| format!("*/{sub}"));
        has(&rule.resources, wanted) || of_any.is_some_and(|of_any| rule.resources.contains(&of_any))
    };
    let url = |wanted: &String| {
        rule.non_resource_urls
            .iter()
            .any(|url| url == wanted || url.strip_suffix('*').is_some_and(|prefix| wanted.starts_with(prefix)))
    };
    let names = if one.resource_names.is_empty() {
        rule.resource_names.is_empty()
    } else {
        rule.resource_names.is_empty() || one.resource_names.iter().all(|name| rule.resource_names.contains(name))
    };
    names
        && one.verbs.iter().all(|verb| has(&rule.verbs, verb))
        && one.api_groups.iter().all(|group| has(&rule.api_groups, group))
        && one.resources.iter().all(resource)
        && one.non_resource_urls.iter().all(url)
}

/// Unites permissions on one resource (and name) that differ in their verbs.
fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut united: BTreeMap<(Vec<String>, Vec<String>, Vec<String>), Rule> = BTreeMap::new();
    let mut others = Vec::new();
    for rule in rules {
        if rule.resources.is_empty() {
            others.push(rule);
            continue;
        }
        let key = (rule.api_groups.clone(), rule.resources.clone(), rule.resource_names.clone());
        match united.get_mut(&key) {
            Some(known) => known.verbs.extend(rule.verbs),
            None => {
                united.insert(key, rule);
            }
        }
    }
    others.extend(united.into_values());
    others
}

fn describe(rule: &Rule) -> String {
    let parts = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ];
    let shown: Vec<String> =
        parts.iter().filter(|(_, list)| !list.is_empty()).map(|(name, list)| format!("{name}:{}", quoted(list))).collect();
    format!("{{{}}}", shown.join(", "))
}

/// A list as Go's `%q` shows it.
fn quoted(list: &[String]) -> String {
    let list: Vec<String> = list.iter().map(|one| format!("{one:?}")).collect();
    format!("[{}]", list.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(held: Value, granted: Value, expected: &[&str]) {
        let rules = |value| serde_json::from_value::<Vec<Rule>>(value).expect("rules");
        let shown: Vec<String> = compact(missing(&rules(held), &rules(granted))).iter().map(describe).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_is_missing() {
        let pods = json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]);
        check(pods.clone(), pods.clone(), &[]);
        check(json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]), pods.clone(), &[]);
        check(json!([]), pods.clone(), &[r#"{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}"#]);
        check(
            pods.clone(),
            json!([{"verbs": ["list", "watch"], "apiGroups": [""], "resources": ["pods", "pods/log"], "resourceNames": ["a"]}]),
            &[
                r#"{APIGroups:[""], Resources:["pods"], ResourceNames:["a"], Verbs:["watch"]}"#,
                r#"{APIGroups:[""], Resources:["pods/log"], ResourceNames:["a"], Verbs:["list" "watch"]}"#,
            ],
        );
        let one_name = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}]);
        check(one_name, pods, &[r#"{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}"#]);
        check(
            json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz/*"]}]),
            json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz/ping", "/metrics"]}]),
            &[r#"{NonResourceURLs:["/metrics"], Verbs:["get"]}"#],
        );
    }
}
