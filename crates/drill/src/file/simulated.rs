//! What simulated nodes cannot suffer, found out from the file as far as it says which nodes a step can reach.
//!
//! They run neither kube-proxy nor the network agent, in either world. Beside real machines, moreover, they have no network among
//! them: all that goes over a simulated cable is what a node and the API server say to each other (`docs/simulated-nodes.md`).

use std::collections::{BTreeMap, BTreeSet};

use daruma_api::core::v1::{Node, PodSpec, Taint};
use daruma_api::node_affinity::matches_required;
use daruma_api::selector::Selector;
use daruma_api::simulated::{LABEL, TAINT, is_name as is_simulated};
use daruma_api::taints::{self, tolerated};
use serde::Deserialize;
use serde_json::Value;

use super::{Action, ClusterSpec, Drill, PodRef, Target, ZONE_LABEL};
use crate::faults::Call;
use crate::objects;

/// Whether there is no link between these machines that could be broken beside real machines.
pub(crate) fn no_link_between(from: &BTreeSet<String>, to: &BTreeSet<String>) -> bool {
    let all_simulated = |side: &BTreeSet<String>| side.iter().all(|machine| is_simulated(machine));
    let all_workers = |side: &BTreeSet<String>| side.iter().all(|machine| machine.starts_with("worker-"));
    let either = all_simulated(from) && all_workers(to) || all_workers(from) && all_simulated(to);
    either && !from.is_empty() && !to.is_empty()
}

/// In words, that a fault of links would break nothing.
pub(crate) fn no_link(from: &BTreeSet<String>, to: &BTreeSet<String>) -> String {
    let first = |side: &BTreeSet<String>| side.first().cloned().unwrap_or_default();
    format!("there is no link between {} and {}: a simulated node has one to the API server only", first(from), first(to))
}

/// Why a call cannot be made because what it hurts does not run on simulated nodes: field of the step, and words.
pub(super) fn without_agents(drill: &Drill, call: &Call<'_>) -> Option<(String, String)> {
    if !call.fault.needs_node_agents() {
        return None;
    }
    let (shape, target, name) = (&drill.spec.cluster, call.target, call.fault.name());
    if !shape.node_agents {
        return Some(("fault".to_owned(), format!("{name} runs on no node of this cluster (spec.cluster.nodeAgents)")));
    }
    let named = [("machine", target.machine.as_slice()), ("machines", &target.machines)];
    for (field, machines) in named {
        if let Some(machine) = machines.iter().find(|machine| is_simulated(machine)) {
            return Some((format!("target.{field}"), not_there(name, machine)));
        }
    }
    for field in ["zone", "nodes"] {
        let reached = certain(shape, target).unwrap_or_default();
        let given = if field == "zone" { target.zone.is_some() } else { target.nodes.is_some() };
        if given && let Some(machine) = reached.iter().find(|machine| is_simulated(machine)) {
            return Some((format!("target.{field}"), not_there(name, machine)));
        }
    }
    let pod = target.node_of.as_ref()?;
    let only = only_simulated(drill, pod)?;
    Some(("target.nodeOf".to_owned(), format!("{} ({pod} can be on no other node)", not_there(name, &only))))
}

/// In words, that a fault's program does not run on a machine.
pub(crate) fn not_there(fault: &str, machine: &str) -> String {
    format!("{fault} does not run on {machine}: it is simulated")
}

/// Machines of a target as far as the file tells: by name, by zone, by labels; `None` where only the running cluster knows.
pub(crate) fn certain(shape: &ClusterSpec, target: &Target) -> Option<BTreeSet<String>> {
    if target.node_of.is_some() {
        return None;
    }
    let mut machines: BTreeSet<String> = target.machine.iter().chain(&target.machines).cloned().collect();
    let zone = target.zone.as_ref().map(|zone| format!("{ZONE_LABEL}={zone}"));
    if let Some(selector) = target.nodes.as_ref().or(zone.as_ref()) {
        let selector = Selector::parse(selector).ok()?;
        machines.extend(shape.machines().filter(|machine| selector.matches(Some(&labels(shape, machine)))));
    }
    Some(machines)
}

/// One of the nodes that a pod can be on, where all of those are simulated. The pods of a drill's manifests are known that well.
pub(crate) fn only_simulated(drill: &Drill, pod: &PodRef) -> Option<String> {
    let shape = &drill.spec.cluster;
    let possible: Vec<String> = match &pod.node {
        Some(node) => vec![node.clone()],
        None => {
            let specs = specs(drill, pod);
            shape.machines().filter(|machine| specs.iter().any(|spec| can_be_on(spec, shape, machine))).collect()
        }
    };
    if possible.iter().all(|machine| is_simulated(machine)) { possible.into_iter().next() } else { None }
}

