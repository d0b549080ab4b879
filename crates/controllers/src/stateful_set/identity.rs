//! Ordinals, names and labels of a StatefulSet's pods, and pods made from its template.
//!
//! Source: kubernetes pkg/controller/statefulset/stateful_set_utils.go.

use daruma_api::apps::v1::StatefulSet;
use daruma_api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};
use daruma_api::meta::{ObjectExt, controller_reference};
use daruma_api::metav1::ObjectMeta;

use crate::template_hash::CONTROLLER_REVISION_HASH;

/// Label of a pod that carries its name.
pub const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
/// Label of a pod that carries its ordinal.
pub const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The name before the last dash and the number after it.
pub fn parent_and_ordinal(pod: &Pod) -> Option<(&str, i32)> {
    let (parent, digits) = pod.name().rsplit_once('-')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((parent, digits.parse().ok().filter(|_| is_number)?))
}

/// The pod's ordinal; `None` where its name has none.
pub fn ordinal(pod: &Pod) -> Option<i32> {
    parent_and_ordinal(pod).map(|(_, ordinal)| ordinal)
}

/// Whether the pod's name is one that the set gives.
pub fn is_member(set: &StatefulSet, pod: &Pod) -> bool {
    parent_and_ordinal(pod).is_some_and(|(parent, _)| parent == set.name())
}

/// `spec.ordinals.start`.
pub fn start(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.ordinals.as_ref()?.start).unwrap_or_default()
}

/// `spec.replicas`.
pub fn replicas(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// The revision that the pod was made from; empty where it says none.
pub fn revision(pod: &Pod) -> &str {
    pod.label(CONTROLLER_REVISION_HASH).unwrap_or_default()
}

/// Whether name and label agree.
pub fn matches(set: &StatefulSet, pod: &Pod) -> bool {
    is_member(set, pod) && pod.label(POD_NAME) == Some(pod.name())
}

/// The pod with the labels of its identity.
pub fn with_identity(pod: &Pod) -> Pod {
    let mut pod = pod.clone();
    let name = pod.name().to_owned();
    let index = ordinal(&pod).unwrap_or_default();
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.to_owned(), name);
    labels.insert(POD_INDEX.to_owned(), index.to_string());
    pod
}

/// A new pod of the set.
pub fn new_pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let from = template.metadata.clone().unwrap_or_default();
    let name = format!("{}-{ordinal}", set.name());
    let mut labels = from.labels.unwrap_or_default();
    labels.insert(CONTROLLER_REVISION_HASH.to_owned(), revision.to_owned());
    let mut spec = template.spec.clone().unwrap_or_default();
    spec.hostname = Some(name.clone());
    spec.subdomain = set.spec.as_ref().and_then(|spec| spec.service_name.clone()).filter(|service| !service.is_empty());
    let claims = claims(set);
    if !claims.is_empty() {
        let own = spec.volumes.unwrap_or_default().into_iter().filter(|volume| !claims.contains(&volume.name.as_str()));
        let claimed = claims.iter().map(|claim| Volume {
            name: (*claim).to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: format!("{claim}-{name}"),
                read_only: None,
            }),
            ..Volume::default()
        });
        spec.volumes = Some(claimed.chain(own).collect());
    }
    with_identity(&Pod {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(set.namespace().to_owned()),
            labels: Some(labels),
            annotations: from.annotations,
            finalizers: from.finalizers,
            owner_references: Some(vec![controller_reference(set)]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    })
}

/// Names of the set's claim templates.
pub fn claims(set: &StatefulSet) -> Vec<&str> {
    let templates = set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_deref()).unwrap_or_default();
    templates.iter().filter_map(|claim| claim.metadata.name.as_deref()).collect()
}
