//! `nothingLeftBehind`: no fault left anything.

use serde::{Deserialize, Serialize};

use super::known::Known;
use super::{Finding, Rule};
use crate::history::History;

/// Parameters of `nothingLeftBehind`: none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NothingLeftBehind {}

impl Rule for NothingLeftBehind {
    const ABOUT: &'static str = "After all faults are undone nothing of them remains: no container of a deleted pod, no file.";
    const EXAMPLE: &'static str = "nothingLeftBehind: {}";

    fn validate(&self, _: &Known) -> Vec<String> {
        Vec::new()
    }

    fn demand(&self) -> String {
        "nothing is left behind".to_owned()
    }

    fn judge(&self, history: &History<'_>) -> Finding {
        match history.record.left_behind.as_slice() {
            [] => Finding::new(true, "nothing"),
            [one] => Finding::broken(one.clone()),
            [first, rest @ ..] => Finding::broken(format!("{first}; and {} more", rest.len())),
        }
    }
}
