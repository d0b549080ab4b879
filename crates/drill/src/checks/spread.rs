//! `spread`: how evenly a workload's pods lie on the nodes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::known::Known;
use super::{Finding, Rule, Workload};
use crate::history::{History, is_finished, is_leaving, workload_of};

/// Parameters of `spread`; `maxSkew`, `exactly` or both.
///
/// Counted are pods that have a node and are neither on their way out nor finished; the nodes are those that could
/// take such a pod (Ready, not cordoned, without NoSchedule or NoExecute taint) and those that have one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spread {
    /// The workload.
    pub workload: Workload,
    /// Most pods by which the fullest node may be ahead of the emptiest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_skew: Option<u64>,
    /// Pods a node must have, by the node's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exactly: BTreeMap<String, u64>,
    /// Looked at when this step begins; at the end when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

impl Rule for Spread {
    const ABOUT: &'static str = "The workload's pods lie on the nodes evenly enough, or exactly as named.";
    const EXAMPLE: &'static str = "spread: {workload: deployment/kubernetes-bootcamp, exactly: {worker-0: 2, worker-1: 2}}";

    fn validate(&self, known: &Known) -> Vec<String> {
        let neither = self.max_skew.is_none() && self.exactly.is_empty();
        let mut complaints: Vec<_> = [
            neither.then(|| "maxSkew or exactly: one of them is needed".to_owned()),
            known.workload("workload", Some(&self.workload)),
            known.step("at", self.at.as_deref()),
        ]
        .into_iter()
        .flatten()
        .collect();
        complaints.extend(self.exactly.keys().filter_map(|node| known.node("exactly", Some(node))));
        complaints
    }

    fn demand(&self) -> String {
        let when = self.at.as_ref().map_or("at the end".to_owned(), |step| format!("at {step}"));
        let mut bounds = Vec::new();
        bounds.extend(self.max_skew.map(|skew| format!("with a skew of at most {skew}")));
        if !self.exactly.is_empty() {
            let nodes: Vec<_> = self.exactly.iter().map(|(node, pods)| format!("{node} {pods}")).collect();
            bounds.push(format!("as {}", nodes.join(", ")));
        }
        format!("{} lies {} {when}", self.workload, bounds.join(" and "))
    }

    fn judge(&self, history: &History<'_>) -> Finding {
        let at = match self.at.as_deref().map_or(Ok(history.end()), |step| history.moment(step)) {
            Ok(at) => at,
            Err(why) => return Finding::broken(why),
        };
        let mut counts = pods_by_node(history, &self.workload.to_string(), at);
        for node in self.exactly.keys() {
            counts.entry(node.clone()).or_insert(0);
        }
        let most = counts.values().copied().max().unwrap_or(0);
        if most == 0 {
            return Finding::broken(format!("{} had no pod on any node", self.workload));
        }
        let skew = most - counts.values().copied().min().unwrap_or(0);
        let held = self.max_skew.is_none_or(|limit| skew <= limit)
            && self.exactly.iter().all(|(node, pods)| counts.get(node) == Some(pods));
        Finding::new(held, format!("{} (skew {skew})", in_words(&counts)))
    }
}

/// Pods of a workload on each node at a moment, zeros of eligible nodes included.
pub(crate) fn pods_by_node(history: &History<'_>, workload: &str, at_ms: u64) -> BTreeMap<String, u64> {
    let mut counts: BTreeMap<String, u64> =
        history.eligible_nodes(at_ms).into_iter().map(|node| (node.to_owned(), 0)).collect();
    for pod in history.pods_at(at_ms) {
        let counts_here = !pod.node.is_empty() && !is_finished(&pod.status) && !is_leaving(&pod.status);
        if counts_here && workload_of(pod).as_deref() == Some(workload) {
            *counts.entry(pod.node.clone()).or_default() += 1;
        }
    }
    counts
}

/// `worker-0 2, worker-1 2`, or how many nodes have how many pods when there are many.
pub(crate) fn in_words(counts: &BTreeMap<String, u64>) -> String {
    const MOST_NAMED: usize = 8;
    if counts.len() <= MOST_NAMED {
        return counts.iter().map(|(node, pods)| format!("{node} {pods}")).collect::<Vec<_>>().join(", ");
    }
    let (least, most) = (counts.values().min().copied().unwrap_or(0), counts.values().max().copied().unwrap_or(0));
    format!("{least} to {most} pods on each of {} nodes", counts.len())
}
