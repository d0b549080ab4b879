//! Reports of a run: on the terminal as it happens and at its end, as JSON, as JUnit XML, as one HTML file.
//!
//! Invariant: nothing here writes a file or asks whether there is a terminal; texts go back to the caller.

mod chart;
mod html;
mod junit;
mod lanes;
pub mod terminal;
mod thin;

use serde::{Deserialize, Serialize};

use crate::checks::{Check, Verdict, judge_all};
use crate::figures::Figures;
use crate::record::Record;

pub use html::html;
pub use junit::junit;

/// Version of `report.json`.
const API_VERSION: &str = "daruma.dev/v1";

/// A run with everything that was made of it; what `report.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `daruma.dev/v1`.
    pub api_version: String,
    /// `DrillReport`.
    pub kind: String,
    /// Whether the run came to its end and every check held: exit code 0 means this.
    pub held: bool,
    /// The checks.
    pub verdicts: Vec<Verdict>,
    /// The figures.
    pub figures: Figures,
    /// What was seen.
    pub record: Record,
}

impl Report {
    /// Judges and measures a run.
    pub fn new(record: Record, checks: &[Check]) -> Self {
        let verdicts = judge_all(checks, &record);
        Self {
            api_version: API_VERSION.to_owned(),
            kind: "DrillReport".to_owned(),
            held: record.aborted.is_none() && verdicts.iter().all(|verdict| verdict.held),
            figures: Figures::of(&record),
            verdicts,
            record,
        }
    }

    /// `report.json`.
    ///
    /// # Errors
    /// None in practice: the types write themselves.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// How many checks held, in words.
    pub fn outcome(&self) -> String {
        let held = self.verdicts.iter().filter(|verdict| verdict.held).count();
        let all = self.verdicts.len();
        let checks = match (held, all) {
            (_, 0) => "no checks".to_owned(),
            (held, all) if held == all && all == 1 => "the check held".to_owned(),
            (held, all) if held == all => format!("all {all} checks held"),
            (held, all) => format!("{} of {all} checks did not hold", all - held),
        };
        match &self.record.aborted {
            None => checks,
            Some(why) => format!("ended early: {why}; {checks}"),
        }
    }
}

/// JSON schema (draft 2020-12) of `report.json`.
pub fn json_schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Report).to_value();
    schema["title"] = "DrillReport".into();
    schema
}

/// Rows as aligned columns, two spaces between, as kubectl prints tables. The first row is the head.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count()) + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
