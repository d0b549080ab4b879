//! `notEvictedMoreThan`: how far the eviction of many lost nodes has come, and why not further.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::evicted_within::left_at;
use super::known::{Known, positive};
use super::node_detected_within::detected_at;
use super::{Finding, Range, Rule};
use crate::Span;
use crate::history::{History, pod_at, stays_with_its_node};
use crate::record::AtMs;
use crate::span::length;

/// Parameters of `notEvictedMoreThan`; at least one of `taintedNodes`, `evictedNodes`, `evictedPods`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotEvictedMoreThan {
    /// The step whose fault took the nodes away.
    pub after: String,
    /// Counted up to this long after the step; to the end when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Span>,
    /// Nodes that got taint `unreachable:NoExecute` or `not-ready:NoExecute`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tainted_nodes: Option<Range>,
    /// Nodes hit whose pods were evicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evicted_nodes: Option<Range>,
    /// Pods evicted from nodes hit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evicted_pods: Option<Range>,
}

impl Rule for NotEvictedMoreThan {
    const ABOUT: &'static str = "Of many lost nodes only so many are tainted NoExecute and evicted by then; the verdict says why.";
    const EXAMPLE: &'static str = "notEvictedMoreThan: {after: zone, by: 15m, taintedNodes: {atLeast: 80, atMost: 90}, evictedNodes: {atMost: 60}}";

    fn validate(&self, known: &Known) -> Vec<String> {
        let bounds =
            [("taintedNodes", self.tainted_nodes), ("evictedNodes", self.evicted_nodes), ("evictedPods", self.evicted_pods)];
        let none = bounds.iter().all(|(_, range)| range.is_none());
        let mut complaints: Vec<_> = [
            none.then(|| "taintedNodes, evictedNodes or evictedPods: one of them is needed".to_owned()),
            known.step("after", Some(&self.after)),
            self.by.and_then(|by| positive("by", by)),
        ]
        .into_iter()
        .flatten()
        .collect();
        complaints.extend(bounds.iter().filter_map(|(field, range)| range.and_then(|range| range.validate(field))));
        complaints
    }

    fn demand(&self) -> String {
        let mut bounds = Vec::new();
        bounds.extend(self.tainted_nodes.map(|range| format!("{range} nodes tainted NoExecute")));
        bounds.extend(self.evicted_nodes.map(|range| format!("{range} nodes evicted")));
        bounds.extend(self.evicted_pods.map(|range| format!("{range} pods evicted")));
        let by = self.by.map_or("by the end".to_owned(), |by| format!("{by} after {}", self.after));
        format!("{by}: {}", bounds.join(", "))
    }

    fn judge(&self, history: &History<'_>) -> Finding {
        let from = match history.moment(&self.after) {
            Ok(from) => from,
            Err(why) => return Finding::broken(why),
        };
        let to = self.by.map_or(history.end(), |by| from + by.as_ms());
        if to > history.end() {
            return Finding::broken(format!("the run ended {} after {}", length(history.end() - from), self.after));
        }
        let lost = history.machines_of(&self.after);
        if lost.is_empty() {
            return Finding::broken(format!("{} acted on no machine", self.after));
        }
        let seen = Seen::new(history, &lost, from, to);
        let held = self.tainted_nodes.is_none_or(|range| range.holds(seen.tainted))
            && self.evicted_nodes.is_none_or(|range| range.holds(seen.evicted_nodes))
            && self.evicted_pods.is_none_or(|range| range.holds(seen.evicted_pods));
        Finding::new(held, format!("{}. {}", seen.in_words(), seen.why(history, from, to)))
    }
}

struct Seen {
    lost: u64,
    tainted: u64,
    evicted_nodes: u64,
    evicted_pods: u64,
    detected: Option<AtMs>,
}

impl Seen {
    fn new(history: &History<'_>, lost: &BTreeSet<&str>, from: AtMs, to: AtMs) -> Self {
        let given_up = |taint: &String| {
            taint == "node.kubernetes.io/unreachable:NoExecute" || taint == "node.kubernetes.io/not-ready:NoExecute"
        };
        let was_tainted = |node: &&&str| {
            let mut within = history.node_states(node).iter().filter(|state| state.at_ms >= from && state.at_ms <= to);
            within.any(|state| state.taints.iter().any(given_up))
        };
        let mut nodes = BTreeSet::new();
        let mut pods = 0;
        for states in history.pods() {
            let Some(pod) = pod_at(states, from) else { continue };
            if !lost.contains(pod.node.as_str()) || stays_with_its_node(pod) {
                continue;
            }
            if left_at(states, from).is_some_and(|at| at <= to) {
                nodes.insert(pod.node.as_str());
                pods += 1;
            }
        }
        Self {
            lost: lost.len() as u64,
            tainted: lost.iter().filter(was_tainted).count() as u64,
            evicted_nodes: nodes.len() as u64,
            evicted_pods: pods,
            detected: lost.iter().filter_map(|node| detected_at(history, node, from, to)).min(),
        }
    }

    fn in_words(&self) -> String {
        format!(
            "of {} nodes lost, {} carry a NoExecute taint and {} are evicted ({} pods)",
            self.lost, self.tainted, self.evicted_nodes, self.evicted_pods
        )
    }

    /// The rules behind the numbers (kubernetes pkg/controller/nodelifecycle/node_lifecycle_controller.go,
    /// scheduler/rate_limited_queue.go; defaults of kube-controller-manager).
    fn why(&self, history: &History<'_>, from: AtMs, to: AtMs) -> String {
        let Some(detected) = self.detected else {
            return "None of them was seen as not Ready, so none was tainted".to_owned();
        };
        let setting = |name: &str, default: &str| history.record.settings.get(name).map_or(default, String::as_str).to_owned();
        let rate = setting("node-eviction-rate", "0.1");
        let tolerated = setting("tolerationSeconds", "300");
        let (rate_number, tolerated_ms) =
            (rate.parse().unwrap_or(0.1), tolerated.trim_end_matches('s').parse::<u64>().unwrap_or(300) * 1000);
        let by_rate = |window_ms: u64| (window_ms as f64 / 1000.0 * rate_number) as u64 + 1;
        let since = to.saturating_sub(detected);
        if self.tainted == 0 {
            return "No node was tainted NoExecute: where more than two nodes and at least 55 % of a zone are not Ready \
                    the eviction rate falls to secondary-node-eviction-rate (0.01 nodes/s), in zones of 50 nodes or fewer to none; \
                    where every zone is lost it stops"
                .to_owned();
        }
        if self.tainted * 2 < by_rate(since).min(self.lost) {
            return format!(
                "That is slower than node-eviction-rate ({rate} nodes/s): a zone in which more than two nodes and at least 55 % \
                 are not Ready is evicted at secondary-node-eviction-rate (0.01 nodes/s: one in 100 s, the first {} after the fault)",
                length(detected - from)
            );
        }
        format!(
            "NoExecute taints are added at {rate} nodes/s a zone (node-eviction-rate) from the detection {} after the fault on, \
             which makes up to {} by then; pods are deleted {tolerated} s after their node's taint (tolerationSeconds), which makes up to {} \
             nodes. A zone that is lost as a whole while another lives keeps this rate: all {} nodes would take {}",
            length(detected - from),
            by_rate(since).min(self.lost),
            if since < tolerated_ms { 0 } else { by_rate(since - tolerated_ms).min(self.lost) },
            self.lost,
            length((self.lost as f64 / f64::max(rate_number, 1e-9) * 1000.0) as u64),
        )
    }
}
