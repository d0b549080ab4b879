//! Spreads pods over nodes, zones and other parts of the cluster
//! (pkg/scheduler/framework/plugins/podtopologyspread).

use std::collections::BTreeMap;

use daruma_api::core::v1::{Taint, TopologySpreadConstraint};
use daruma_api::meta::ObjectExt;
use daruma_api::node_affinity::matches_required;
use daruma_api::selector::{Operator, Requirement, Selector};
use daruma_api::taints::{NO_EXECUTE, NO_SCHEDULE, tolerated};

use super::{Cluster, MAX_SCORE, Plugin, Prepared, Refusal};
use crate::node_info::{NodeInfo, PodInfo, Question};

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
const MISMATCH: &str = "node(s) didn't match pod topology spread constraints";
const MISSING_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";

/// See the module.
pub struct PodTopologySpread;

struct Constraint {
    key: String,
    max_skew: i64,
    min_domains: i64,
    selector: Selector,
    /// Whether only nodes that the pod's node affinity allows are counted.
    honor_affinity: bool,
    /// Whether only nodes whose taints the pod tolerates are counted.
    honor_taints: bool,
}

struct ForPod<'a> {
    pod: &'a PodInfo,
    cluster: &'a Cluster<'a>,
    hard: Vec<(Constraint, BTreeMap<String, i64>)>,
    soft: Vec<Constraint>,
    /// Whether nodes without one of the labels are left out of scoring; not with the default constraints.
    require_all: bool,
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn looks_around(&self) -> bool {
        true
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, cluster: &'a Cluster<'a>) -> Option<Box<dyn Prepared + 'a>> {
        let own = pod.spec().topology_spread_constraints.as_deref().unwrap_or_default();
        let (mut hard, mut soft) = (Vec::new(), Vec::new());
        for constraint in own {
            let parsed = parse(constraint, pod);
            if constraint.when_unsatisfiable == "DoNotSchedule" { hard.push(parsed) } else { soft.push(parsed) }
        }
        if own.is_empty() {
            soft = defaults(cluster);
        }
        if hard.is_empty() && soft.is_empty() {
            return None;
        }
        let counted = count_hard(&hard, pod, cluster);
        let hard = hard.into_iter().zip(counted).collect();
        Some(Box::new(ForPod { pod, cluster, hard, soft, require_all: !own.is_empty() }))
    }
}

/// The constraints of the default configuration, for pods of a service or an owner.
fn defaults(cluster: &Cluster<'_>) -> Vec<Constraint> {
    let Some(selector) = cluster.default_selector else { return Vec::new() };
    [(HOSTNAME, 3), (ZONE, 5)]
        .map(|(key, max_skew)| Constraint {
            key: key.into(),
            max_skew,
            min_domains: 1,
            selector: selector.clone(),
            honor_affinity: true,
            honor_taints: false,
        })
        .into()
}

fn parse(constraint: &TopologySpreadConstraint, pod: &PodInfo) -> Constraint {
    let mut selector = Selector::from_label_selector(constraint.label_selector.as_ref()).unwrap_or_else(|_| Selector::none());
    for key in constraint.match_label_keys.iter().flatten() {
        if let Some(value) = pod.pod.label(key) {
            selector.requirements.push(Requirement { key: key.clone(), operator: Operator::In, values: vec![value.into()] });
        }
    }
    Constraint {
        key: constraint.topology_key.clone(),
        max_skew: i64::from(constraint.max_skew),
        min_domains: i64::from(constraint.min_domains.unwrap_or(1)),
        selector,
        honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
        honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
    }
}

/// Whether the pods of `node` count for the constraint.
fn included(constraint: &Constraint, pod: &PodInfo, node: &NodeInfo) -> bool {
    let Some(object) = &node.node else { return false };
    if constraint.honor_affinity && !matches_required(pod.spec(), object) {
        return false;
    }
    if constraint.honor_taints {
        let taints = object.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let hard = |taint: &&Taint| taint.effect == NO_SCHEDULE || taint.effect == NO_EXECUTE;
        let tolerations = pod.spec().tolerations.as_deref().unwrap_or_default();
        return taints.iter().filter(hard).all(|taint| tolerated(tolerations, taint));
    }
    true
}

fn matching_pods(node: &NodeInfo, question: &Question<'_>) -> i64 {
    node.label_groups.iter().filter(|group| group.alike.answers(question)).map(|group| group.count).sum()
}