/// What pods that the reference may mean ask for, by the objects in the file.
fn specs(drill: &Drill, pod: &PodRef) -> Vec<PodSpec> {
    let applied = drill.spec.steps.iter().filter_map(|step| match &step.action {
        Action::Apply(objects) => Some(objects.as_slice()),
        _ => None,
    });
    let selector = pod.selector.as_ref().and_then(|selector| Selector::parse(selector).ok());
    let spec = |object: &Value| {
        let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or("default");
        let alone = object["kind"] == "Pod";
        let template = if alone { object } else { object.pointer("/spec/template")? };
        let labels: BTreeMap<String, String> =
            template.pointer("/metadata/labels").and_then(|labels| BTreeMap::deserialize(labels).ok()).unwrap_or_default();
        let meant = match (&pod.name, &selector, &pod.workload) {
            (Some(name), ..) => alone && object.pointer("/metadata/name").and_then(Value::as_str) == Some(name),
            (None, Some(selector), _) => selector.matches(Some(&labels)),
            (None, None, workload) => workload.is_some() && objects::workload_of(object) == *workload,
        };
        (meant && (namespace == pod.namespace || pod.workload.is_some())).then(|| PodSpec::deserialize(&template["spec"]).ok())?
    };
    drill.spec.manifests.iter().chain(applied.flatten()).filter_map(spec).collect()
}

/// Whether the scheduler could place such a pod on a machine of the drill's cluster.
fn can_be_on(spec: &PodSpec, shape: &ClusterSpec, machine: &str) -> bool {
    let node = Node {
        metadata: daruma_api::metav1::ObjectMeta {
            name: Some(machine.to_owned()),
            labels: Some(labels(shape, machine)),
            ..Default::default()
        },
        ..Default::default()
    };
    let (key, value, effect) = if is_simulated(machine) { TAINT } else { (taints::CONTROL_PLANE, "", "NoSchedule") };
    let taint = Taint { key: key.into(), value: Some(value.into()), effect: effect.into(), time_added: None };
    let bound = spec.node_name.as_deref().filter(|name| !name.is_empty());
    bound.is_none_or(|name| name == machine)
        && matches_required(spec, &node)
        && (bound.is_some()
            || machine.starts_with("worker-")
            || tolerated(spec.tolerations.as_deref().unwrap_or_default(), &taint))
}

