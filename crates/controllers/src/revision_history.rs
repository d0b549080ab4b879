//! What revisions of workloads keep, and in which order they come.
//!
//! Source: kubernetes pkg/controller/history/controller_history.go, pkg/controller/{daemon,statefulset} (`getPatch`).

use daruma_api::apps::v1::ControllerRevision;
use daruma_api::core::v1::PodTemplateSpec;
use daruma_api::k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use daruma_api::k8s_openapi::{Metadata, Resource};
use daruma_api::meta::{ObjectExt, controller_reference};
use daruma_api::metav1::ObjectMeta;
use serde_json::{Map, Value};

/// Longest part of the owner's name in a revision's name.
const PREFIX: usize = 223;

/// What a revision keeps: the template, as a patch that replaces it.
pub fn snapshot(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    if let Some(fields) = template.as_object_mut() {
        fields.insert("$patch".to_owned(), Value::from("replace"));
    }
    let within = |name: &str, value| Value::Object(Map::from_iter([(name.to_owned(), value)]));
    within("spec", within("template", template))
}

/// The template that a revision keeps; `None` where it keeps something else.
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// Whether a revision keeps this snapshot.
pub fn keeps(revision: &ControllerRevision, snapshot: &Value) -> bool {
    revision.data.as_ref().is_some_and(|data| data.0 == *snapshot)
}

/// The highest revision number.
pub fn max_revision<'a>(revisions: impl IntoIterator<Item = &'a ControllerRevision>) -> i64 {
    revisions.into_iter().map(|revision| revision.revision).max().unwrap_or_default()
}

/// Orders revisions from the oldest to the newest.
pub fn sort(revisions: &mut [ControllerRevision]) {
    revisions.sort_by(|a, b| {
        let created = |one: &ControllerRevision| one.metadata.creation_timestamp.as_ref().map(|time| time.0);
        a.revision.cmp(&b.revision).then_with(|| created(a).cmp(&created(b))).then_with(|| a.name().cmp(b.name()))
    });
}

/// A new revision of `owner`, named after `hash`, which goes into the label `hash_label` too.
pub fn new_revision<O>(owner: &O, template: &PodTemplateSpec, hash_label: &str, hash: &str, number: i64) -> ControllerRevision
where
    O: Resource + Metadata<Ty = ObjectMeta>,
{
    let mut labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    labels.insert(hash_label.to_owned(), hash.to_owned());
    let prefix: String = owner.name().chars().take(PREFIX).collect();
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{prefix}-{hash}")),
            namespace: Some(owner.namespace().to_owned()),
            labels: Some(labels),
            annotations: owner.metadata().annotations.clone(),
            owner_references: Some(vec![controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(snapshot(template))),
        revision: number,
    }
}
