//! Fills the rules of ClusterRoles that are put together from others.
//!
//! Source: kubernetes pkg/controller/clusterroleaggregation. The real one writes with server-side
//! apply under its own field manager; here it is a merge patch of the rules.

use std::sync::Arc;

use daruma_api::meta::ObjectExt;
use daruma_api::rbac::v1::{ClusterRole, PolicyRule};
use daruma_api::selector::{Selector, SelectorError};
use daruma_client::Patch;
use futures::FutureExt;
use serde_json::json;

use crate::shell::{Context, SyncError, Synced};

/// The decision of this controller, for those who only want that.
pub struct ClusterRoleAggregation;

impl ClusterRoleAggregation {
    /// The rules that `role` should have; `None` when it is not put together or has them.
    ///
    /// # Errors
    /// A selector that is invalid.
    pub fn plan(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Result<Option<Vec<PolicyRule>>, SelectorError> {
        let Some(aggregation) = &role.aggregation_rule else { return Ok(None) };
        let mut rules: Vec<PolicyRule> = Vec::new();
        for selector in aggregation.cluster_role_selectors.iter().flatten() {
            let selector = Selector::from_label_selector(Some(selector))?;
            let parts = all.iter().filter(|part| part.name() != role.name());
            for part in parts.filter(|part| selector.matches(part.metadata.labels.as_ref())) {
                for rule in part.rules.iter().flatten() {
                    if !rules.contains(rule) {
                        rules.push(rule.clone());
                    }
                }
            }
        }
        Ok((role.rules.as_deref().unwrap_or_default() != rules).then_some(rules))
    }
}

/// Registers the controller.
pub(crate) fn start(context: Context) {
    let queue = context.queue("ClusterRoleAggregator");
    let shared = context.shared.clone();
    {
        let (queue, roles) = (queue.clone(), shared.cluster_roles.clone());
        // Which role feeds which is not known, and there are few: look at all that are put together.
        shared.cluster_roles.on_delta(move |_| {
            for role in roles.list().iter().filter(|role| role.aggregation_rule.is_some()) {
                queue.add(role.name());
            }
        });
    }
    let ready = {
        let shared = shared.clone();
        async move { shared.cluster_roles.wait_synced().await }
    };
    let syncer = context.clone();
    context.work(&queue, context.workers, ready, move |name| {
        let context = syncer.clone();
        async move { sync(&context, &name).await }.boxed()
    });
}

async fn sync(context: &Context, name: &str) -> Synced {
    let roles = &context.shared.cluster_roles;
    let Some(role) = roles.get("", name) else { return Ok(None) };
    let rules = ClusterRoleAggregation::plan(&role, &roles.list()).map_err(|error| SyncError::Blocked(error.to_string()))?;
    if let Some(rules) = rules {
        context.client.all::<ClusterRole>().patch(name, &Patch::Merge(json!({ "rules": rules }))).await?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use daruma_api::metav1::{LabelSelector, ObjectMeta};
    use daruma_api::rbac::v1::AggregationRule;

    #[test]
    fn rules_are_gathered_once() {
        let labels = std::collections::BTreeMap::from([("to".to_owned(), "view".to_owned())]);
        let rule = PolicyRule { verbs: vec!["get".to_owned()], ..PolicyRule::default() };
        let part = |name: &str, labelled: bool| {
            Arc::new(ClusterRole {
                metadata: ObjectMeta {
                    name: Some(name.to_owned()),
                    labels: labelled.then(|| labels.clone()),
                    ..ObjectMeta::default()
                },
                rules: Some(vec![rule.clone()]),
                aggregation_rule: None,
            })
        };
        let selector = LabelSelector { match_labels: Some(labels.clone()), ..LabelSelector::default() };
        let mut view = part("view", false).as_ref().clone();
        view.rules = None;
        view.aggregation_rule = Some(AggregationRule { cluster_role_selectors: Some(vec![selector]) });
        let all = [part("a", true), part("b", true), part("c", false)];
        assert_eq!(ClusterRoleAggregation::plan(&view, &all), Ok(Some(vec![rule.clone()])));
        view.rules = Some(vec![rule.clone()]);
        assert_eq!(ClusterRoleAggregation::plan(&view, &all), Ok(None));
    }
}
