//! One drill under many settings, in one table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::figures::{Figures, Headline};
use crate::record::Record;
use crate::span::length;

/// One run of the grid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The settings it ran with, by name.
    pub settings: BTreeMap<String, String>,
    /// What was measured.
    pub headline: Headline,
    /// Why it ended early, if it did.
    pub aborted: Option<String>,
}

impl Row {
    /// Measures a run.
    pub fn of(settings: BTreeMap<String, String>, record: &Record) -> Self {
        Self { settings, headline: Figures::of(record).headline(), aborted: record.aborted.clone() }
    }
}

/// Every combination of the values given for each name, the last name varying fastest.
pub fn grid(axes: &[(String, Vec<String>)]) -> Vec<BTreeMap<String, String>> {
    let mut points = vec![BTreeMap::new()];
    for (name, values) in axes {
        points = points
            .into_iter()
            .flat_map(|point: BTreeMap<String, String>| {
                values.iter().map(move |value| {
                    let mut point = point.clone();
                    point.insert(name.clone(), value.clone());
                    point
                })
            })
            .collect();
    }
    points
}

/// The table as text. Settings that are the same in every row stand above it.
pub fn table(rows: &[Row]) -> String {
    let names: BTreeSet<&str> = rows.iter().flat_map(|row| row.settings.keys().map(String::as_str)).collect();
    let value = |row: &Row, name: &str| row.settings.get(name).cloned().unwrap_or_default();
    let (varying, same): (Vec<&str>, Vec<&str>) =
        names.into_iter().partition(|name| rows.iter().any(|row| value(row, name) != value(&rows[0], name)));
    let mut text = String::new();
    for name in same {
        let _ = writeln!(text, "{name}: {}", value(&rows[0], name));
    }
    let mut cells = vec![
        varying
            .iter()
            .map(|name| (*name).to_owned())
            .chain(["DETECTED", "FIRST REPLACEMENT", "FULL RECOVERY", "UNAVAILABLE", "FAILED REQUESTS"].map(str::to_owned))
            .collect::<Vec<_>>(),
    ];
    for row in rows {
        let mut line: Vec<_> = varying.iter().map(|name| value(row, name)).collect();
        let headline = row.headline;
        let after = |ms: Option<u64>| ms.map_or("-".to_owned(), length);
        line.push(after(headline.detected_after_ms));
        line.push(after(headline.replaced_after_ms));
        line.push(if headline.recovered { after(headline.back_after_ms) } else { "not recovered".to_owned() });
        line.push(length(headline.unavailable_ms));
        line.push(headline.failed_requests.to_string());
        if let Some(why) = &row.aborted {
            line.push(format!("(ended early: {why})"));
        }
        cells.push(line);
    }
    text.push_str(&crate::report::columns(&cells));
    text
}
