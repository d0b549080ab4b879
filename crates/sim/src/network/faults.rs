//! What is done to packets on their way between machines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use daruma_world::machines::LinkEffect;

use crate::clock::nanos;
use crate::random::SplitMix;

/// Shortest time of a packet from one machine to another.
const LATENCY_NS: u64 = 100_000;
/// By how much it varies.
const JITTER_NS: u64 = 200_000;
/// Payload of a TCP segment on Ethernet.
const SEGMENT: usize = 1448;

/// A link fault, with machines as numbers.
pub(crate) struct Fault {
    /// `None`: everybody.
    pub(crate) from: Option<BTreeSet<u32>>,
    pub(crate) to: Option<BTreeSet<u32>>,
    pub(crate) effect: LinkEffect,
    /// Until when the line of a sender is busy, where its bandwidth is bounded.
    busy: BTreeMap<u32, u64>,
}

impl Fault {
    pub(crate) fn new(from: Option<BTreeSet<u32>>, to: Option<BTreeSet<u32>>, effect: LinkEffect) -> Self {
        Self { from, to, effect, busy: BTreeMap::new() }
    }

    fn concerns(&self, from: u32, to: u32) -> bool {
        let has = |set: &Option<BTreeSet<u32>>, one| set.as_ref().is_none_or(|set| set.contains(&one));
        has(&self.from, from) && has(&self.to, to)
    }

    fn cuts(&self) -> bool {
        match self.effect {
            LinkEffect::Cut => true,
            LinkEffect::Loss(percent) => percent >= 100.0,
            LinkEffect::Bandwidth(bits) => bits == 0,
            LinkEffect::Delay(_) => false,
        }
    }
}

/// All faults in force.
#[derive(Default)]
pub(crate) struct Faults(pub(crate) Vec<Fault>);

impl Faults {
    /// Whether nothing at all comes through.
    pub(crate) fn is_cut(&self, from: u32, to: u32) -> bool {
        self.0.iter().any(|fault| fault.cuts() && fault.concerns(from, to))
    }

    /// How long `bytes` take from one machine to another, in nanoseconds; `None` where they are lost, or
    /// one of their segments is.
    pub(crate) fn cross(&mut self, from: u32, to: u32, bytes: usize, now_ns: u64, chance: &mut SplitMix) -> Option<u64> {
        let mut delay = latency(chance);
        for fault in self.0.iter_mut().filter(|fault| fault.concerns(from, to)) {
            if fault.cuts() {
                return None;
            }
            match fault.effect {
                LinkEffect::Cut => return None,
                LinkEffect::Loss(percent) => {
                    let segments = bytes.div_ceil(SEGMENT).clamp(1, 1 << 20) as i32;
                    let all_arrive = (1.0 - percent.max(0.0) / 100.0).powi(segments);
                    if chance.unit() >= all_arrive {
                        return None;
                    }
                }
                LinkEffect::Delay(more) => delay = delay.saturating_add(nanos(more)),
                LinkEffect::Bandwidth(bits) => {
                    let takes = Duration::from_secs_f64(bytes as f64 * 8.0 / bits as f64);
                    let busy = fault.busy.entry(from).or_default();
                    *busy = now_ns.max(*busy).saturating_add(nanos(takes));
                    delay = delay.saturating_add(*busy - now_ns);
                }
            }
        }
        Some(delay)
    }
}

/// The time of a packet on a sound link.
pub(crate) fn latency(chance: &mut SplitMix) -> u64 {
    LATENCY_NS + chance.below(JITTER_NS)
}
