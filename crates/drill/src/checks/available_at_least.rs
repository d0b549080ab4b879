//! `availableAtLeast`: how much of the time, or of the requests, a workload or a probe was served.

use serde::{Deserialize, Serialize};

use super::known::{Known, percent};
use super::{Finding, Rule, Workload};
use crate::Span;
use crate::history::History;
use crate::span::length;

/// Parameters of `availableAtLeast`; exactly one of `probe` and `workload`.
///
/// Of a probe, the share is answered requests among all that were sent, and it is down from a failed request to
/// the next answered one. Of a workload, the share is available replicas among desired ones, weighted with time
/// (replicas beyond the desired number count for nothing), and it is down while fewer than `minimum` are available.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AvailableAtLeast {
    /// Least share in percent.
    pub percent: f64,
    /// The probe whose requests are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
    /// The workload whose replicas are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// Longest single time down; without a bound when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub never_down_longer_than: Option<Span>,
    /// Replicas below which the workload counts as down; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<u32>,
    /// Counted from the beginning of this step; from the start when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Counted to the beginning of this step; to the end when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl Rule for AvailableAtLeast {
    const ABOUT: &'static str =
        "A probe's requests (or a workload's replicas, over time) are served to at least this share, and never down for long.";
    const EXAMPLE: &'static str = "availableAtLeast: {probe: web, percent: 99.5, neverDownLongerThan: 5s, after: power-off}";

    fn validate(&self, known: &Known) -> Vec<String> {
        let either = match (&self.probe, &self.workload, self.minimum) {
            (Some(_), Some(_), _) => Some("probe and workload: only one of them"),
            (None, None, _) => Some("probe or workload: one of them is needed"),
            (Some(_), None, Some(_)) => Some("minimum: counts replicas; it goes with workload"),
            _ => None,
        };
        let complaints = [
            either.map(str::to_owned),
            percent("percent", self.percent),
            known.probe("probe", self.probe.as_deref()),
            known.workload("workload", self.workload.as_ref()),
            known.step("after", self.after.as_deref()),
            known.step("until", self.until.as_deref()),
        ];
        complaints.into_iter().flatten().collect()
    }

    fn demand(&self) -> String {
        let mut demand = match (&self.probe, &self.workload) {
            (Some(probe), _) => format!("at least {} % of the requests of {probe} are answered", self.percent),
            (None, Some(workload)) => format!("at least {} % of the replicas of {workload} are available", self.percent),
            (None, None) => String::new(),
        };
        if let Some(longest) = self.never_down_longer_than {
            demand.push_str(&format!(", never down longer than {longest}"));
        }
        demand
    }

    fn judge(&self, history: &History<'_>) -> Finding {
        let (from, to) = match history.window(self.after.as_deref(), self.until.as_deref()) {
            Ok(window) => window,
            Err(why) => return Finding::broken(why),
        };
        let measured = match (&self.probe, &self.workload) {
            (Some(probe), _) => by_requests(history, probe, from, to),
            (None, Some(workload)) => by_replicas(history, workload, self.minimum.unwrap_or(1), from, to),
            (None, None) => Err("neither probe nor workload".to_owned()),
        };
        let (share, longest_ms, text) = match measured {
            Ok(measured) => measured,
            Err(why) => return Finding::broken(why),
        };
        let short_enough = self.never_down_longer_than.is_none_or(|limit| longest_ms <= limit.as_ms());
        let down = if longest_ms == 0 { "never down".to_owned() } else { format!("longest down {}", length(longest_ms)) };
        Finding::new(share >= self.percent && short_enough, format!("{share:.2} %: {text}; {down}"))
    }
}

type Measured = Result<(f64, u64, String), String>;

fn by_requests(history: &History<'_>, probe: &str, from: u64, to: u64) -> Measured {
    let requests = history.requests(probe, from, to);
    if requests.is_empty() {
        return Err(format!("probe {probe} sent no request in that time"));
    }
    let failed = requests.iter().filter(|request| request.error.is_some()).count();
    let share = 100.0 * (requests.len() - failed) as f64 / requests.len() as f64;
    let longest = history.outages(probe, from, to).iter().map(crate::history::Outage::length_ms).max().unwrap_or(0);
    Ok((share, longest, format!("{failed} of {} requests failed", requests.len())))
}

fn by_replicas(history: &History<'_>, workload: &Workload, minimum: u32, from: u64, to: u64) -> Measured {
    let name = &workload.to_string();
    history.select(Some(workload))?;
    let spans = history.replicas(name, from, to);
    let (mut wanted, mut had) = (0u64, 0u64);
    for span in &spans {
        let length = span.to_ms - span.from_ms;
        wanted += length * u64::from(span.desired);
        had += length * u64::from(span.available.min(span.desired));
    }
    if wanted == 0 {
        return Err(format!("{workload} asked for no replicas in that time"));
    }
    let below = history.below_desired(name, from, to).iter().map(|(from, to)| to - from).sum();
    let longest = history.below(name, minimum, from, to).iter().map(|(from, to)| to - from).max().unwrap_or(0);
    let text = format!("below its desired replicas for {}", length(below));
    Ok((100.0 * had as f64 / wanted as f64, longest, text))
}