/// Labels of a node that its machine's place in the cluster and the file give it.
fn labels(shape: &ClusterSpec, machine: &str) -> BTreeMap<String, String> {
    let mut labels = shape.labels_of(machine);
    let (kind, value) = LABEL;
    let known = [("kubernetes.io/hostname", machine), ("kubernetes.io/os", "linux")];
    let marked = is_simulated(machine).then_some((kind, value));
    let role = machine.starts_with("controller-").then_some((taints::CONTROL_PLANE, ""));
    for (key, value) in known.into_iter().chain(marked).chain(role) {
        labels.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use crate::{WorldKind, preflight};

    /// What the reader, and real machines, say of a drill with this step and these lines.
    fn said(cluster: &str, manifests: &str, probes: &str, step: &str) -> String {
        let text = format!(
            "apiVersion: daruma.dev/v1\nkind: Drill\nmetadata: {{name: test}}\nspec:\n  cluster: {{{cluster}}}\n  manifests: \
             [{manifests}]\n  probes: [{probes}]\n  steps:\n  - {step}\n"
        );
        let drill = match parse("test.yaml", &text, &BTreeMap::new(), &|_| Err("there are no files".to_owned())) {
            Ok(drill) => drill,
            Err(errors) => return errors.to_string(),
        };
        let problems = preflight::problems(&drill, WorldKind::Real, &|_| Ok(()));
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    const MIXED: &str = "workers: 2, simulated: 2, zones: [a, b]";

    #[track_caller]
    fn check(found: &str, expected: &str) {
        let fits = if expected.is_empty() { found.is_empty() } else { found.contains(expected) };
        assert!(fits, "{found:?} does not say {expected:?}");
    }

    #[test]
    fn programs_that_do_not_run_there() {
        let proxy = |target: &str| format!("{{fault: kube-proxy, with: {{how: kill}}, target: {{{target}}}}}");
        for (cluster, target, expected) in [
            (MIXED, "machine: worker-1", ""),
            (
                MIXED,
                "machine: simulated-1",
                "test.yaml:9:53: spec.steps[0].target.machine: kube-proxy does not run on simulated-1",
            ),
            (MIXED, "machines: [worker-0, simulated-0]", "target.machines: kube-proxy does not run on simulated-0"),
            (MIXED, "zone: b", "target.zone: kube-proxy does not run on simulated-1: it is simulated"),
            ("zones: [a, b]", "zone: b", ""),
            (MIXED, "nodes: type=simulated", "target.nodes: kube-proxy does not run on simulated-0"),
            (MIXED, "nodes: 'type!=simulated'", ""),
            (MIXED, "nodes: disk=fast", ""),
            (MIXED, "nodeOf: {name: x, node: simulated-0}", "target.nodeOf: kube-proxy does not run on simulated-0"),
            ("nodeAgents: false", "machine: worker-0", "spec.steps[0].fault: kube-proxy runs on no node of this cluster"),
        ] {
            check(&said(cluster, "", "", &proxy(target)), expected);
        }
        check(&said(MIXED, "", "", "{fault: kubelet, with: {how: kill}, target: {machine: simulated-1}}"), "");
        check(
            &said(MIXED, "", "", "{fault: store-full, target: {machine: worker-1}}"),
            "target.machine: store-full is for controllers",
        );
    }

    #[test]
    fn pods_that_can_be_on_simulated_nodes_only() {
        let web = |spec: &str| {
            format!(
                "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web}}, spec: {{template: {{metadata: {{labels: {{app: \
                 web}}}}, spec: {{tolerations: [{{operator: Exists}}], {spec}}}}}}}}}"
            )
        };
        let step = |of: &str| format!("{{fault: network-agent, with: {{how: kill}}, target: {{nodeOf: {{{of}}}}}}}");
        let only = "network-agent does not run on simulated-";
        let affinity = "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: \
                        [{matchExpressions: [{key: type, operator: Exists}]}]}}}";
        for (spec, of, expected) in [
            ("nodeSelector: {type: simulated}", "workload: deployment/web", only),
            ("nodeSelector: {type: simulated}", "selector: app=web", only),
            ("nodeSelector: {type: simulated}", "selector: app=other", ""),
            ("nodeSelector: {type: simulated}", "workload: deployment/other", ""),
            ("nodeSelector: {kubernetes.io/hostname: simulated-1}", "workload: deployment/web", only),
            ("nodeName: simulated-1", "workload: deployment/web", only),
            (affinity, "workload: deployment/web", only),
            ("nodeSelector: {disk: fast}", "workload: deployment/web", ""),
            ("nodeSelector: {}", "workload: deployment/web", ""),
        ] {
            check(&said(MIXED, &web(spec), "", &step(of)), expected);
        }
        // Without workers there is the controller, for those who tolerate it.
        let alone = "workers: 0, simulated: 2";
        check(&said(alone, &web("nodeSelector: {}"), "", &step("workload: deployment/web")), "");
        let few = web("nodeSelector: {}").replace("{operator: Exists}", "{key: daruma.dev/node, operator: Exists}");
        check(&said(alone, &few, "", &step("workload: deployment/web")), only);
        let pod = "{apiVersion: v1, kind: Pod, metadata: {name: one}, spec: {nodeName: simulated-0}}";
        check(&said(MIXED, pod, "", &step("name: one")), only);
        let probe = "{name: one, from: worker-0, http: {to: {pod: {name: one}, port: 80}}}";
        check(&said(MIXED, pod, probe, "note: x"), "spec.probes[0].http.to.pod: nothing answers there");
    }

    #[test]
    fn links_and_probes_that_there_are_not() {
        let cut = |target: &str| format!("{{fault: cut, target: {{{target}}}}}");
        let none = "spec.steps[0].target.to: there is no link between";
        for (target, expected) in [
            ("machine: simulated-1", ""),
            ("machine: simulated-1, to: {machine: controller-0}", ""),
            ("machine: simulated-1, to: {machine: worker-0}", none),
            ("machine: worker-0, to: {nodes: type=simulated}", none),
            ("machines: [worker-1, simulated-0], to: {machine: worker-0}", ""),
            ("zone: a, to: {zone: b}", ""),
            ("machine: worker-0, to: {nodes: disk=fast}", ""),
        ] {
            check(&said(MIXED, "", "", &cut(target)), expected);
        }
        let probe = |rest: &str| said(MIXED, "", &format!("{{name: web, http: {{to: {{service: web{rest}}}}}}}"), "note: x");
        check(&probe(", node: simulated-0"), "spec.probes[0].http.to.node: nothing answers there");
        check(&probe(", node: worker-0"), "");
        check(
            &said(MIXED, "", "{name: d, from: simulated-0, dns: {name: web}}", "note: x"),
            "spec.probes[0].from: a simulated node has no",
        );
    }
}
