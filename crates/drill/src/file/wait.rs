//! Conditions that a step waits for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Workload;
use super::cluster::default_namespace;
use crate::Span;
use crate::checks::Range;

/// Waits for exactly one condition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WaitFor {
    /// How long; the drill ends as failed when it passes.
    #[serde(default = "ten_minutes")]
    pub limit: Span,
    /// The condition must hold for this long.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasting: Option<Span>,
    /// The node's condition Ready is True.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_ready: Option<String>,
    /// The node's condition Ready is not True.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_not_ready: Option<String>,
    /// All replicas of the workload are up to date and ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<Workload>,
    /// So many pods are as described.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodsAre>,
    /// An Event is seen, from this step on (or from the drill's beginning).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventSeen>,
    /// The last request of this probe was answered (`true`) or failed (`false`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeIs>,
}

/// Pods, by what kubectl would show of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodsAre {
    /// Namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Only those that this label selector selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Only those of this workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// Only those on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Only those with one of these words in kubectl's column STATUS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<String>,
    /// Only those whose condition Ready is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// How many there are, e.g. `{exactly: 2}`.
    pub count: Range,
}

/// An Event of the API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventSeen {
    /// Its reason, e.g. `NodeNotReady`.
    pub reason: String,
    /// The object it is about, e.g. `node/worker-1`; `*` stands for any text. Any where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Whether one from before this step counts.
    #[serde(default)]
    pub ever: bool,
}

/// How a probe fares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProbeIs {
    /// Its name.
    pub name: String,
    /// Whether it is answered.
    pub answered: bool,
}

impl WaitFor {
    /// The conditions that are given, by field name.
    pub fn fields(&self) -> Vec<&'static str> {
        let fields = [
            ("nodeReady", self.node_ready.is_some()),
            ("nodeNotReady", self.node_not_ready.is_some()),
            ("available", self.available.is_some()),
            ("pods", self.pods.is_some()),
            ("event", self.event.is_some()),
            ("probe", self.probe.is_some()),
        ];
        fields.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
    }
}

fn ten_minutes() -> Span {
    Span::seconds(600)
}