fn count_hard(constraints: &[Constraint], pod: &PodInfo, cluster: &Cluster<'_>) -> Vec<BTreeMap<String, i64>> {
    let mut counts = vec![BTreeMap::new(); constraints.len()];
    if constraints.is_empty() {
        return counts;
    }
    let namespace = pod.pod.namespace();
    let questions: Vec<Question<'_>> =
        constraints.iter().map(|constraint| Question::new(namespace, &constraint.selector)).collect();
    for node in cluster.nodes() {
        if constraints.iter().any(|constraint| node.label(&constraint.key).is_none()) {
            continue;
        }
        for ((constraint, counts), question) in constraints.iter().zip(&mut counts).zip(&questions) {
            if let Some(value) = node.label(&constraint.key)
                && included(constraint, pod, node)
            {
                *counts.entry(value.to_owned()).or_default() += matching_pods(node, question);
            }
        }
    }
    counts
}

impl Prepared for ForPod<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Refusal> {
        for (constraint, counts) in &self.hard {
            let Some(value) = node.label(&constraint.key) else { return Err(Refusal::unresolvable(MISSING_LABEL)) };
            let lowest = counts.values().copied().min().unwrap_or(0);
            let lowest = if (counts.len() as i64) < constraint.min_domains { 0 } else { lowest };
            let own = i64::from(constraint.selector.matches(self.pod.pod.metadata.labels.as_ref()));
            let here = counts.get(value).copied().unwrap_or(0);
            if here + own - lowest > constraint.max_skew {
                return Err(Refusal::resolvable(MISMATCH));
            }
        }
        Ok(())
    }

    fn score(&self, nodes: &[&NodeInfo]) -> Option<Vec<i64>> {
        if self.soft.is_empty() {
            return None;
        }
        // A node's value of each constraint's key.
        let values: Vec<Vec<Option<&str>>> =
            self.soft.iter().map(|constraint| nodes.iter().map(|node| node.label(&constraint.key)).collect()).collect();
        let ignored: Vec<bool> =
            (0..nodes.len()).map(|index| self.require_all && values.iter().any(|of| of[index].is_none())).collect();
        let kept = ignored.iter().filter(|ignored| !**ignored).count();
        let mut scores = vec![0.0; nodes.len()];
        for (constraint, values) in self.soft.iter().zip(&values) {
            let candidates = || values.iter().enumerate().filter(|(index, _)| !ignored[*index]);
            let counts = self.count_soft(constraint, candidates().map(|(_, value)| value.unwrap_or_default()));
            let question = self.ask(constraint);
            let domains = if constraint.key == HOSTNAME { kept } else { counts.len() };
            let weight = ((domains + 2) as f64).ln();
            for (index, value) in candidates() {
                let Some(value) = *value else { continue };
                let count = if constraint.key == HOSTNAME {
                    matching_pods(nodes[index], &question)
                } else {
                    counts.get(value).copied().unwrap_or(0)
                };
                scores[index] += count as f64 * weight + (constraint.max_skew - 1) as f64;
            }
        }
        let scores: Vec<i64> = scores.into_iter().map(|score: f64| score.round() as i64).collect();
        let counted = || scores.iter().zip(&ignored).filter(|(_, ignored)| !**ignored).map(|(score, _)| *score);
        let (lowest, highest) = (counted().min().unwrap_or(0), counted().max().unwrap_or(0));
        let normalized = scores.iter().zip(&ignored).map(|(score, ignored)| {
            if *ignored {
                0
            } else if highest == 0 {
                MAX_SCORE
            } else {
                MAX_SCORE * (highest + lowest - score) / highest
            }
        });
        Some(normalized.collect())
    }
}

impl ForPod<'_> {
    fn ask<'b>(&'b self, constraint: &'b Constraint) -> Question<'b> {
        Question::new(self.pod.pod.namespace(), &constraint.selector)
    }

    /// Matching pods by value of the constraint's key, for the values that the candidates have.
    fn count_soft<'n>(&self, constraint: &Constraint, candidates: impl Iterator<Item = &'n str>) -> BTreeMap<&'n str, i64> {
        let mut counts = BTreeMap::new();
        if constraint.key == HOSTNAME {
            return counts;
        }
        for value in candidates {
            counts.entry(value).or_insert(0);
        }
        let has_all = |node: &NodeInfo| self.soft.iter().all(|one| node.label(&one.key).is_some());
        // Scores are about the cluster as it is, and only nodes that have such pods count.
        debug_assert!(self.cluster.changed.is_none(), "only filters are asked about nodes as they would be");
        for (kind, node) in self.cluster.cache.holders(self.pod.pod.namespace(), &constraint.selector) {
            if (self.require_all && !has_all(node)) || !included(constraint, self.pod, node) {
                continue;
            }
            if let Some(count) = counts.get_mut(node.label(&constraint.key).unwrap_or_default()) {
                *count += node.count_of(kind);
            }
        }
        counts
    }
}
