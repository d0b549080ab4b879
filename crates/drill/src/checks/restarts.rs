//! `restarts`: how often containers were started again.

use serde::{Deserialize, Serialize};

use super::known::Known;
use super::{Finding, Range, Rule, Workload};
use crate::history::{History, pod_at, workload_of};

/// Parameters of `restarts`; `total`, `eachPod` or both.
///
/// Counted is by how much kubectl's RESTARTS rose from the step (or from nothing) to the end of the pod or of the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Restarts {
    /// Of which workload; of every pod outside of kube-system when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// Only pods of this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// All pods together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Range>,
    /// Each pod by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each_pod: Option<Range>,
    /// Counted from the beginning of this step, for the pods that were there then; from the start when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Counted to the beginning of this step; to the end when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl Rule for Restarts {
    const ABOUT: &'static str = "Containers were started again as often as named, by pod or in total.";
    const EXAMPLE: &'static str = "restarts: {workload: deployment/kubernetes-bootcamp, node: worker-1, eachPod: {exactly: 1}}";

    fn validate(&self, known: &Known) -> Vec<String> {
        let neither = self.total.is_none() && self.each_pod.is_none();
        let complaints = [
            neither.then(|| "total or eachPod: one of them is needed".to_owned()),
            self.total.and_then(|range| range.validate("total")),
            self.each_pod.and_then(|range| range.validate("eachPod")),
            known.workload("workload", self.workload.as_ref()),
            known.node("node", self.node.as_deref()),
            known.step("after", self.after.as_deref()),
            known.step("until", self.until.as_deref()),
        ];
        complaints.into_iter().flatten().collect()
    }

    fn demand(&self) -> String {
        let mut of = self.workload.as_ref().map_or("every workload".to_owned(), ToString::to_string);
        if let Some(node) = &self.node {
            of.push_str(&format!(" on {node}"));
        }
        let mut bounds = Vec::new();
        bounds.extend(self.each_pod.map(|range| format!("{range} in each pod")));
        bounds.extend(self.total.map(|range| format!("{range} in total")));
        format!("restarts of {of}: {}", bounds.join(", "))
    }

    fn judge(&self, history: &History<'_>) -> Finding {
        let (from, to) = match history.window(self.after.as_deref(), self.until.as_deref()) {
            Ok(window) => window,
            Err(why) => return Finding::broken(why),
        };
        let workload = self.workload.as_ref().map(ToString::to_string);
        let mut by_pod = Vec::new();
        for states in history.pods() {
            let Some(last) = states.iter().rev().find(|state| state.at_ms <= to) else { continue };
            let ours = match &workload {
                Some(_) => workload_of(last) == workload,
                None => last.namespace != "kube-system",
            };
            if !ours || self.node.as_ref().is_some_and(|node| *node != last.node) {
                continue;
            }
            let before = match &self.after {
                None => 0,
                Some(_) => match pod_at(states, from) {
                    Some(state) => state.restarts,
                    None => continue,
                },
            };
            let within = states.iter().filter(|state| state.at_ms <= to);
            let most = within.map(|state| state.restarts).max().unwrap_or(0);
            by_pod.push((last.name.as_str(), u64::from(most.saturating_sub(before))));
        }
        if by_pod.is_empty() {
            return Finding::broken("there was no such pod");
        }
        let total: u64 = by_pod.iter().map(|(_, restarts)| restarts).sum();
        let odd = self.each_pod.and_then(|range| by_pod.iter().find(|(_, restarts)| !range.holds(*restarts)));
        let held = odd.is_none() && self.total.is_none_or(|range| range.holds(total));
        let text = match odd {
            Some((pod, restarts)) => format!("{pod} {restarts}; {total} in total over {} pods", by_pod.len()),
            None => {
                let (least, most) = (by_pod.iter().map(|p| p.1).min(), by_pod.iter().map(|p| p.1).max());
                let each = match (least.unwrap_or(0), most.unwrap_or(0)) {
                    (least, most) if least == most => least.to_string(),
                    (least, most) => format!("{least} to {most}"),
                };
                format!("{each} in each of {} pods, {total} in total", by_pod.len())
            }
        };
        Finding::new(held, text)
    }
}
