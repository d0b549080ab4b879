//! A DaemonSet's revisions: which is current, which are old, which go.
//!
//! Source: kubernetes pkg/controller/daemon/update.go.

use std::collections::BTreeSet;

use daruma_api::apps::v1::{ControllerRevision, DaemonSet};
use daruma_api::core::v1::Pod;
use daruma_api::k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use daruma_api::meta::{ObjectExt, controller_reference};
use daruma_api::metav1::ObjectMeta;
use serde_json::{Value, json};

use crate::template_hash::{CONTROLLER_REVISION_HASH, template_hash};

/// What a revision keeps: the template, as a patch that replaces it.
pub fn snapshot(set: &DaemonSet) -> Value {
    let template = set.spec.as_ref().map(|spec| &spec.template);
    let mut template = serde_json::to_value(template).unwrap_or_default();
    if let Some(fields) = template.as_object_mut() {
        fields.insert("$patch".to_owned(), Value::from("replace"));
    }
    json!({ "spec": { "template": template } })
}

/// Whether a revision keeps the set's present template.
pub fn is_current(set: &DaemonSet, revision: &ControllerRevision) -> bool {
    revision.data.as_ref().is_some_and(|data| data.0 == snapshot(set))
}

/// The highest revision number.
pub fn max_revision<'a>(revisions: impl IntoIterator<Item = &'a ControllerRevision>) -> i64 {
    revisions.into_iter().map(|revision| revision.revision).max().unwrap_or_default()
}

/// A new revision of the set's present template.
pub fn new_revision(set: &DaemonSet, number: i64) -> ControllerRevision {
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let collisions = set.status.as_ref().and_then(|status| status.collision_count);
    let hash = template_hash(&template, collisions);
    let mut labels = template.metadata.and_then(|metadata| metadata.labels).unwrap_or_default();
    labels.insert(CONTROLLER_REVISION_HASH.to_owned(), hash.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", set.name())),
            namespace: set.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: set.metadata.annotations.clone(),
            owner_references: Some(vec![controller_reference(set)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(snapshot(set))),
        revision: number,
    }
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
