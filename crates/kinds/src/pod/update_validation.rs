//! What may change in a pod.
//!
//! Source: kubernetes `ValidatePodUpdate`, `ValidatePodStatusUpdate`, `ValidateContainerStateTransition`.

use serde_json::Value;

use crate::access::{at, entries, get, integer, keep, list, list_mut, number, same, set, text};
use crate::field::{Errors, Path, Shown};
use crate::{addresses, names};

use super::placement_validation;
use super::spec_validation::MIRROR;

const CHANGEABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A change of the pod itself.
pub(super) fn pod(errors: &mut Errors, new: &Value, old: &Value) {
    mirror_annotation(errors, new, old);
    let root = Path::Root("spec");
    let (new_spec, old_spec) = (get(new, "spec"), get(old, "spec"));
    for key in ["containers", "initContainers"] {
        let (now, before, path) = (list(new_spec, key), list(old_spec, key), root.child(key));
        if now.len() != before.len() {
            errors.forbidden(&path, "pod updates may not add or remove containers");
            return;
        }
    }
    let deadline_path = root.child("activeDeadlineSeconds");
    match (integer(new_spec, "activeDeadlineSeconds"), integer(old_spec, "activeDeadlineSeconds")) {
        (Some(now), before) => {
            if let Some(wrong) = names::in_range(now, 0, i64::from(i32::MAX)) {
                errors.invalid(&deadline_path, now, wrong);
                return;
            }
            if before.is_some_and(|before| before < now) {
                errors.invalid(&deadline_path, now, "must be less than or equal to previous value");
                return;
            }
        }
        (None, Some(_)) => {
            errors.invalid(&deadline_path, Shown::raw("null"), "must not update from a positive integer to nil value");
        }
        (None, None) => {}
    }
    let tolerations_path = root.child("tolerations");
    let now = list(new_spec, "tolerations");
    let kept = |old: &Value| {
        now.iter().any(|new| ["key", "operator", "value", "effect"].iter().all(|key| text(new, key) == text(old, key)))
    };
    if list(old_spec, "tolerations").iter().all(kept) {
        placement_validation::tolerations(errors, &tolerations_path, now);
    } else {
        errors.forbidden(&tolerations_path, "existing toleration can not be modified except its tolerationSeconds");
    }
    let gates = list(old_spec, "schedulingGates");
    for (index, gate) in list(new_spec, "schedulingGates").iter().enumerate() {
        let name = text(gate, "name");
        if !gates.iter().any(|old| text(old, "name") == name) {
            let text = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&root.child("schedulingGates").index(index).child("name"), text);
        }
    }
    if same(new_spec, old_spec) {
        return;
    }
    let mut allowed = new_spec.clone();
    for key in ["containers", "initContainers"] {
        for (now, before) in list_mut(&mut allowed, key).iter_mut().zip(list(old_spec, key)) {
            keep(now, before, "image");
        }
    }
    for key in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        keep(&mut allowed, old_spec, key);
    }
    if integer(old_spec, "terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0)
        && integer(&allowed, "terminationGracePeriodSeconds") == Some(1)
    {
        keep(&mut allowed, old_spec, "terminationGracePeriodSeconds");
    }
    if !gates.is_empty() {
        node_choice_of_gated(errors, &mut allowed, old_spec);
    }
    if !same(&allowed, old_spec) {
        let difference = difference(old_spec, &allowed);
        errors.forbidden(&root, format!("pod updates may not change fields other than {CHANGEABLE}\n{difference}"));
    }
}

/// A pod that waits for scheduling gates may have its choice of nodes narrowed.
fn node_choice_of_gated(errors: &mut Errors, allowed: &mut Value, old_spec: &Value) {
    let shrunk = entries(old_spec, "nodeSelector").any(|(key, value)| get(get(allowed, "nodeSelector"), key) != value);
    if shrunk {
        let root = Path::Root("spec");
        errors.invalid(
            &root.child("nodeSelector"),
            get(allowed, "nodeSelector"),
            "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
        );
    }
    keep(allowed, old_spec, "nodeSelector");
    let (required, terms) = ("requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms");
    let before = list(at(old_spec, &["affinity", "nodeAffinity", required]), terms);
    let now = list(at(allowed, &["affinity", "nodeAffinity", required]), terms);
    let root = Path::Root("spec.affinity.nodeAffinity");
    let path = root.child(required);
    let path = path.child(terms);
    if !before.is_empty() && before.len() != now.len() {
        let text = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.invalid(&path, &Value::from(now.to_vec()), text);
    } else {
        for (index, (old, new)) in before.iter().zip(now).enumerate() {
            if !has_only_additions(new, old) {
                errors.invalid(&path.index(index), new, "only additions are allowed (no mutations or deletions)");
            }
        }
    }
    let kept = at(old_spec, &["affinity", "nodeAffinity"]).clone();
    match (kept, get(old_spec, "affinity").is_null()) {
        (Value::Null, no_affinity) => {
            if let Some(affinity) = crate::access::object_mut(allowed, "affinity") {
                affinity.remove("nodeAffinity");
                if affinity.is_empty() && no_affinity {
                    crate::access::remove(allowed, "affinity");
                }
            }
        }
        (kept, _) => set(crate::access::ensure(allowed, "affinity"), "nodeAffinity", kept),
    }
}

