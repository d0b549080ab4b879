//! `recoveredWithin`: after a fault a workload is back at its desired replicas in time.

use serde::{Deserialize, Serialize};

use super::known::{Known, positive};
use super::{Finding, Rule, Workload};
use crate::Span;
use crate::history::History;
use crate::span::length;

/// Parameters of `recoveredWithin`.
///
/// A workload has recovered when its available replicas, having fallen below the desired number after the step,
/// first reach it again. One that never falls has recovered at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecoveredWithin {
    /// The step from whose beginning time is counted.
    pub after: String,
    /// The longest it may take.
    pub limit: Span,
    /// The workload; every workload outside of kube-system when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
}

impl Rule for RecoveredWithin {
    const ABOUT: &'static str = "After a step the workload is back at its desired available replicas within the limit.";
    const EXAMPLE: &'static str = "recoveredWithin: {after: power-off, limit: 400s, workload: deployment/kubernetes-bootcamp}";

    fn validate(&self, known: &Known) -> Vec<String> {
        let complaints = [
            known.step("after", Some(&self.after)),
            positive("limit", self.limit),
            known.workload("workload", self.workload.as_ref()),
        ];
        complaints.into_iter().flatten().collect()
    }

    fn demand(&self) -> String {
        let who = self.workload.as_ref().map_or("every workload".to_owned(), ToString::to_string);
        format!("{who} has all its replicas again within {} of {}", self.limit, self.after)
    }

    fn judge(&self, history: &History<'_>) -> Finding {
        let from = match history.moment(&self.after) {
            Ok(from) => from,
            Err(why) => return Finding::broken(why),
        };
        let workloads = match history.select(self.workload.as_ref()) {
            Ok(workloads) => workloads,
            Err(why) => return Finding::broken(why),
        };
        let deadline = from + self.limit.as_ms();
        let mut slowest = (0, String::from("no workload fell below its desired replicas"));
        for workload in workloads {
            let Some(&(fell, back)) = history.below_desired(workload, from, history.end()).first() else {
                continue;
            };
            if fell > deadline {
                continue;
            }
            let still = history.replicas_at(workload, history.end()).filter(|state| state.available < state.desired);
            if let Some(state) = still.filter(|_| back >= history.end()) {
                let (available, desired) = (state.available, state.desired);
                let waited = length(history.end().saturating_sub(from));
                return Finding::broken(format!("{workload}: still {available} of {desired} available after {waited}"));
            }
            let took = back - from;
            if took >= slowest.0 {
                slowest = (took, format!("{workload}: all available again after {}", length(took)));
            }
        }
        Finding::new(slowest.0 <= self.limit.as_ms(), slowest.1)
    }
}
