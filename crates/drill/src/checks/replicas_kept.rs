//! `replicasKept`: a workload has its replicas at the end, and never fell too far.

use serde::{Deserialize, Serialize};

use super::known::Known;
use super::{Finding, Rule, Workload};
use crate::history::History;
use crate::span::length;

/// Parameters of `replicasKept`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplicasKept {
    /// The workload; every workload outside of kube-system when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// How many must be asked for and available; as many as are asked for when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Available replicas below which it may never fall; without a bound when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub never_below: Option<u32>,
    /// Looked at when this step begins; at the end when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

impl Rule for ReplicasKept {
    const ABOUT: &'static str = "At the end (or at a step) the workload has the replicas it asks for; on the way never below a number.";
    const EXAMPLE: &'static str = "replicasKept: {workload: deployment/kubernetes-bootcamp, replicas: 4, neverBelow: 2}";

    fn validate(&self, known: &Known) -> Vec<String> {
        let above = self.replicas.zip(self.never_below).filter(|(replicas, least)| least > replicas);
        let complaints = [
            above.map(|(replicas, least)| format!("neverBelow: {least} is more than the {replicas} replicas it is to have")),
            known.workload("workload", self.workload.as_ref()),
            known.step("at", self.at.as_deref()),
        ];
        complaints.into_iter().flatten().collect()
    }

    fn demand(&self) -> String {
        let who = self.workload.as_ref().map_or("every workload".to_owned(), ToString::to_string);
        let replicas = self.replicas.map_or("all its".to_owned(), |replicas| replicas.to_string());
        let when = self.at.as_ref().map_or("at the end".to_owned(), |step| format!("at {step}"));
        let below = self.never_below.map_or(String::new(), |least| format!(", never fewer than {least}"));
        format!("{who} has {replicas} replicas {when}{below}")
    }

    fn judge(&self, history: &History<'_>) -> Finding {
        let at = match self.at.as_deref().map_or(Ok(history.end()), |step| history.moment(step)) {
            Ok(at) => at,
            Err(why) => return Finding::broken(why),
        };
        let workloads = match history.select(self.workload.as_ref()) {
            Ok(workloads) => workloads,
            Err(why) => return Finding::broken(why),
        };
        let mut held = true;
        let mut texts = Vec::new();
        for workload in workloads {
            let Some(state) = history.replicas_at(workload, at) else {
                return Finding::broken(format!("{workload} was not there yet"));
            };
            let asked = self.replicas.unwrap_or(state.desired);
            let here = state.desired == asked && state.available >= asked;
            let lowest = history.replicas(workload, 0, at).into_iter().min_by_key(|span| span.available);
            let low = lowest.map_or(state.available, |span| span.available);
            let never_below = self.never_below.is_none_or(|least| low >= least);
            held &= here && never_below;
            let mut text = format!("{workload}: {} of {} available", state.available, state.desired);
            if let Some(span) = lowest.filter(|span| span.available < state.available) {
                text.push_str(&format!(", lowest {} at {}", span.available, length(span.from_ms)));
            }
            texts.push((here && never_below, text));
        }
        // With many workloads the broken ones are what matters.
        texts.sort_by_key(|(fine, _)| *fine);
        let more = texts.len().saturating_sub(5);
        let mut text = texts.into_iter().take(5).map(|(_, text)| text).collect::<Vec<_>>().join("; ");
        if more > 0 {
            text.push_str(&format!("; and {more} more workloads"));
        }
        Finding::new(held, text)
    }
}
