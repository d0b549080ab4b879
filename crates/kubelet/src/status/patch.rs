//! The strategic merge patch from one pod status to another.
//!
//! Merge keys: kubernetes staging/src/k8s.io/api/core/v1/types.go (conditions by type, podIPs and hostIPs by ip;
//! the lists of container statuses are replaced as a whole).

use daruma_api::core::v1::{PodCondition, PodStatus};
use serde_json::{Map, Value, json};

/// The patch document, or `None` where nothing that the kubelet owns differs.
pub fn status_patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let (old, new) = differing(old, new)?;
    let (Ok(Value::Object(mut before)), Ok(Value::Object(mut after))) = (serde_json::to_value(old), serde_json::to_value(new))
    else {
        return None;
    };
    let mut status = Map::new();
    for (field, key) in [("conditions", "type"), ("podIPs", "ip"), ("hostIPs", "ip")] {
        let (was, is) = (list(before.remove(field)), list(after.remove(field)));
        let order: Vec<Value> = is.iter().map(|item| json!({key: item[key]})).collect();
        // Conditions of others stay; addresses that are gone go.
        let may_go = if field == "conditions" { &[][..] } else { &was };
        let gone = may_go.iter().filter(|item| !is.iter().any(|other| other[key] == item[key]));
        let gone: Vec<Value> = gone.map(|item| json!({"$patch": "delete", "ip": item["ip"]})).collect();
        let differing = is.into_iter().filter(|item| !was.contains(item));
        let changed: Vec<Value> = differing.map(|item| with_removals(item, &was, key)).chain(gone).collect();
        if !changed.is_empty() {
            status.insert(format!("$setElementOrder/{field}"), Value::Array(order));
            status.insert(field.into(), Value::Array(changed));
        }
    }
    // Not the kubelet's.
    for field in
        ["resourceClaimStatuses", "extendedResourceClaimStatus", "nodeAllocatableResourceClaimStatuses", "nominatedNodeName"]
    {
        before.remove(field);
        after.remove(field);
    }
    let gone: Vec<String> = before.keys().filter(|field| !after.contains_key(*field)).cloned().collect();
    status.extend(after.into_iter().filter(|(field, value)| before.get(field) != Some(value)));
    status.extend(gone.into_iter().map(|field| (field, Value::Null)));
    if status.is_empty() {
        return None;
    }
    let mut patch = Map::new();
    patch.insert("metadata".to_owned(), json!({"uid": uid}));
    patch.insert("status".to_owned(), Value::Object(status));
    Some(Value::Object(patch))
}

/// Both with nothing but the fields in which they differ; `None` where they do not.
fn differing(old: &PodStatus, new: &PodStatus) -> Option<(PodStatus, PodStatus)> {
    let (mut before, mut after) = (PodStatus::default(), PodStatus::default());
    let mut differ = false;
    macro_rules! compare {
        ($($field:ident),* $(,)?) => {
            // Every field is named, or this does not compile.
            let PodStatus { $($field: _),* } = old;
            $(if old.$field != new.$field {
                differ = true;
                before.$field.clone_from(&old.$field);
                after.$field.clone_from(&new.$field);
            })*
        };
    }
    compare!(
        allocated_resources,
        conditions,
        container_statuses,
        ephemeral_container_statuses,
        extended_resource_claim_status,
        host_ip,
        host_ips,
        init_container_statuses,
        message,
        node_allocatable_resource_claim_statuses,
        nominated_node_name,
        observed_generation,
        phase,
        pod_ip,
        pod_ips,
        qos_class,
        reason,
        resize,
        resource_claim_statuses,
        resources,
        start_time,
    );
    differ.then_some((before, after))
}

/// An item of a merged list, with `null` for what its former self had and it has not.
fn with_removals(mut item: Value, was: &[Value], key: &str) -> Value {
    let former = was.iter().find(|former| former[key] == item[key]).and_then(Value::as_object);
    if let (Some(fields), Some(former)) = (item.as_object_mut(), former) {
        for field in former.keys() {
            fields.entry(field.as_str()).or_insert(Value::Null);
        }
    }
    item
}

fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

/// Puts conditions of others, as the API has them now, into a status that was made from an older object.
pub fn keep_foreign_conditions(api: &PodStatus, status: &mut PodStatus) {
    let foreign = |condition: &&PodCondition| {
        !super::conditions::OWNED.contains(&condition.type_.as_str()) && condition.type_ != "DisruptionTarget"
    };
    let theirs: Vec<PodCondition> = api.conditions.iter().flatten().filter(foreign).cloned().collect();
    let list = status.conditions.get_or_insert_default();
    list.retain(|condition| !foreign(&condition));
    list.splice(0..0, theirs);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> PodStatus {
        serde_yaml_ng::from_str(text).expect("a status")
    }

    #[track_caller]
    fn check(old: &str, new: &str, expected: Value) {
        let patch = status_patch("u", &status(old), &status(new));
        assert_eq!(patch.map_or(Value::Null, |patch| patch["status"].clone()), expected, "{old} to {new}");
    }

    #[test]
    fn patches() {
        check("{phase: Running}", "{phase: Running}", Value::Null);
        check("{phase: Pending, reason: x}", "{phase: Running}", json!({"phase": "Running", "reason": null}));
        check(
            "{podIP: 1.1.1.1, podIPs: [{ip: 1.1.1.1}]}",
            "{podIP: 1.1.1.2, podIPs: [{ip: 1.1.1.2}]}",
            json!({"podIP": "1.1.1.2", "$setElementOrder/podIPs": [{"ip": "1.1.1.2"}],
                   "podIPs": [{"ip": "1.1.1.2"}, {"$patch": "delete", "ip": "1.1.1.1"}]}),
        );
        check(
            "{conditions: [{type: A, status: 'True'}, {type: Ready, status: 'True'}]}",
            "{conditions: [{type: A, status: 'True'}, {type: Ready, status: 'False'}]}",
            json!({"$setElementOrder/conditions": [{"type": "A"}, {"type": "Ready"}], "conditions": [{"type": "Ready", "status": "False"}]}),
        );
        check(
            "{conditions: [{type: Ready, status: 'False', reason: R, message: m}]}",
            "{conditions: [{type: Ready, status: 'True'}]}",
            json!({"$setElementOrder/conditions": [{"type": "Ready"}],
                   "conditions": [{"type": "Ready", "status": "True", "reason": null, "message": null}]}),
        );
    }
}
