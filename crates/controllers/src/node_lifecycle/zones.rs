//! Zones, how disturbed they are, and how fast their nodes may be tainted.
//!
//! Source: kubernetes pkg/controller/nodelifecycle/node_lifecycle_controller.go `handleDisruption`,
//! `ComputeZoneState`; component-helpers node/topology.

use std::collections::BTreeMap;

use daruma_api::core::v1::Node;
use daruma_api::meta::ObjectExt;

/// How a zone fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZoneState {
    /// Not looked at yet.
    Initial,
    /// Enough nodes are ready.
    Normal,
    /// No node is ready.
    FullDisruption,
    /// More than two nodes, and a large share, are not ready.
    PartialDisruption,
}

/// The flags that set the rates.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// Nodes a second in a healthy zone.
    pub normal: f64,
    /// Nodes a second in an unhealthy large one; an unhealthy small one has none.
    pub secondary: f64,
    /// Nodes above which a zone is large.
    pub large: usize,
    /// Share of nodes not ready that is unhealthy.
    pub threshold: f64,
}

/// What the change of the zones' states asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Only these zones' rates change.
    Rates(BTreeMap<String, f64>),
    /// All zones are lost now: taints are removed and evictions stop.
    AllLost,
    /// A zone is back after all were lost: every node starts anew, and these are the rates.
    Back(BTreeMap<String, f64>),
}

/// The key of a node's zone; empty when it has no labels for it.
pub fn zone_key(node: &Node) -> String {
    let label = |stable: &str, beta: &str| node.label(stable).or_else(|| node.label(beta)).unwrap_or_default().to_owned();
    let region = label("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region");
    let zone = label("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone");
    if region.is_empty() && zone.is_empty() { String::new() } else { format!("{region}:\u{0}:{zone}") }
}

/// The state of a zone from its nodes' readiness.
pub fn zone_state(ready: &[bool], threshold: f64) -> ZoneState {
    let not_ready = ready.iter().filter(|ready| !**ready).count();
    if not_ready == ready.len() && not_ready > 0 {
        ZoneState::FullDisruption
    } else if not_ready > 2 && not_ready as f64 / ready.len() as f64 >= threshold {
        ZoneState::PartialDisruption
    } else {
        ZoneState::Normal
    }
}

/// The states of all zones.
#[derive(Debug, Default)]
pub struct Zones {
    states: BTreeMap<String, ZoneState>,
}

impl Zones {
    /// Makes a zone known; gives whether it is new.
    pub fn add(&mut self, zone: &str) -> bool {
        if self.states.contains_key(zone) {
            return false;
        }
        self.states.insert(zone.to_owned(), ZoneState::Initial);
        true
    }

    /// Whether the zone is known.
    pub fn knows(&self, zone: &str) -> bool {
        self.states.contains_key(zone)
    }

    /// Takes in the readiness of every zone's nodes.
    pub fn update(&mut self, seen: &BTreeMap<String, Vec<bool>>, rates: Rates) -> Change {
        let new: BTreeMap<&String, ZoneState> =
            seen.iter().map(|(zone, ready)| (zone, zone_state(ready, rates.threshold))).collect();
        for zone in seen.keys() {
            self.add(zone);
        }
        self.states.retain(|zone, _| seen.contains_key(zone));
        let all_lost = new.values().all(|state| *state == ZoneState::FullDisruption);
        let all_were_lost = self.states.values().all(|state| *state == ZoneState::FullDisruption);
        let rate = |zone: &str, state: ZoneState| {
            let size = seen.get(zone).map_or(0, Vec::len);
            match state {
                ZoneState::Initial | ZoneState::Normal | ZoneState::FullDisruption => rates.normal,
                ZoneState::PartialDisruption if size > rates.large => rates.secondary,
                ZoneState::PartialDisruption => 0.0,
            }
        };
        if all_lost && all_were_lost {
            return Change::Rates(BTreeMap::new());
        }
        if all_lost {
            self.states.values_mut().for_each(|state| *state = ZoneState::FullDisruption);
            return Change::AllLost;
        }
        let mut changed = BTreeMap::new();
        for (zone, state) in &mut self.states {
            let next = new.get(zone).copied().unwrap_or(ZoneState::Normal);
            if all_were_lost || *state != next {
                changed.insert(zone.clone(), rate(zone, next));
                *state = next;
            }
        }
        if all_were_lost { Change::Back(changed) } else { Change::Rates(changed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Rates = Rates { normal: 0.1, secondary: 0.01, large: 50, threshold: 0.55 };

    fn nodes(ready: usize, not_ready: usize) -> Vec<bool> {
        std::iter::repeat_n(true, ready).chain(std::iter::repeat_n(false, not_ready)).collect()
    }

    #[track_caller]
    fn check(ready: usize, not_ready: usize, state: ZoneState) {
        assert_eq!(zone_state(&nodes(ready, not_ready), RATES.threshold), state, "{ready} ready, {not_ready} not");
    }

    #[test]
    fn states_of_zones() {
        check(3, 0, ZoneState::Normal);
        check(1, 1, ZoneState::Normal);
        check(1, 2, ZoneState::Normal);
        check(1, 3, ZoneState::PartialDisruption);
        check(2, 3, ZoneState::PartialDisruption);
        check(9, 11, ZoneState::PartialDisruption);
        check(10, 11, ZoneState::Normal);
        check(0, 3, ZoneState::FullDisruption);
        check(0, 0, ZoneState::Normal);
    }

    fn seen(zones: &[(&str, usize, usize)]) -> BTreeMap<String, Vec<bool>> {
        zones.iter().map(|(zone, ready, not_ready)| ((*zone).to_owned(), nodes(*ready, *not_ready))).collect()
    }

    fn rates(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
        pairs.iter().map(|(zone, rate)| ((*zone).to_owned(), *rate)).collect()
    }

    #[test]
    fn rates_follow_the_states() {
        let mut zones = Zones::default();
        assert_eq!(zones.update(&seen(&[("a", 3, 0)]), RATES), Change::Rates(rates(&[("a", 0.1)])));
        assert_eq!(zones.update(&seen(&[("a", 1, 3)]), RATES), Change::Rates(rates(&[("a", 0.0)])));
        assert_eq!(zones.update(&seen(&[("a", 20, 60)]), RATES), Change::Rates(rates(&[])), "the state is the same");
        assert_eq!(zones.update(&seen(&[("a", 4, 0)]), RATES), Change::Rates(rates(&[("a", 0.1)])));
        assert_eq!(zones.update(&seen(&[("a", 20, 60)]), RATES), Change::Rates(rates(&[("a", 0.01)])));
        // A lost zone beside a living one keeps the normal rate.
        let change = zones.update(&seen(&[("a", 0, 4), ("b", 1, 0)]), RATES);
        assert_eq!(change, Change::Rates(rates(&[("a", 0.1), ("b", 0.1)])));
    }

    #[test]
    fn losing_all_stops_evictions_until_one_is_back() {
        let mut zones = Zones::default();
        zones.update(&seen(&[("a", 2, 0), ("b", 2, 0)]), RATES);
        assert_eq!(zones.update(&seen(&[("a", 0, 2), ("b", 0, 2)]), RATES), Change::AllLost);
        assert_eq!(zones.update(&seen(&[("a", 0, 2), ("b", 0, 2)]), RATES), Change::Rates(rates(&[])));
        let change = zones.update(&seen(&[("a", 1, 1), ("b", 0, 2)]), RATES);
        assert_eq!(change, Change::Back(rates(&[("a", 0.1), ("b", 0.1)])));
    }
}
