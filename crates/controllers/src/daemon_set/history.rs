//! A DaemonSet's revisions: which is current, which are old, which go.
//!
//! Source: kubernetes pkg/controller/daemon/update.go.

use std::borrow::Cow;
use std::collections::BTreeSet;

use daruma_api::apps::v1::{ControllerRevision, DaemonSet};
use daruma_api::core::v1::{Pod, PodTemplateSpec};
use daruma_api::meta::ObjectExt;

use crate::revision_history::{self, keeps, snapshot};
use crate::template_hash::{CONTROLLER_REVISION_HASH, template_hash};

pub use crate::revision_history::max_revision;

fn template(set: &DaemonSet) -> Cow<'_, PodTemplateSpec> {
    set.spec.as_ref().map(|spec| Cow::Borrowed(&spec.template)).unwrap_or_default()
}

/// Whether a revision keeps the set's present template.
pub fn is_current(set: &DaemonSet, revision: &ControllerRevision) -> bool {
    keeps(revision, &snapshot(&template(set)))
}

/// A new revision of the set's present template.
pub fn new_revision(set: &DaemonSet, number: i64) -> ControllerRevision {
    let template = template(set);
    let collisions = set.status.as_ref().and_then(|status| status.collision_count);
    let hash = template_hash(&template, collisions);
    revision_history::new_revision(set, &template, CONTROLLER_REVISION_HASH, &hash, number)
}

/// Names of old revisions beyond the history limit that no pod is of, the oldest first.
pub fn surplus(set: &DaemonSet, old: &[ControllerRevision], pods: &[std::sync::Arc<Pod>]) -> Vec<String> {
    let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
    let count = old.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
    let live: BTreeSet<&str> = pods.iter().filter_map(|pod| pod.label(CONTROLLER_REVISION_HASH)).collect();
    let mut sorted: Vec<&ControllerRevision> = old.iter().collect();
    sorted.sort_by_key(|revision| revision.revision);
    let unused =
        sorted.into_iter().filter(|revision| revision.label(CONTROLLER_REVISION_HASH).is_none_or(|hash| !live.contains(hash)));
    unused.take(count).map(|revision| revision.name().to_owned()).collect()
}
