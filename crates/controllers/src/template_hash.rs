//! The hash of a pod template that names ReplicaSets and ControllerRevisions.
//!
//! Source of the form: kubernetes pkg/controller/controller_utils.go `ComputeHash`. The real hash runs
//! over a print of Go's structures, so its values cannot be had; ours runs over canonical JSON.

use daruma_api::core::v1::PodTemplateSpec;
use daruma_api::metav1::ObjectMeta;
use daruma_client::names::safe_encode;
use serde_json::Value;

/// Label of a ReplicaSet and its pods that carries the hash.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
/// Label of a ControllerRevision and its pods that carries the hash.
pub const CONTROLLER_REVISION_HASH: &str = "controller-revision-hash";

/// 32-bit FNV-1a of the template's canonical JSON and the collision count, in safe letters.
pub fn template_hash(template: &PodTemplateSpec, collision_count: Option<i32>) -> String {
    let canonical = canonical(template).to_string();
    let mut hash = fnv1a(0x811c_9dc5, canonical.as_bytes());
    if let Some(count) = collision_count {
        let mut bytes = [0u8; 8];
        bytes[..4].copy_from_slice(&count.to_le_bytes());
        hash = fnv1a(hash, &bytes);
    }
    safe_encode(&hash.to_string())
}

/// Whether two templates are the same but for their hash label. Missing and empty are one.
pub fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    is_copy(a, b) || canonical(a) == canonical(b)
}

/// Whether one was made from the other by adding the hash label, which is the usual case.
fn is_copy(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    fn labels(metadata: &ObjectMeta) -> impl Iterator<Item = (&String, &String)> {
        metadata.labels.iter().flatten().filter(|(key, _)| *key != POD_TEMPLATE_HASH)
    }
    let none = ObjectMeta::default();
    let own = a.metadata.as_ref().unwrap_or(&none);
    let other = b.metadata.as_ref().unwrap_or(&none);
    a.spec == b.spec && labels(own).eq(labels(other)) && are_alike_but_for_labels(own, other)
}

fn are_alike_but_for_labels(a: &ObjectMeta, b: &ObjectMeta) -> bool {
    let ObjectMeta {
        annotations,
        creation_timestamp,
        deletion_grace_period_seconds,
        deletion_timestamp,
        finalizers,
        generate_name,
        generation,
        labels: _,
        managed_fields,
        name,
        namespace,
        owner_references,
        resource_version,
        self_link,
        uid,
    } = a;
    *annotations == b.annotations
        && *creation_timestamp == b.creation_timestamp
        && *deletion_grace_period_seconds == b.deletion_grace_period_seconds
        && *deletion_timestamp == b.deletion_timestamp
        && *finalizers == b.finalizers
        && *generate_name == b.generate_name
        && *generation == b.generation
        && *managed_fields == b.managed_fields
        && *name == b.name
        && *namespace == b.namespace
        && *owner_references == b.owner_references
        && *resource_version == b.resource_version
        && *self_link == b.self_link
        && *uid == b.uid
}

/// The template as JSON with sorted keys, without the hash label and without anything empty.
fn canonical(template: &PodTemplateSpec) -> Value {
    let mut value = serde_json::to_value(template).unwrap_or_default();
    if let Some(labels) = value.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(POD_TEMPLATE_HASH);
    }
    prune(&mut value);
    value
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for field in fields.values_mut() {
                prune(field);
            }
            fields.retain(|_, field| match field {
                Value::Null => false,
                Value::Array(items) => !items.is_empty(),
                _ => true,
            });
            // Empty objects can mean something (`emptyDir: {}`); only the labels' map cannot.
            let empty = |field: Option<&Value>| field.and_then(Value::as_object).is_some_and(serde_json::Map::is_empty);
            for name in ["labels", "annotations", "nodeSelector"] {
                if empty(fields.get(name)) {
                    fields.remove(name);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn fnv1a(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;
    use daruma_api::core::v1::{Container, PodSpec};
    use std::collections::BTreeMap;

    fn template(image: &str, hash: Option<&str>) -> PodTemplateSpec {
        let mut labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        labels.extend(hash.map(|hash| (POD_TEMPLATE_HASH.to_owned(), hash.to_owned())));
        let container = Container { name: "c".to_owned(), image: Some(image.to_owned()), ..Container::default() };
        PodTemplateSpec {
            metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
            spec: Some(PodSpec { containers: vec![container], ..PodSpec::default() }),
        }
    }

    #[test]
    fn hash_follows_content_and_collisions() {
        let hash = template_hash(&template("a:1", None), None);
        assert!((1..=10).contains(&hash.len()), "{hash}");
        assert_eq!(hash, template_hash(&template("a:1", None), None));
        assert_ne!(hash, template_hash(&template("a:2", None), None));
        assert_ne!(hash, template_hash(&template("a:1", None), Some(1)));
        assert!(same_template(&template("a:1", None), &template("a:1", Some("x"))));
        assert!(!same_template(&template("a:1", None), &template("a:2", Some("x"))));
    }

    #[test]
    fn fnv_is_the_known_function() {
        assert_eq!(fnv1a(0x811c_9dc5, b"foobar"), 0xbf9c_f968);
    }
}
