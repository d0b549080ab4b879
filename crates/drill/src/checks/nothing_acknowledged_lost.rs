//! `nothingAcknowledgedLost`: what the API acknowledged is there at the end.

use serde::{Deserialize, Serialize};

use super::known::Known;
use super::{Finding, Rule};
use crate::history::History;
use crate::span::length;

/// Parameters of `nothingAcknowledgedLost`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NothingAcknowledgedLost {
    /// The probe that writes; every one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
}

impl Rule for NothingAcknowledgedLost {
    const ABOUT: &'static str = "Every write that the API acknowledged to a writing probe is there at the end.";
    const EXAMPLE: &'static str = "nothingAcknowledgedLost: {writer: orders}";

    fn validate(&self, known: &Known) -> Vec<String> {
        let nobody = (self.writer.is_none() && known.writers.is_empty())
            .then(|| "no probe of this drill writes anything; add one of kind write".to_owned());
        [nobody, known.writer("writer", self.writer.as_deref())].into_iter().flatten().collect()
    }

    fn demand(&self) -> String {
        let whose = self.writer.as_ref().map_or(String::new(), |writer| format!(" of {writer}"));
        format!("no acknowledged write{whose} is lost")
    }

    fn judge(&self, history: &History<'_>) -> Finding {
        let ours = |writer: &str| self.writer.as_ref().is_none_or(|only| only == writer);
        let writes: Vec<_> = history.record.writes.iter().filter(|write| ours(&write.writer)).collect();
        if writes.is_empty() {
            return Finding::broken("no write was acknowledged");
        }
        let lost: Vec<_> = writes.iter().filter(|write| !write.kept).collect();
        let text = match lost.first() {
            None => format!("all {} acknowledged writes are there", writes.len()),
            Some(first) => format!(
                "{} of {} acknowledged writes are lost; the first: {}, acknowledged at {}",
                lost.len(),
                writes.len(),
                first.object,
                length(first.at_ms),
            ),
        };
        Finding::new(lost.is_empty(), text)
    }
}
