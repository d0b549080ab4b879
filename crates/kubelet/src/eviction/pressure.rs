//! Which thresholds are met, since when, and the node conditions that follow.
//!
//! Source: kubernetes pkg/kubelet/eviction/eviction_manager.go (synchronize), pkg/kubelet/eviction/helpers.go.
//!
//! Invariant: pure.

use std::collections::BTreeMap;
use std::time::Duration;

use daruma_api::quantity::Quantity;
use jiff::Timestamp;

use super::threshold::{Signal, Threshold};
use crate::backoff::between;

/// A condition of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// `DiskPressure`.
    Disk,
    /// `MemoryPressure`.
    Memory,
    /// `PIDPressure`.
    Pid,
}

impl Condition {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "MemoryPressure",
            Self::Disk => "DiskPressure",
            Self::Pid => "PIDPressure",
        }
    }
}

/// What is available of what there is, in bytes or pieces.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// Left.
    pub available: Quantity,
    /// In all.
    pub capacity: i64,
}

/// What was measured.
pub type Observations = BTreeMap<Signal, Observation>;

/// Pressure conditions, held for a while after the last time they were met.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pressure {
    /// Conditions that are true.
    pub conditions: std::collections::BTreeSet<Condition>,
    /// Since when a threshold (by its place in the list) is met without a break.
    first_met: BTreeMap<usize, Timestamp>,
    last_met: BTreeMap<Condition, Timestamp>,
}

impl Pressure {
    /// Whether a condition is true.
    pub fn has(&self, condition: Condition) -> bool {
        self.conditions.contains(&condition)
    }

    /// Takes what was seen now; gives the thresholds that were met for as long as they ask for, memory first.
    pub fn observe(&mut self, thresholds: &[Threshold], seen: &Observations, now: Timestamp, held: Duration) -> Vec<Threshold> {
        let met: Vec<usize> = (0..thresholds.len()).filter(|index| is_met(&thresholds[*index], seen)).collect();
        self.first_met.retain(|index, _| met.contains(index));
        for index in &met {
            self.first_met.entry(*index).or_insert(now);
            self.last_met.insert(thresholds[*index].signal.condition(), now);
        }
        let recent = self.last_met.iter().filter(|(_, at)| **at == now || between(**at, now) < held);
        self.conditions = recent.map(|(condition, _)| *condition).collect();
        let due = |index: &usize| between(self.first_met[index], now) >= thresholds[*index].grace;
        let mut due: Vec<Threshold> = met.into_iter().filter(due).map(|index| thresholds[index]).collect();
        due.sort_by_key(|threshold| threshold.signal != Signal::MemoryAvailable);
        due
    }
}

/// Whether less is available than the threshold asks for; not where nothing was measured.
pub fn is_met(threshold: &Threshold, seen: &Observations) -> bool {
    seen.get(&threshold.signal).is_some_and(|seen| threshold.amount.of(seen.capacity) > seen.available)
}

#[cfg(test)]
mod tests {
    use super::super::threshold::parse_thresholds;
    use super::*;
    use crate::testing::at;

    fn seen(signal: Signal, available: i64, capacity: i64) -> (Signal, Observation) {
        (signal, Observation { available: Quantity::units(available), capacity })
    }

    #[test]
    fn conditions_are_held() {
        let thresholds = parse_thresholds(None, "", "").expect("they parse");
        let mut pressure = Pressure::default();
        let held = Duration::from_secs(300);
        let low = Observations::from([seen(Signal::MemoryAvailable, 1, 100)]);
        assert_eq!(pressure.observe(&thresholds, &low, at(0), held).len(), 1);
        assert_eq!(pressure.conditions.iter().copied().collect::<Vec<_>>(), [Condition::Memory]);
        assert!(pressure.observe(&thresholds, &Observations::new(), at(299), held).is_empty());
        assert!(pressure.has(Condition::Memory));
        pressure.observe(&thresholds, &Observations::new(), at(300), held);
        assert!(pressure.conditions.is_empty());
    }

    #[test]
    fn soft_thresholds_wait_and_memory_comes_first() {
        let soft = "nodefs.available<50%,memory.available<50Mi";
        let thresholds = parse_thresholds(Some(""), soft, "nodefs.available=30s,memory.available=20s").expect("they parse");
        let mut pressure = Pressure::default();
        let held = Duration::from_secs(300);
        let disk = seen(Signal::NodefsAvailable, 49, 100);
        let both = Observations::from([disk, seen(Signal::MemoryAvailable, 1, 100)]);
        let mut due = |seen: &Observations, second| {
            let list = pressure.observe(&thresholds, seen, at(second), held);
            list.iter().map(|one| one.signal.as_str()).collect::<Vec<_>>()
        };
        assert!(due(&both, 0).is_empty());
        assert_eq!(due(&both, 20), ["memory.available"]);
        assert_eq!(due(&both, 30), ["memory.available", "nodefs.available"]);
        // A break starts the wait anew.
        assert_eq!(due(&Observations::from([disk]), 40), ["nodefs.available"]);
        assert_eq!(due(&both, 50), ["nodefs.available"]);
    }
}
