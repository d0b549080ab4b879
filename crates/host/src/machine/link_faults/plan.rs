//! From faults between machines to rules over the switch's ports. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use daruma_world::machines::{LinkEffect, LinkFault};

/// A share is counted in millionths.
pub(super) const WHOLE: u32 = 1_000_000;

/// What the switch does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Plan {
    /// Rules that let packets fall, in order.
    pub(super) drops: Vec<Rule<Drop>>,
    /// Rules that hold packets back, each by its place in [`Plan::delays`]. The first that fits decides.
    pub(super) waits: Vec<Rule<u16>>,
    /// How long packets wait, the longest first.
    pub(crate) delays: Vec<Duration>,
}

/// A rule over ports; `None` stands for every port, the host's among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule<T> {
    pub(super) from: Option<BTreeSet<String>>,
    pub(super) to: Option<BTreeSet<String>>,
    pub(super) action: T,
}

/// Which packets fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drop {
    All,
    /// So many of [`WHOLE`].
    Share(u32),
    /// Those beyond so many bytes a second.
    Beyond(u64),
}

impl Plan {
    /// Whether every packet passes at once.
    pub(crate) fn is_empty(&self) -> bool {
        self.drops.is_empty() && self.waits.is_empty()
    }
}

/// The rules of `faults`; `port` names a machine's port. Several faults of one pair add up, but of several delays
/// the longest counts.
pub(crate) fn plan(faults: &[LinkFault], port: impl Fn(&str) -> String) -> Plan {
    let ports = |names: &Option<BTreeSet<String>>| names.as_ref().map(|names| names.iter().map(|name| port(name)).collect());
    let mut drops = Vec::new();
    let mut waits: Vec<Rule<Duration>> = Vec::new();
    for fault in faults {
        let (from, to) = (ports(&fault.from), ports(&fault.to));
        let action = match fault.effect {
            LinkEffect::Cut => Drop::All,
            // Truncated: a share is at most the whole.
            LinkEffect::Loss(percent) => Drop::Share((percent / 100.0 * f64::from(WHOLE)).round() as u32),
            LinkEffect::Bandwidth(bits) => Drop::Beyond(bits / 8),
            LinkEffect::Delay(action) => {
                waits.push(Rule { from, to, action });
                continue;
            }
        };
        drops.push(Rule { from, to, action });
    }
    waits.sort_by_key(|wait| std::cmp::Reverse(wait.action));
    let mut delays: Vec<Duration> = waits.iter().map(|wait| wait.action).collect();
    delays.dedup();
    let numbered = waits.into_iter().map(|Rule { from, to, action }| {
        let place = delays.iter().position(|delay| *delay == action).expect("every delay is listed");
        Rule { from, to, action: place as u16 }
    });
    Plan { drops, waits: numbered.collect(), delays }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_become_rules_over_ports() {
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>());
        let fault = |from: &[&str], effect| LinkFault { from: names(from), to: None, effect };
        let ms = Duration::from_millis;
        let planned = plan(
            &[
                fault(&["a"], LinkEffect::Delay(ms(10))),
                fault(&["a", "b"], LinkEffect::Loss(12.5)),
                fault(&["c"], LinkEffect::Delay(ms(50))),
                fault(&["b"], LinkEffect::Delay(ms(10))),
                fault(&["b"], LinkEffect::Bandwidth(8000)),
                LinkFault { from: None, to: names(&["c"]), effect: LinkEffect::Cut },
            ],
            |name| format!("m-{name}"),
        );
        assert_eq!(planned.delays, [ms(50), ms(10)]);
        let waits: Vec<_> = planned.waits.iter().map(|wait| (wait.from.clone(), wait.action)).collect();
        assert_eq!(waits, [(names(&["m-c"]), 0), (names(&["m-a"]), 1), (names(&["m-b"]), 1)]);
        let drops: Vec<_> = planned.drops.iter().map(|rule| rule.action).collect();
        assert_eq!(drops, [Drop::Share(125_000), Drop::Beyond(1000), Drop::All]);
        assert_eq!(planned.drops[0].from, names(&["m-a", "m-b"]));
        assert!(plan(&[], str::to_owned).is_empty());
    }
}