/// Whether a node selector term begins with all that it was. An empty term selects nothing and stays empty.
fn has_only_additions(new: &Value, old: &Value) -> bool {
    let keys = ["matchExpressions", "matchFields"];
    if keys.iter().all(|key| list(old, key).is_empty()) && keys.iter().any(|key| !list(new, key).is_empty()) {
        return false;
    }
    keys.iter().all(|key| list(new, key).starts_with(list(old, key)))
}

/// The members that differ, old with `-`, new with `+`.
fn difference(old: &Value, new: &Value) -> String {
    let mut lines = String::new();
    let keys = |value: &Value| value.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let mut all = keys(old);
    all.extend(keys(new));
    all.sort();
    all.dedup();
    for key in all {
        let (before, now) = (get(old, &key), get(new, &key));
        if !same(before, now) {
            for (sign, value) in [('-', before), ('+', now)] {
                if !value.is_null() {
                    lines.extend([String::from(sign), format!(" {key}: {value}\n")]);
                }
            }
        }
    }
    lines
}

fn mirror_annotation(errors: &mut Errors, new: &Value, old: &Value) {
    let path = Path::Root("metadata.annotations");
    let (now, before) = (at(new, &["metadata", "annotations", MIRROR]), at(old, &["metadata", "annotations", MIRROR]));
    if before.is_null() && !now.is_null() {
        errors.forbidden(&path.key(MIRROR), "may not add mirror pod annotation");
    } else if before != now {
        errors.forbidden(&path.key(MIRROR), "may not remove or update mirror pod annotation");
    }
}

/// A change of the status.
pub(super) fn status(errors: &mut Errors, new: &Value, old: &Value) {
    mirror_annotation(errors, new, old);
    let root = Path::Root("status");
    let (now, before) = (get(new, "status"), get(old, "status"));
    let conditions = root.child("conditions");
    for (index, condition) in list(now, "conditions").iter().enumerate() {
        let path = conditions.index(index);
        let generation = number(condition, "observedGeneration");
        if generation < 0 {
            errors.invalid(&path.child("observedGeneration"), generation, "must be a non-negative integer");
        }
        let kind = text(condition, "type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            errors.all_invalid(&path.child("Type"), kind, names::qualified_name(kind));
        }
    }
    let nominated = text(now, "nominatedNodeName");
    if nominated != text(before, "nominatedNodeName") && !nominated.is_empty() {
        errors.all_invalid(&root.child("nominatedNodeName"), nominated, names::dns_subdomain(nominated));
        if !text(get(old, "spec"), "nodeName").is_empty() {
            errors.forbidden(&root.child("nominatedNodeName"), "may not be set on pods that are already bound to a node");
        }
    }
    let generation = number(now, "observedGeneration");
    if generation < 0 {
        errors.invalid(&root.child("observedGeneration"), generation, "must be a non-negative integer");
    }
    errors.immutable(&root.child("qosClass"), get(now, "qosClass"), get(before, "qosClass"));
    for key in ["containerStatuses", "initContainerStatuses"] {
        transitions(errors, &root.child(key), list(now, key), list(before, key), get(old, "spec"));
    }
    for key in ["podIPs", "hostIPs"] {
        let path = root.child(key);
        for (index, address) in list(now, key).iter().enumerate() {
            addresses::validate(errors, &path.index(index), text(address, "ip"));
        }
    }
}

/// A dead container that must not be started anew stays dead.
fn transitions(errors: &mut Errors, path: &Path<'_>, now: &[Value], before: &[Value], spec: &Value) {
    let pod_policy = text(spec, "restartPolicy");
    for (index, old) in before.iter().enumerate() {
        let (name, terminated) = (text(old, "name"), at(old, &["state", "terminated"]));
        if terminated.is_null() {
            continue;
        }
        let container = list(spec, "containers").iter().chain(list(spec, "initContainers")).find(|one| text(one, "name") == name);
        let own = container.map(|one| text(one, "restartPolicy")).unwrap_or_default();
        let ruled = container.is_some_and(|one| !list(one, "restartPolicyRules").is_empty());
        let may_restart = ruled
            || match if own.is_empty() { pod_policy } else { own } {
                "Always" => true,
                "OnFailure" => number(terminated, "exitCode") != 0,
                _ => false,
            };
        let revived = now.iter().any(|new| text(new, "name") == name && at(new, &["state", "terminated"]).is_null());
        if revived && !may_restart {
            errors.forbidden(&path.index(index).child("state"), "may not be transitioned to non-terminated state");
        }
    }
}
