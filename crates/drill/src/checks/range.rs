//! How many there may be of something.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A number's bounds, both ends included: `{atLeast: 75, atMost: 95}` or `{exactly: 2}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Range {
    /// Not fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<u64>,
    /// Not more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<u64>,
    /// This many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exactly: Option<u64>,
}

impl Range {
    /// Whether a number is within.
    pub fn holds(self, number: u64) -> bool {
        self.at_least.is_none_or(|least| number >= least)
            && self.at_most.is_none_or(|most| number <= most)
            && self.exactly.is_none_or(|exactly| number == exactly)
    }

    /// Complaint about bounds that say nothing or that nothing can meet.
    pub fn validate(self, field: &str) -> Option<String> {
        if self == Self::default() {
            return Some(format!("{field}: says neither exactly, atLeast nor atMost"));
        }
        let contradicts = self.exactly.is_some() && (self.at_least.is_some() || self.at_most.is_some())
            || self.at_least.zip(self.at_most).is_some_and(|(least, most)| least > most);
        contradicts.then(|| format!("{field}: {self} contradicts itself"))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.exactly, self.at_least, self.at_most) {
            (Some(exactly), None, None) => write!(f, "exactly {exactly}"),
            (Some(exactly), ..) => write!(f, "exactly {exactly} and other bounds"),
            (None, Some(least), Some(most)) => write!(f, "{least} to {most}"),
            (None, Some(least), None) => write!(f, "at least {least}"),
            (None, None, Some(most)) => write!(f, "at most {most}"),
            (None, None, None) => f.write_str("any number of"),
        }
    }
}
