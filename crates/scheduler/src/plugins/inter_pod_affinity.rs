//! Pods that want to be near other pods, or far from them
//! (pkg/scheduler/framework/plugins/interpodaffinity).

use std::collections::BTreeMap;

use daruma_api::core::v1::{Pod, PodAffinityTerm, WeightedPodAffinityTerm};
use daruma_api::meta::ObjectExt;
use daruma_api::selector::{Operator, Requirement, Selector};

use super::{Cluster, MAX_SCORE, Namespaces, Plugin, Prepared, Refusal};
use crate::node_info::{NodeInfo, PodInfo};

/// Weight of an existing pod's required affinity to the incoming pod (the default of the plugin's arguments).
const HARD_AFFINITY_WEIGHT: i64 = 1;

/// See the module.
pub struct InterPodAffinity;

/// Sums by topology key and value.
type Pairs = BTreeMap<(String, String), i64>;

/// One term, ready to be matched.
struct Term {
    key: String,
    namespaces: Vec<String>,
    /// Further namespaces, by their labels.
    namespace_selector: Option<Selector>,
    selector: Selector,
    weight: i64,
}

impl Term {
    fn new(term: &PodAffinityTerm, weight: i64, owner: &Pod) -> Self {
        let mut selector = Selector::from_label_selector(term.label_selector.as_ref()).unwrap_or_else(|_| Selector::none());
        let mut add = |keys: &Option<Vec<String>>, operator: Operator| {
            for key in keys.iter().flatten() {
                if let Some(value) = owner.label(key) {
                    selector.requirements.push(Requirement { key: key.clone(), operator, values: vec![value.to_owned()] });
                }
            }
        };
        add(&term.match_label_keys, Operator::In);
        add(&term.mismatch_label_keys, Operator::NotIn);
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(owner.namespace().to_owned());
        }
        // The empty one means all namespaces.
        let namespace_selector = term
            .namespace_selector
            .as_ref()
            .map(|selector| Selector::from_label_selector(Some(selector)).unwrap_or_else(|_| Selector::none()));
        Self { key: term.topology_key.clone(), namespaces, namespace_selector, selector, weight }
    }

    fn matches(&self, pod: &Pod, namespaces: &Namespaces) -> bool {
        let selects = |selector: &Selector| selector.is_everything() || selector.matches(namespaces.get(pod.namespace()));
        (self.namespaces.iter().any(|namespace| namespace == pod.namespace())
            || self.namespace_selector.as_ref().is_some_and(selects))
            && self.selector.matches(pod.metadata.labels.as_ref())
    }
}

fn required(terms: Option<&Vec<PodAffinityTerm>>, owner: &Pod) -> Vec<Term> {
    terms.into_iter().flatten().map(|term| Term::new(term, 0, owner)).collect()
}

fn preferred(terms: Option<&Vec<WeightedPodAffinityTerm>>, sign: i64, owner: &Pod) -> Vec<Term> {
    let one = |term: &WeightedPodAffinityTerm| Term::new(&term.pod_affinity_term, sign * i64::from(term.weight), owner);
    terms.into_iter().flatten().map(one).collect()
}

/// All terms of one pod.
struct Terms {
    affinity: Vec<Term>,
    anti_affinity: Vec<Term>,
    /// Weights are negative for anti-affinity.
    preferred: Vec<Term>,
}

impl Terms {
    fn of(pod: &PodInfo) -> Self {
        let affinity = pod.spec().affinity.as_ref();
        let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
        let far = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        let mut wishes =
            preferred(near.and_then(|one| one.preferred_during_scheduling_ignored_during_execution.as_ref()), 1, &pod.pod);
        wishes.extend(preferred(
            far.and_then(|one| one.preferred_during_scheduling_ignored_during_execution.as_ref()),
            -1,
            &pod.pod,
        ));
        Self {
            affinity: required(near.and_then(|one| one.required_during_scheduling_ignored_during_execution.as_ref()), &pod.pod),
            anti_affinity: required(
                far.and_then(|one| one.required_during_scheduling_ignored_during_execution.as_ref()),
                &pod.pod,
            ),
            preferred: wishes,
        }
    }
}

