//! Annotations that a Deployment and its ReplicaSets carry.
//!
//! Source: kubernetes pkg/controller/deployment/util/deployment_util.go.

use std::collections::BTreeMap;

use std::sync::Arc;

use daruma_api::apps::v1::{Deployment, ReplicaSet};
use daruma_api::meta::ObjectExt;

use super::sets::{max_surge, wanted};

/// The place of a ReplicaSet in the rollout history; of a Deployment, its newest ReplicaSet's.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Earlier revisions that a ReplicaSet stood for.
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The Deployment's `replicas` when the ReplicaSet was last scaled.
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// The same with the surge.
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations that are not copied from a Deployment to its ReplicaSets.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// Longest history kept, in characters.
const HISTORY_LIMIT: usize = 2000;

/// The revision of a ReplicaSet; 0 when it has none, `None` when it is no number.
pub fn revision(set: &ReplicaSet) -> Option<i64> {
    set.annotation(REVISION).map_or(Some(0), |text| text.parse().ok())
}

/// The highest revision.
pub fn max_revision(sets: &[Arc<ReplicaSet>]) -> i64 {
    sets.iter().filter_map(|set| revision(set)).max().unwrap_or_default()
}

/// Brings the new ReplicaSet's annotations up to date, but for [`set_counts`]. Gives whether any changed.
pub fn set_annotations(deployment: &Deployment, annotations: &mut BTreeMap<String, String>, new_revision: i64) -> bool {
    let mut changed = false;
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) && annotations.get(key) != Some(value) {
            annotations.insert(key.clone(), value.clone());
            changed = true;
        }
    }
    let old = annotations.get(REVISION).cloned();
    let old_number = match old.as_deref() {
        None | Some("") => 0,
        Some(text) => match text.parse::<i64>() {
            Ok(number) => number,
            // Somebody wrote nonsense there; leave it.
            Err(_) => return false,
        },
    };
    if old_number < new_revision {
        annotations.insert(REVISION.to_owned(), new_revision.to_string());
        changed = true;
        if let Some(old) = old {
            remember(annotations, old);
        }
    }
    changed
}

/// A ReplicaSet that is rolled back to keeps the revisions it had.
fn remember(annotations: &mut BTreeMap<String, String>, old: String) {
    let history = annotations.get(REVISION_HISTORY).cloned().unwrap_or_default();
    let mut revisions: Vec<&str> = history.split(',').filter(|one| !one.is_empty()).collect();
    let mut length = history.len() + old.len() + 1;
    while length > HISTORY_LIMIT && !revisions.is_empty() {
        length -= revisions.remove(0).len() + 1;
    }
    revisions.push(&old);
    annotations.insert(REVISION_HISTORY.to_owned(), revisions.join(","));
}

/// Records the Deployment's size on a ReplicaSet. Gives whether that changed anything.
pub fn set_counts(deployment: &Deployment, set: &mut ReplicaSet) -> bool {
    let wanted = wanted(deployment);
    let annotations = set.metadata.annotations.get_or_insert_default();
    let mut changed = false;
    for (key, count) in [(DESIRED_REPLICAS, wanted), (MAX_REPLICAS, wanted + max_surge(deployment))] {
        let count = count.to_string();
        if annotations.get(key) != Some(&count) {
            annotations.insert(key.to_owned(), count);
            changed = true;
        }
    }
    changed
}

/// Copies the newest ReplicaSet's revision to the Deployment. Gives whether it changed.
pub fn set_deployment_revision(deployment: &mut Deployment, revision: &str) -> bool {
    let annotations = deployment.metadata.annotations.get_or_insert_default();
    if annotations.get(REVISION).is_some_and(|old| old == revision) {
        return false;
    }
    annotations.insert(REVISION.to_owned(), revision.to_owned());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rolling_back_keeps_the_history() {
        let mut annotations = BTreeMap::new();
        let deployment = Deployment::default();
        for (revision, changes) in [(1, true), (1, false), (3, true), (5, true)] {
            assert_eq!(set_annotations(&deployment, &mut annotations, revision), changes, "{revision}");
        }
        assert_eq!(annotations[REVISION], "5");
        assert_eq!(annotations[REVISION_HISTORY], "1,3");
    }
}
