//! `noLongerOutage`: a probe is never without an answer for longer than a limit.

use serde::{Deserialize, Serialize};

use super::known::Known;
use super::{Finding, Rule};
use crate::Span;
use crate::history::History;
use crate::span::length;

/// Parameters of `noLongerOutage`.
///
/// An outage lasts from the sending of the first failed request to the sending of the next answered one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NoLongerOutage {
    /// The probe.
    pub probe: String,
    /// The longest outage that may be.
    pub limit: Span,
    /// Counted from the beginning of this step; from the start when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Counted to the beginning of this step; to the end when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl Rule for NoLongerOutage {
    const ABOUT: &'static str = "No outage of a probe (first failed request to next answered one) is longer than the limit.";
    const EXAMPLE: &'static str = "noLongerOutage: {probe: web, limit: 5s}";

    fn validate(&self, known: &Known) -> Vec<String> {
        let complaints = [
            known.probe("probe", Some(&self.probe)),
            known.step("after", self.after.as_deref()),
            known.step("until", self.until.as_deref()),
        ];
        complaints.into_iter().flatten().collect()
    }

    fn demand(&self) -> String {
        format!("{} is never without an answer for longer than {}", self.probe, self.limit)
    }

    fn judge(&self, history: &History<'_>) -> Finding {
        let (from, to) = match history.window(self.after.as_deref(), self.until.as_deref()) {
            Ok(window) => window,
            Err(why) => return Finding::broken(why),
        };
        let sent = history.requests(&self.probe, from, to).len();
        if sent == 0 {
            return Finding::broken(format!("probe {} sent no request in that time", self.probe));
        }
        let outages = history.outages(&self.probe, from, to);
        match outages.iter().max_by_key(|outage| outage.length_ms()) {
            None => Finding::new(true, format!("all {sent} requests were answered")),
            Some(longest) => Finding::new(
                longest.length_ms() <= self.limit.as_ms(),
                format!(
                    "longest outage {} from {} on ({} failed: {})",
                    length(longest.length_ms()),
                    length(longest.from_ms),
                    longest.failed,
                    longest.error,
                ),
            ),
        }
    }
}