struct ForPod<'a> {
    pod: &'a PodInfo,
    namespaces: &'a Namespaces,
    terms: Terms,
    /// Where existing pods do not want this pod.
    repelled: Pairs,
    /// Where pods are that meet all required affinity terms, per term.
    near: Pairs,
    /// Where pods are that this pod must avoid, per term.
    far: Pairs,
    /// Sum of wishes, this pod's and those of existing pods.
    wishes: Pairs,
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn looks_around(&self) -> bool {
        true
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, cluster: &'a Cluster<'a>) -> Option<Box<dyn Prepared + 'a>> {
        let terms = Terms::of(pod);
        let mut prepared = ForPod {
            pod,
            namespaces: cluster.namespaces,
            terms,
            repelled: Pairs::new(),
            near: Pairs::new(),
            far: Pairs::new(),
            wishes: Pairs::new(),
        };
        for node in cluster.nodes() {
            let concerned = if pod.has_pod_affinity { &node.pods } else { &node.pods_with_affinity };
            for existing in concerned.values() {
                prepared.count(node, existing);
            }
        }
        let asks = pod.has_pod_affinity || !prepared.repelled.is_empty() || !prepared.wishes.is_empty();
        asks.then(|| Box::new(prepared) as Box<dyn Prepared>)
    }
}

fn add(pairs: &mut Pairs, node: &NodeInfo, key: &str, weight: i64) {
    if let Some(value) = node.label(key) {
        *pairs.entry((key.to_owned(), value.to_owned())).or_default() += weight;
    }
}

fn at(pairs: &Pairs, node: &NodeInfo, key: &str) -> i64 {
    node.label(key).and_then(|value| pairs.get(&(key.to_owned(), value.to_owned()))).copied().unwrap_or(0)
}

impl ForPod<'_> {
    fn count(&mut self, node: &NodeInfo, existing: &PodInfo) {
        if existing.has_pod_affinity {
            let theirs = Terms::of(existing);
            for term in theirs.anti_affinity.iter().filter(|term| term.matches(&self.pod.pod, self.namespaces)) {
                add(&mut self.repelled, node, &term.key, 1);
            }
            for term in theirs.preferred.iter().filter(|term| term.matches(&self.pod.pod, self.namespaces)) {
                add(&mut self.wishes, node, &term.key, term.weight);
            }
            for term in theirs.affinity.iter().filter(|term| term.matches(&self.pod.pod, self.namespaces)) {
                add(&mut self.wishes, node, &term.key, HARD_AFFINITY_WEIGHT);
            }
        }
        if !self.pod.has_pod_affinity {
            return;
        }
        if !self.terms.affinity.is_empty() && self.terms.affinity.iter().all(|term| term.matches(&existing.pod, self.namespaces))
        {
            for term in &self.terms.affinity {
                add(&mut self.near, node, &term.key, 1);
            }
        }
        for term in self.terms.anti_affinity.iter().filter(|term| term.matches(&existing.pod, self.namespaces)) {
            add(&mut self.far, node, &term.key, 1);
        }
        for term in self.terms.preferred.iter().filter(|term| term.matches(&existing.pod, self.namespaces)) {
            add(&mut self.wishes, node, &term.key, term.weight);
        }
    }
}

impl Prepared for ForPod<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Refusal> {
        let affinity = &self.terms.affinity;
        if affinity.iter().any(|term| node.label(&term.key).is_none()) {
            return Err(Refusal::unresolvable("node(s) didn't match pod affinity rules"));
        }
        if affinity.iter().any(|term| at(&self.near, node, &term.key) <= 0) {
            // The first pod of a group that wants to be together meets its own terms.
            let first = self.near.is_empty() && affinity.iter().all(|term| term.matches(&self.pod.pod, self.namespaces));
            if !first {
                return Err(Refusal::unresolvable("node(s) didn't match pod affinity rules"));
            }
        }
        if self.terms.anti_affinity.iter().any(|term| at(&self.far, node, &term.key) > 0) {
            return Err(Refusal::resolvable("node(s) didn't match pod anti-affinity rules"));
        }
        if self.repelled.iter().any(|((key, value), count)| *count > 0 && node.label(key) == Some(value.as_str())) {
            return Err(Refusal::resolvable("node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        Ok(())
    }

    fn score(&self, nodes: &[&NodeInfo]) -> Option<Vec<i64>> {
        if self.wishes.is_empty() {
            return None;
        }
        let sum = |node: &&NodeInfo| -> i64 {
            let here = self.wishes.iter().filter(|((key, value), _)| node.label(key) == Some(value.as_str()));
            here.map(|(_, weight)| *weight).sum()
        };
        let sums: Vec<i64> = nodes.iter().map(sum).collect();
        let (lowest, highest) = (sums.iter().copied().min().unwrap_or(0), sums.iter().copied().max().unwrap_or(0));
        let range = highest - lowest;
        let scaled = |sum: &i64| if range > 0 { (MAX_SCORE as f64 * (sum - lowest) as f64 / range as f64) as i64 } else { 0 };
        Some(sums.iter().map(scaled).collect())
    }
}
