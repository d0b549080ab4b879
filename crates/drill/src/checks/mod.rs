//! Checks: what must have been true of a run. One file a check, named once in the list below.
//!
//! A check is a pure function of the [`Record`]; it asks nothing of the cluster. In a drill it is written as
//! its name with its parameters: `- recoveredWithin: {after: power-off, limit: 400s}`.

#[macro_use]
mod list;
mod known;
mod range;

pub use crate::file::Workload;
pub use known::Known;
pub use range::Range;

pub(crate) use events_seen::matches;
pub(crate) use evicted_within::left_at;
pub(crate) use node_detected_within::noticed_at;
pub(crate) use spread::in_words;

use serde::{Deserialize, Serialize};

use crate::history::History;
use crate::record::Record;

checks! {
    availableAtLeast => available_at_least::AvailableAtLeast,
    eventsSeen => events_seen::EventsSeen,
    evictedWithin => evicted_within::EvictedWithin,
    failedRequestsAtMost => failed_requests_at_most::FailedRequestsAtMost,
    noLongerOutage => no_longer_outage::NoLongerOutage,
    nodeDetectedWithin => node_detected_within::NodeDetectedWithin,
    notEvictedMoreThan => not_evicted_more_than::NotEvictedMoreThan,
    nothingAcknowledgedLost => nothing_acknowledged_lost::NothingAcknowledgedLost,
    nothingLeftBehind => nothing_left_behind::NothingLeftBehind,
    recoveredWithin => recovered_within::RecoveredWithin,
    replicasKept => replicas_kept::ReplicasKept,
    restarts => restarts::Restarts,
    spread => spread::Spread,
    statusesInOrder => statuses_in_order::StatusesInOrder,
    staysReady => stays_ready::StaysReady,
}

/// What a kind of check is: implemented by the parameters of each.
pub trait Rule {
    /// One sentence for help and manual.
    const ABOUT: &'static str;
    /// A whole check as it is written in a drill, without the leading dash.
    const EXAMPLE: &'static str;

    /// Everything that makes it impossible to evaluate, each in words; asked before a drill touches anything.
    fn validate(&self, known: &Known) -> Vec<String>;
    /// What is demanded, in words.
    fn demand(&self) -> String;
    /// Whether it held.
    fn judge(&self, history: &History<'_>) -> Finding;
}

/// One kind of check, for help, manual and schema.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// As written in a drill.
    pub name: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// A whole check as it is written in a drill, without the leading dash.
    pub example: &'static str,
    /// JSON schema of the parameters.
    pub schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
}

/// Whether a check held, with the measured figure in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether.
    pub held: bool,
    /// What was measured.
    pub text: String,
}

impl Finding {
    /// Held or not, by the measured figure.
    pub fn new(held: bool, text: impl Into<String>) -> Self {
        Self { held, text: text.into() }
    }

    /// What must be there to decide was not.
    pub fn broken(text: impl Into<String>) -> Self {
        Self::new(false, text)
    }
}

/// A judged check, as reports show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Name of the check.
    pub check: String,
    /// What was demanded, in words.
    pub demand: String,
    /// Whether it held.
    pub held: bool,
    /// What was measured, in words.
    pub text: String,
}

/// Judges all checks of one run, in their order.
pub fn judge_all(checks: &[Check], record: &Record) -> Vec<Verdict> {
    let history = History::new(record);
    checks.iter().map(|check| check.judge_in(&history)).collect()
}

impl Check {
    /// Judges this check alone.
    pub fn judge(&self, record: &Record) -> Verdict {
        self.judge_in(&History::new(record))
    }

    fn judge_in(&self, history: &History<'_>) -> Verdict {
        let Finding { held, text } = self.rule_judge(history);
        Verdict { check: self.name().to_owned(), demand: self.demand(), held, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_parses_validates_and_survives_a_round_trip() {
        let known = Known {
            steps: ["power-off", "power-on", "zone"].map(str::to_owned).into(),
            probes: ["web"].map(str::to_owned).into(),
            writers: ["orders"].map(str::to_owned).into(),
            workloads: None,
            nodes: None,
        };
        for kind in ALL {
            let check: Check = serde_yaml_ng::from_str(kind.example).unwrap_or_else(|error| panic!("{}: {error}", kind.name));
            assert_eq!(check.name(), kind.name);
            assert_eq!(check.validate(&known), Vec::<String>::new(), "{}", kind.name);
            let again: Check = serde_yaml_ng::from_str(&serde_yaml_ng::to_string(&check).unwrap()).unwrap();
            assert_eq!(again, check);
            assert!(!check.demand().is_empty() && kind.about.ends_with('.'), "{}", kind.name);
        }
        assert!(ALL.windows(2).all(|pair| pair[0].name < pair[1].name), "the list is in order");
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (yaml, said) in [
            ("- recoverdWithin: {}", "unknown check"),
            ("- recoveredWithin: {after: a, limit: 5 parsecs}", "no length of time"),
            ("- recoveredWithin: {after: a, limit: 5s, speed: 3}", "unknown field"),
            ("- recoveredWithin: {after: a, limit: 5s}\n  spread: {maxSkew: 1}", "one check"),
            ("- {}", "a check"),
        ] {
            let error = serde_yaml_ng::from_str::<Vec<Check>>(yaml).unwrap_err();
            assert!(error.to_string().contains(said), "{yaml}: {error}");
            assert!(error.location().is_some() || error.to_string().contains("line"), "{yaml}: {error}");
        }
    }

    #[test]
    fn the_schema_names_every_check() {
        let schema = serde_json::to_value(schemars::schema_for!(Vec<Check>)).unwrap().to_string();
        for kind in ALL {
            assert!(schema.contains(&format!("\"{}\"", kind.name)), "{}", kind.name);
        }
    }
}
