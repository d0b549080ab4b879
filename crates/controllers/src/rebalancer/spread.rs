//! How the pods of a workload lie over the nodes where they could be. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::{Node, Pod, PodSpec};
use daruma_api::meta::ObjectExt;
use daruma_api::node_affinity::matches_required;
use daruma_api::quantity::Quantity;
use daruma_api::resources::{ResourceList, add, parse_list, pod_requests};
use daruma_api::taints::{NO_EXECUTE, NO_SCHEDULE, tolerated};
use jiff::Timestamp;

use crate::node_lifecycle::health;
use crate::node_taints;
use crate::pods::{self, since};

/// How long a node must have been ready before pods are moved to it.
pub const SETTLED_NODE: Duration = Duration::from_secs(60);
const HOSTNAME: &str = "kubernetes.io/hostname";

/// By which label pods are to be spread, and how uneven they may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Label of the nodes.
    pub key: String,
    /// Largest difference between two of its values.
    pub max_skew: i32,
}

/// The rules of a pod: its own constraints, else an even spread over the nodes. (The scheduler's default
/// constraints only give scores, by which it spreads evenly; their skews of 3 and 5 are not limits.)
pub fn rules(spec: &PodSpec) -> Vec<Rule> {
    let own = spec.topology_spread_constraints.as_deref().unwrap_or_default();
    if own.is_empty() {
        return vec![Rule { key: HOSTNAME.to_owned(), max_skew: 1 }];
    }
    own.iter().map(|one| Rule { key: one.topology_key.clone(), max_skew: one.max_skew.max(1) }).collect()
}

/// Whether a pod of this specification could be put onto the node, resources aside.
pub fn is_eligible(spec: &PodSpec, node: &Node, now: Timestamp) -> bool {
    let ready = health::condition(node, "Ready").filter(|ready| ready.status == "True");
    let settled =
        ready.is_some_and(|ready| ready.last_transition_time.as_ref().is_none_or(|time| since(time.0, now) >= SETTLED_NODE));
    let cordoned = node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true));
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let hard = node_taints::taints(node).iter().filter(|taint| taint.effect == NO_SCHEDULE || taint.effect == NO_EXECUTE);
    settled && !cordoned && matches_required(spec, node) && hard.into_iter().all(|taint| tolerated(tolerations, taint))
}

/// Whether the node has room for one more pod of this specification beside `present`.
pub fn has_room(spec: &PodSpec, node: &Node, present: &[Arc<Pod>]) -> bool {
    let allocatable = parse_list(node.status.as_ref().and_then(|status| status.allocatable.as_ref()));
    let mut used = pod_requests(spec);
    let mut count = 1;
    for pod in present.iter().filter(|pod| !pods::is_terminal(pod)) {
        add(&mut used, &pod.spec.as_ref().map(pod_requests).unwrap_or_default());
        count += 1;
    }
    let fits = |used: &ResourceList| {
        used.iter().all(|(name, amount)| amount.is_zero() || allocatable.get(name).is_some_and(|limit| amount <= limit))
    };
    fits(&used) && allocatable.get("pods").is_none_or(|limit| Quantity::units(count) <= *limit)
}

/// Pods by value of a rule's label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// The rule.
    pub rule: Rule,
    /// How many pods each value has.
    pub counts: BTreeMap<String, i32>,
    /// The value of each eligible node.
    pub domains: BTreeMap<String, String>,
}

impl Spread {
    /// Counts the pods on eligible nodes.
    pub fn of(rule: Rule, eligible: &[&Arc<Node>], pods: &[Arc<Pod>]) -> Self {
        let domain = |node: &Node| match node.label(&rule.key) {
            // Every node has a name, even where nobody labelled it.
            None if rule.key == HOSTNAME => Some(node.name().to_owned()),
            label => label.map(str::to_owned),
        };
        let domains: BTreeMap<String, String> =
            eligible.iter().filter_map(|node| Some((node.name().to_owned(), domain(node)?))).collect();
        let mut counts: BTreeMap<String, i32> = domains.values().map(|value| (value.clone(), 0)).collect();
        for value in pods.iter().filter_map(|pod| domains.get(pods::node_name(pod))) {
            *counts.entry(value.clone()).or_default() += 1;
        }
        Self { rule, counts, domains }
    }

    /// The most crowded value.
    pub fn fullest(&self) -> Option<(&str, i32)> {
        // Of equals the first by name.
        self.counts.iter().rev().max_by_key(|(_, count)| **count).map(|(value, count)| (value.as_str(), *count))
    }

    /// Values to which a pod of the fullest may go, the emptiest first.
    pub fn emptier(&self) -> Vec<(&str, i32)> {
        let Some((_, most)) = self.fullest() else { return Vec::new() };
        let mut values: Vec<(&str, i32)> = self.counts.iter().map(|(value, count)| (value.as_str(), *count)).collect();
        values.retain(|(_, count)| most - count > self.rule.max_skew);
        values.sort_by_key(|(_, count)| *count);
        values
    }

    /// Whether a pod that left `from` has made things more even by landing on `to` (nodes).
    pub fn is_better(&self, from: &str, to: &str) -> bool {
        let count = |node: &str| self.domains.get(node).and_then(|value| self.counts.get(value)).copied();
        match (count(from), count(to)) {
            (Some(from), Some(to)) => to + 1 < from,
            // A node that counted for nothing before is as good as any.
            (_, None) => true,
            (None, _) => false,
        }
    }

    /// Names of the nodes.
    pub fn nodes(&self) -> BTreeSet<String> {
        self.domains.keys().cloned().collect()
    }
}
