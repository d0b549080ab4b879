//! Node selectors and node affinity.

use daruma_api::core::v1::PreferredSchedulingTerm;
use daruma_api::node_affinity::{matches_required, matches_term};

use super::{Cluster, Plugin, Prepared, Refusal, normalize};
use crate::node_info::{NodeInfo, PodInfo};

/// See the module.
pub struct NodeAffinity;

struct ForPod<'a> {
    pod: &'a PodInfo,
    preferred: &'a [PreferredSchedulingTerm],
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Cluster<'a>) -> Option<Box<dyn Prepared + 'a>> {
        let spec = pod.spec();
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        if affinity.is_none() && spec.node_selector.as_ref().is_none_or(std::collections::BTreeMap::is_empty) {
            return None;
        }
        let preferred = affinity
            .and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_deref())
            .unwrap_or_default();
        Some(Box::new(ForPod { pod, preferred }))
    }
}

impl Prepared for ForPod<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Refusal> {
        let matches = node.node.as_ref().is_some_and(|node| matches_required(self.pod.spec(), node));
        if matches { Ok(()) } else { Err(Refusal::unresolvable("node(s) didn't match Pod's node affinity/selector")) }
    }

    fn score(&self, nodes: &[&NodeInfo]) -> Option<Vec<i64>> {
        if self.preferred.is_empty() {
            return None;
        }
        let weight = |node: &&NodeInfo| -> i64 {
            let Some(node) = &node.node else { return 0 };
            self.preferred.iter().filter(|term| matches_term(&term.preference, node)).map(|term| i64::from(term.weight)).sum()
        };
        let mut scores: Vec<i64> = nodes.iter().map(weight).collect();
        normalize(&mut scores, false);
        Some(scores)
    }
}
