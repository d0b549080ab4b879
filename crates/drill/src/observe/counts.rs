//! Ready replicas of workloads, counted as pods change.

use std::collections::BTreeMap;

/// What is asked for and what is ready, by workload (`default/deployment/web`).
#[derive(Debug, Default)]
pub(super) struct Counts(BTreeMap<String, Count>);

/// One workload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// `None` while the workload itself has not been seen, or is none that is counted.
    pub desired: Option<u32>,
    /// Ready pods.
    pub available: u32,
}

impl Counts {
    /// Sets what is asked for (`None`: it is gone); gives the count where that changed it.
    pub fn ask(&mut self, workload: &str, desired: Option<u32>) -> Option<Count> {
        let count = self.0.entry(workload.to_owned()).or_default();
        if count.desired == desired {
            return None;
        }
        count.desired = desired;
        Some(*count)
    }

    /// Adds or takes away a ready pod; gives the new count where its workload is known.
    pub fn add(&mut self, workload: &str, more: bool) -> Option<Count> {
        let count = self.0.entry(workload.to_owned()).or_default();
        count.available = if more { count.available + 1 } else { count.available.saturating_sub(1) };
        count.desired.map(|_| *count)
    }

    /// All that are known.
    pub fn known(&self) -> impl Iterator<Item = (&String, Count)> {
        self.0.iter().map(|(name, count)| (name, *count)).filter(|(_, count)| count.desired.is_some())
    }
}
