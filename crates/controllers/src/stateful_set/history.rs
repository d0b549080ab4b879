//! A StatefulSet's revisions: which is current, which is to be made, which go. Pure.
//!
//! Source: kubernetes pkg/controller/statefulset/stateful_set_control.go (`getStatefulSetRevisions`, `truncateHistory`).

use std::collections::BTreeSet;
use std::sync::Arc;

use daruma_api::apps::v1::{ControllerRevision, StatefulSet};
use daruma_api::core::v1::{Pod, PodTemplateSpec};
use daruma_api::meta::ObjectExt;

use super::identity;
use crate::revision_history::{self, keeps, snapshot, template};
use crate::template_hash::{same_template, template_hash};

/// Label of a revision that carries its hash.
pub const HASH: &str = "controller.kubernetes.io/hash";

/// What the set's present template is among its revisions.
#[derive(Debug, PartialEq)]
pub enum Update {
    /// The newest of them.
    Newest(ControllerRevision),
    /// An older one, which becomes the newest.
    Older(ControllerRevision),
    /// None of them.
    New,
}

/// The set's present template.
pub fn present(set: &StatefulSet) -> PodTemplateSpec {
    set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default()
}

/// Finds the set's present template among `revisions`, which are in order.
pub fn update(set: &StatefulSet, revisions: &[ControllerRevision]) -> Update {
    let present = present(set);
    let snapshot = snapshot(&present);
    let Some(newest) = revisions.last() else { return Update::New };
    if keeps(newest, &snapshot) {
        return Update::Newest(newest.clone());
    }
    if let Some(older) = revisions.iter().rev().find(|revision| keeps(revision, &snapshot)) {
        return Update::Older(older.clone());
    }
    // The same template may have been written down in another way.
    if template(newest).is_some_and(|kept| same_template(&kept, &present)) {
        return Update::Newest(newest.clone());
    }
    Update::New
}

/// A new revision of the set's present template.
pub fn new_revision(set: &StatefulSet, number: i64, collisions: i32) -> ControllerRevision {
    let template = present(set);
    let hash = template_hash(&template, Some(collisions));
    revision_history::new_revision(set, &template, HASH, &hash, number)
}

/// The number after the newest revision's.
pub fn next_number(revisions: &[ControllerRevision]) -> i64 {
    revisions.last().map_or(1, |revision| revision.revision + 1)
}

/// Names of revisions beyond the history limit that are not in use, the oldest first. A negative limit keeps all.
pub fn surplus(set: &StatefulSet, revisions: &[ControllerRevision], pods: &[Arc<Pod>], in_use: [&str; 2]) -> Vec<String> {
    let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
    let Ok(limit) = usize::try_from(limit) else { return Vec::new() };
    let live: BTreeSet<&str> = pods.iter().map(|pod| identity::revision(pod)).chain(in_use).collect();
    let unused: Vec<&str> = revisions.iter().map(ObjectExt::name).filter(|name| !live.contains(name)).collect();
    let count = unused.len().saturating_sub(limit);
    unused.into_iter().take(count).map(str::to_owned).collect()
}
