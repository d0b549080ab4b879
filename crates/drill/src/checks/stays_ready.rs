//! `staysReady`: an outage that the cluster does not notice.

use serde::{Deserialize, Serialize};

use super::known::Known;
use super::node_detected_within::detected_at;
use super::{Finding, Rule};
use crate::history::History;
use crate::span::length;

/// Parameters of `staysReady`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StaysReady {
    /// Looked at from the beginning of this step; from the start when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Looked at to the beginning of this step; to the end when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The node; every node when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

impl Rule for StaysReady {
    const ABOUT: &'static str = "The node (or every node) is Ready all along: the outage was too short to be noticed.";
    const EXAMPLE: &'static str = "staysReady: {node: worker-1, after: power-off}";

    fn validate(&self, known: &Known) -> Vec<String> {
        let complaints = [
            known.step("after", self.after.as_deref()),
            known.step("until", self.until.as_deref()),
            known.node("node", self.node.as_deref()),
        ];
        complaints.into_iter().flatten().collect()
    }

    fn demand(&self) -> String {
        format!("{} is Ready all along", self.node.as_deref().unwrap_or("every node"))
    }

    fn judge(&self, history: &History<'_>) -> Finding {
        let (from, to) = match history.window(self.after.as_deref(), self.until.as_deref()) {
            Ok(window) => window,
            Err(why) => return Finding::broken(why),
        };
        let nodes: Vec<&str> = match &self.node {
            Some(node) => vec![node],
            None => history.nodes().collect(),
        };
        if nodes.iter().all(|node| history.node_states(node).is_empty()) {
            return Finding::broken("no such node was seen");
        }
        for node in &nodes {
            if let Some(at) = detected_at(history, node, from, to) {
                return Finding::broken(format!("{node} was not Ready {} after", length(at - from)));
            }
        }
        Finding::new(true, format!("{} Ready throughout {}", nodes.join(", "), length(to - from)))
    }
}
