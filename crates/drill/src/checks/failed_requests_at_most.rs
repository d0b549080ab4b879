//! `failedRequestsAtMost`: how many requests of a probe may fail.

use serde::{Deserialize, Serialize};

use super::known::{Known, percent};
use super::{Finding, Rule};
use crate::history::History;

/// Parameters of `failedRequestsAtMost`; `count`, `percent` or both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailedRequestsAtMost {
    /// The probe.
    pub probe: String,
    /// Most failed requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Most failed requests, in percent of those sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// Counted from the beginning of this step; from the start when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Counted to the beginning of this step; to the end when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl Rule for FailedRequestsAtMost {
    const ABOUT: &'static str = "At most so many requests of a probe fail, by number or in percent.";
    const EXAMPLE: &'static str = "failedRequestsAtMost: {probe: web, count: 0}";

    fn validate(&self, known: &Known) -> Vec<String> {
        let neither = self.count.is_none() && self.percent.is_none();
        let complaints = [
            neither.then(|| "count or percent: one of them is needed".to_owned()),
            known.probe("probe", Some(&self.probe)),
            self.percent.and_then(|share| percent("percent", share)),
            known.step("after", self.after.as_deref()),
            known.step("until", self.until.as_deref()),
        ];
        complaints.into_iter().flatten().collect()
    }

    fn demand(&self) -> String {
        let mut bounds = Vec::new();
        bounds.extend(self.count.map(|count| count.to_string()));
        bounds.extend(self.percent.map(|percent| format!("{percent} %")));
        format!("at most {} of the requests of {} fail", bounds.join(" and "), self.probe)
    }

    fn judge(&self, history: &History<'_>) -> Finding {
        let (from, to) = match history.window(self.after.as_deref(), self.until.as_deref()) {
            Ok(window) => window,
            Err(why) => return Finding::broken(why),
        };
        let requests = history.requests(&self.probe, from, to);
        if requests.is_empty() {
            return Finding::broken(format!("probe {} sent no request in that time", self.probe));
        }
        let failures: Vec<_> = requests.iter().filter_map(|request| request.error.as_deref()).collect();
        let share = 100.0 * failures.len() as f64 / requests.len() as f64;
        let held = self.count.is_none_or(|count| failures.len() as u64 <= count)
            && self.percent.is_none_or(|percent| share <= percent);
        let mut text = format!("{} of {} requests failed ({share:.2} %)", failures.len(), requests.len());
        if let Some(first) = failures.first() {
            text.push_str(&format!("; the first: {first}"));
        }
        Finding::new(held, text)
    }
}
