//! `nodeDetectedWithin`: the cluster notices that a node is gone.

use serde::{Deserialize, Serialize};

use super::known::{Known, positive};
use super::{Finding, Rule};
use crate::Span;
use crate::history::{DELETED, History};
use crate::span::length;

/// Parameters of `nodeDetectedWithin`.
///
/// A node is detected when its condition Ready is first anything but `True` after the step, or when it has a condition of
/// pressure (MemoryPressure, DiskPressure, PIDPressure) that it did not have before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeDetectedWithin {
    /// The step from whose beginning time is counted.
    pub after: String,
    /// The longest it may take.
    pub limit: Span,
    /// The node; every machine that the step's fault acts on when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

impl Rule for NodeDetectedWithin {
    const ABOUT: &'static str = "The node (or every node the step's fault hits) is seen as not Ready, or short of something, within the limit.";
    const EXAMPLE: &'static str = "nodeDetectedWithin: {after: power-off, limit: 60s}";

    fn validate(&self, known: &Known) -> Vec<String> {
        let complaints = [
            known.step("after", Some(&self.after)),
            positive("limit", self.limit),
            known.node("node", self.node.as_deref()),
        ];
        complaints.into_iter().flatten().collect()
    }

    fn demand(&self) -> String {
        let who = self.node.as_deref().unwrap_or("every node hit");
        format!("{who} is seen as not Ready or short of something within {} of {}", self.limit, self.after)
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
        if nodes.is_empty() {
            return Finding::broken(format!("{} acted on no machine", self.after));
        }
        let mut slowest = (0, "");
        for node in &nodes {
            match noticed_at(history, node, from, history.end()) {
                Some(at) if at - from >= slowest.0 => slowest = (at - from, node),
                Some(_) => {}
                None => return Finding::broken(format!("{node} was never seen as not Ready or short of something")),
            }
        }
        let text = match nodes.len() {
            1 => format!("{} after {}", slowest.1, length(slowest.0)),
            many => format!("all {many} nodes, the last ({}) after {}", slowest.1, length(slowest.0)),
        };
        Finding::new(slowest.0 <= self.limit.as_ms(), text)
    }
}

/// When a node was first not Ready, from one moment to another.
pub(crate) fn detected_at(history: &History<'_>, node: &str, from_ms: u64, to_ms: u64) -> Option<u64> {
    if history.node_at(node, from_ms).is_some_and(|state| state.ready != "True") {
        return Some(from_ms);
    }
    let later = history.node_states(node).iter().filter(|state| state.at_ms > from_ms && state.at_ms <= to_ms);
    later.filter(|state| state.ready != "True" || state.ready == DELETED).map(|state| state.at_ms).next()
}

/// When the cluster first knew that something is wrong with a node, from one moment to another: it was not Ready, or short
/// of something that it had enough of before.
pub(crate) fn noticed_at(history: &History<'_>, node: &str, from_ms: u64, to_ms: u64) -> Option<u64> {
    let before = history.node_at(node, from_ms).map_or(&[][..], |state| &state.pressure);
    let later = history.node_states(node).iter().filter(|state| state.at_ms > from_ms && state.at_ms <= to_ms);
    let short = later.filter(|state| state.pressure.iter().any(|kind| !before.contains(kind))).map(|state| state.at_ms).next();
    detected_at(history, node, from_ms, to_ms).into_iter().chain(short).min()
}
