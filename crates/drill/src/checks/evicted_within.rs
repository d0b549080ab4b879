//! `evictedWithin`: pods of a lost node are given up for deletion.

use serde::{Deserialize, Serialize};

use super::known::{Known, positive};
use super::{Finding, Rule, Workload};
use crate::Span;
use crate::history::{History, is_leaving, pod_at, stays_with_its_node, workload_of};
use crate::record::PodState;
use crate::span::length;

/// Parameters of `evictedWithin`.
///
/// Looked at are the pods that are on the node when the step begins, without those of DaemonSets, static pods and
/// kube-system. A pod is evicted when it is first `Terminating`, or gone, after the step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvictedWithin {
    /// The step from whose beginning time is counted.
    pub after: String,
    /// The longest it may take.
    pub limit: Span,
    /// The shortest it may take; without a bound when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Span>,
    /// The node; every machine that the step's fault acts on when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Only pods of this workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
}

impl Rule for EvictedWithin {
    const ABOUT: &'static str = "Every pod of the lost node is Terminating (or gone) within the limit, and not before a time.";
    const EXAMPLE: &'static str = "evictedWithin: {after: power-off, notBefore: 300s, limit: 365s}";

    fn validate(&self, known: &Known) -> Vec<String> {
        let early = self.not_before.filter(|early| *early > self.limit);
        let complaints = [
            known.step("after", Some(&self.after)),
            positive("limit", self.limit),
            early.map(|early| format!("notBefore: {early} is later than the limit of {}", self.limit)),
            known.node("node", self.node.as_deref()),
            known.workload("workload", self.workload.as_ref()),
        ];
        complaints.into_iter().flatten().collect()
    }

    fn demand(&self) -> String {
        let whose = self.node.as_deref().unwrap_or("the nodes hit");
        let early = self.not_before.map_or(String::new(), |early| format!(", not before {early}"));
        format!("the pods of {whose} are evicted within {} of {}{early}", self.limit, self.after)
    }

    fn judge(&self, history: &History<'_>) -> Finding {
        let from = match history.moment(&self.after) {
            Ok(from) => from,
            Err(why) => return Finding::broken(why),
        };
        let nodes = match &self.node {
            Some(node) => [node.as_str()].into(),
            None => history.machines_of(&self.after),
        };
        let workload = self.workload.as_ref().map(ToString::to_string);
        let ours = |pod: &PodState| {
            nodes.contains(pod.node.as_str())
                && !stays_with_its_node(pod)
                && (workload.is_none() || workload == workload_of(pod))
        };
        let mut left = Vec::new();
        for states in history.pods() {
            let Some(pod) = pod_at(states, from).filter(|pod| ours(pod) && !is_leaving(&pod.status)) else { continue };
            match left_at(states, from) {
                Some(at) => left.push((at - from, pod.name.as_str())),
                None => return Finding::broken(format!("{} on {} was never evicted", pod.name, pod.node)),
            }
        }
        left.sort_unstable();
        let (Some(first), Some(last)) = (left.first(), left.last()) else {
            return Finding::broken("there was no pod to evict");
        };
        let early = self.not_before.is_some_and(|early| first.0 < early.as_ms());
        let text = match left.len() {
            1 => format!("{} after {}", last.1, length(last.0)),
            many if length(first.0) == length(last.0) => format!("{many} pods after {}", length(last.0)),
            many => format!("{many} pods, the first after {}, the last after {}", length(first.0), length(last.0)),
        };
        Finding::new(last.0 <= self.limit.as_ms() && !early, text)
    }
}

/// When a pod was first on its way out, after a moment.
pub(crate) fn left_at(states: &[&PodState], from_ms: u64) -> Option<u64> {
    states.iter().find(|state| state.at_ms >= from_ms && is_leaving(&state.status)).map(|state| state.at_ms)
}
