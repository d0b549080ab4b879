//! On which nodes a DaemonSet's pods belong, and what such a pod looks like.
//!
//! Source: kubernetes pkg/controller/daemon (daemon_controller.go, util/daemonset_util.go).

use daruma_api::apps::v1::DaemonSet;
use daruma_api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, PodTemplateSpec,
    Toleration,
};
use daruma_api::meta::ObjectExt;
use daruma_api::node_affinity::matches_required;
use daruma_api::taints::{self, NO_EXECUTE, NO_SCHEDULE, tolerated};

use crate::node_taints;
use crate::template_hash::CONTROLLER_REVISION_HASH;

const TEMPLATE_GENERATION: &str = "pod-template-generation";
const DEPRECATED_GENERATION: &str = "deprecated.daemonset.template.generation";

/// Whether a pod belongs on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// A pod should be there.
    pub run: bool,
    /// A pod that is there may stay.
    pub stay: bool,
}

/// Looks at name, selector, affinity and taints; resources are the scheduler's.
pub fn fit(set: &DaemonSet, node: &Node) -> Fit {
    let no = Fit { run: false, stay: false };
    let Some(spec) = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()) else { return no };
    if spec.node_name.as_deref().is_some_and(|name| !name.is_empty() && name != node.name()) || !matches_required(spec, node) {
        return no;
    }
    let yes = Fit { run: true, stay: true };
    let taints = node_taints::taints(node);
    if taints.is_empty() {
        return yes;
    }
    let own = spec.tolerations.as_deref().unwrap_or_default();
    let untolerated = |effects: &[&str]| {
        let relevant = taints.iter().filter(|taint| effects.contains(&taint.effect.as_str()));
        relevant.into_iter().any(|taint| {
            let is_implied = implied(spec).any(|(key, effect)| taint.key == key && taint.effect == effect);
            !is_implied && !tolerated(own, taint)
        })
    };
    if untolerated(&[NO_SCHEDULE, NO_EXECUTE]) {
        return Fit { run: false, stay: !untolerated(&[NO_EXECUTE]) };
    }
    yes
}

/// Key and effect of the taints that every DaemonSet pod tolerates.
fn implied(spec: &PodSpec) -> impl Iterator<Item = (&'static str, &'static str)> {
    let of_the_host = (spec.host_network == Some(true)).then_some((taints::NETWORK_UNAVAILABLE, NO_SCHEDULE));
    [
        (taints::NOT_READY, NO_EXECUTE),
        (taints::UNREACHABLE, NO_EXECUTE),
        (taints::DISK_PRESSURE, NO_SCHEDULE),
        (taints::MEMORY_PRESSURE, NO_SCHEDULE),
        (taints::PID_PRESSURE, NO_SCHEDULE),
        (taints::UNSCHEDULABLE, NO_SCHEDULE),
    ]
    .into_iter()
    .chain(of_the_host)
}

/// The template's tolerations and those that every DaemonSet pod has.
pub fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut all = spec.tolerations.clone().unwrap_or_default();
    for (key, effect) in implied(spec) {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        let same = |one: &Toleration| Toleration { toleration_seconds: None, ..one.clone() } == toleration;
        match all.iter_mut().find(|one| same(one)) {
            Some(one) => *one = toleration,
            None => all.push(toleration),
        }
    }
    all
}

/// The template of the set's pods in the revision `hash`.
pub fn pod_template(set: &DaemonSet, hash: &str) -> PodTemplateSpec {
    let mut template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let spec = template.spec.get_or_insert_default();
    spec.tolerations = Some(tolerations(spec));
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    if let Some(generation) = template_generation(set) {
        labels.insert(TEMPLATE_GENERATION.to_owned(), generation.to_owned());
    }
    labels.insert(CONTROLLER_REVISION_HASH.to_owned(), hash.to_owned());
    template
}

fn template_generation(set: &DaemonSet) -> Option<&str> {
    set.annotation(DEPRECATED_GENERATION).filter(|generation| generation.parse::<i64>().is_ok())
}

/// Whether a pod is of the revision `hash`.
pub fn is_updated(set: &DaemonSet, pod: &Pod, hash: &str) -> bool {
    let generation = template_generation(set);
    (!hash.is_empty() && pod.label(CONTROLLER_REVISION_HASH) == Some(hash))
        || (generation.is_some() && pod.label(TEMPLATE_GENERATION) == generation)
}

/// Ties a pod to one node; the scheduler binds it there.
pub fn pin(spec: &mut PodSpec, node: &str) {
    let term = NodeSelectorTerm {
        match_fields: Some(vec![NodeSelectorRequirement {
            key: "metadata.name".to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![node.to_owned()]),
        }]),
        ..NodeSelectorTerm::default()
    };
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let node_affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    node_affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector { node_selector_terms: vec![term] });
}

/// The node that a pod is bound or tied to.
pub fn target_node(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(name) = spec.node_name.as_deref().filter(|name| !name.is_empty()) {
        return Some(name);
    }
    let required =
        spec.affinity.as_ref()?.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()?;
    let mut fields = required.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let field = fields.find(|field| field.key == "metadata.name" && field.operator == "In")?;
    match field.values.as_deref()? {
        [only] => Some(only),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use daruma_api::apps::v1::DaemonSetSpec;
    use daruma_api::core::v1::NodeSpec;
    use daruma_api::metav1::ObjectMeta;

    pub(crate) fn node(name: &str, node_taints: &[(&str, &str)]) -> Node {
        let taints = node_taints.iter().map(|(key, effect)| node_taints::taint(key, effect)).collect();
        Node {
            metadata: ObjectMeta { name: Some(name.to_owned()), uid: Some(format!("uid-{name}")), ..ObjectMeta::default() },
            spec: Some(NodeSpec { taints: Some(taints), ..NodeSpec::default() }),
            status: None,
        }
    }

    #[track_caller]
    fn check(node_taints: &[(&str, &str)], run: bool, stay: bool) {
        let template = PodTemplateSpec { spec: Some(PodSpec::default()), ..PodTemplateSpec::default() };
        let set = DaemonSet { spec: Some(DaemonSetSpec { template, ..DaemonSetSpec::default() }), ..DaemonSet::default() };
        assert_eq!(fit(&set, &node("n", node_taints)), Fit { run, stay });
    }

    #[test]
    fn taints_decide() {
        check(&[], true, true);
        check(&[(taints::NOT_READY, NO_EXECUTE), (taints::UNREACHABLE, NO_EXECUTE)], true, true);
        check(&[(taints::UNSCHEDULABLE, NO_SCHEDULE)], true, true);
        check(&[(taints::NETWORK_UNAVAILABLE, NO_SCHEDULE)], false, true);
        check(&[("mine", NO_SCHEDULE)], false, true);
        check(&[("mine", NO_EXECUTE)], false, false);
    }

    #[test]
    fn a_pinned_pod_knows_its_node() {
        let mut pod = Pod { spec: Some(PodSpec::default()), ..Pod::default() };
        assert_eq!(target_node(&pod), None);
        pin(pod.spec.as_mut().expect("set"), "n");
        assert_eq!(target_node(&pod), Some("n"));
        assert!(matches_required(pod.spec.as_ref().expect("set"), &node("n", &[])));
        assert!(!matches_required(pod.spec.as_ref().expect("set"), &node("m", &[])));
    }
}
