//! `statusesInOrder`: the STATUS column of pods goes through these words.

use serde::{Deserialize, Serialize};

use super::known::Known;
use super::{Finding, Range, Rule, Workload};
use crate::history::{History, is_leaving, pod_at, workload_of};
use crate::record::PodState;

/// Parameters of `statusesInOrder`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatusesInOrder {
    /// Of which workload.
    pub workload: Workload,
    /// What kubectl prints as STATUS, in order; `A|B` is either. Others may come between. `Deleted` is a pod that is gone.
    pub statuses: Vec<String>,
    /// Which pods: those that are there when the step begins, or those that come after it.
    #[serde(default)]
    pub of: Which,
    /// Only pods that were on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How many pods must go that way; every one of them, and at least one, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<Range>,
    /// Looked at from the beginning of this step; from the start when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Looked at to the beginning of this step; to the end when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// See [`StatusesInOrder::of`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Which {
    /// Those that are there when the window begins and are not on their way out.
    #[default]
    Present,
    /// Those that are first seen within the window.
    New,
}

impl Rule for StatusesInOrder {
    const ABOUT: &'static str = "The pods' STATUS, as kubectl prints it, goes through these words in this order.";
    const EXAMPLE: &'static str = "statusesInOrder: {workload: deployment/kubernetes-bootcamp, after: power-off, node: worker-1, \
         statuses: [Running, Terminating, Deleted], pods: {exactly: 2}}";

    fn validate(&self, known: &Known) -> Vec<String> {
        let empty = self.statuses.is_empty() || self.statuses.iter().any(|status| status.split('|').any(str::is_empty));
        let complaints = [
            empty.then(|| "statuses: an empty word or none".to_owned()),
            self.pods.and_then(|range| range.validate("pods")),
            known.workload("workload", Some(&self.workload)),
            known.node("node", self.node.as_deref()),
            known.step("after", self.after.as_deref()),
            known.step("until", self.until.as_deref()),
        ];
        complaints.into_iter().flatten().collect()
    }

    fn demand(&self) -> String {
        let pods = self.pods.map_or("all".to_owned(), |range| range.to_string());
        let which = if self.of == Which::New { "new pods" } else { "pods" };
        let node = self.node.as_ref().map_or(String::new(), |node| format!(" on {node}"));
        format!("{pods} {which} of {}{node} go {}", self.workload, self.statuses.join(" → "))
    }

    fn judge(&self, history: &History<'_>) -> Finding {
        let (from, to) = match history.window(self.after.as_deref(), self.until.as_deref()) {
            Ok(window) => window,
            Err(why) => return Finding::broken(why),
        };
        let workload = self.workload.to_string();
        let (mut went, mut others) = (Vec::new(), Vec::new());
        for states in history.pods().filter(|states| self.includes(&workload, states, from, to)) {
            let path = path(states, from, to);
            let name = states[0].name.as_str();
            if follows(&path, &self.statuses) { went.push((name, path)) } else { others.push((name, path)) }
        }
        let held = match self.pods {
            None => others.is_empty() && !went.is_empty(),
            Some(range) => range.holds(went.len() as u64),
        };
        // What explains the verdict: one that went astray, or else one that did as asked.
        let shown = if held { went.first() } else { others.first().or(went.first()) };
        let shown = shown.map_or(String::new(), |(name, path)| format!("; {name}: {}", path.join(" → ")));
        Finding::new(held, format!("{} of {} pods{shown}", went.len(), went.len() + others.len()))
    }
}

impl StatusesInOrder {
    fn includes(&self, workload: &String, states: &[&PodState], from: u64, to: u64) -> bool {
        let Some(first) = states.first() else { return false };
        if workload_of(first).as_ref() != Some(workload) {
            return false;
        }
        match self.of {
            Which::Present => pod_at(states, from)
                .is_some_and(|pod| !is_leaving(&pod.status) && self.node.as_ref().is_none_or(|node| *node == pod.node)),
            Which::New => {
                // What a step does at once is seen in the step's own millisecond.
                (first.at_ms > from || (first.at_ms == from && self.after.is_some()))
                    && first.at_ms <= to
                    && self.node.as_ref().is_none_or(|node| states.iter().any(|state| state.node == *node))
            }
        }
    }
}

/// The words a pod's STATUS goes through within a window, without repetitions.
pub(crate) fn path<'a>(states: &[&'a PodState], from: u64, to: u64) -> Vec<&'a str> {
    let mut path: Vec<&str> = Vec::new();
    path.extend(pod_at(states, from).map(|state| state.status.as_str()));
    for state in states.iter().filter(|state| state.at_ms > from && state.at_ms <= to) {
        if path.last() != Some(&state.status.as_str()) {
            path.push(&state.status);
        }
    }
    path
}

fn follows(path: &[&str], wanted: &[String]) -> bool {
    let mut rest = path.iter();
    wanted.iter().all(|word| rest.any(|status| word.split('|').any(|either| either == *status)))
}
