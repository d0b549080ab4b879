//! The datagram flows that a machine remembers.
//!
//! Only UDP is kept here: a TCP connection is a stream of the virtual network, which is asked once,
//! when it is opened, and goes on whatever becomes of the rules.

use std::collections::BTreeMap;
use std::time::Duration;

use daruma_world::packet_rules::{Connection, Protocol};

use super::evaluate::Endpoint;

/// How long a flow without an answer is remembered: Linux `nf_conntrack_udp_timeout`.
const UNANSWERED: Duration = Duration::from_secs(30);
/// How long an answered one is: Linux `nf_conntrack_udp_timeout_stream`.
const ANSWERED: Duration = Duration::from_secs(120);

/// Where the datagrams of a flow go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Who sends, as the receiver sees it.
    pub source: Endpoint,
    /// Who receives.
    pub destination: Endpoint,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    flow: Flow,
    answered: bool,
    vanishes: Duration,
}

/// Flows by source and first destination.
#[derive(Debug, Default)]
pub struct Conntrack {
    flows: BTreeMap<(Endpoint, Endpoint), Kept>,
    /// From who answers and whom the answer goes to, to the flow.
    answers: BTreeMap<(Endpoint, Endpoint), (Endpoint, Endpoint)>,
    sweep_at: Duration,
}

impl Conntrack {
    /// Where a datagram of a known flow goes; the flow becomes young again.
    pub fn find(&mut self, source: Endpoint, destination: Endpoint, now: Duration) -> Option<Flow> {
        let kept = self.flows.get_mut(&(source, destination)).filter(|kept| kept.vanishes > now)?;
        kept.vanishes = now + if kept.answered { ANSWERED } else { UNANSWERED };
        Some(kept.flow)
    }

    /// Remembers a new flow.
    pub fn insert(&mut self, source: Endpoint, destination: Endpoint, flow: Flow, now: Duration) {
        self.sweep(now);
        self.forget(source, destination);
        self.answers.insert((flow.destination, flow.source), (source, destination));
        self.flows.insert((source, destination), Kept { flow, answered: false, vanishes: now + UNANSWERED });
    }

    /// The flow that a datagram `from` somebody `to` somebody answers: who gets it, and whom it seems to come from.
    pub fn answer(&mut self, from: Endpoint, to: Endpoint, now: Duration) -> Option<Flow> {
        let key = *self.answers.get(&(from, to))?;
        let kept = self.flows.get_mut(&key).filter(|kept| kept.vanishes > now)?;
        kept.answered = true;
        kept.vanishes = now + ANSWERED;
        Some(Flow { source: key.1, destination: key.0 })
    }

    /// Whether a port of the machine's address is in use as the source of a masqueraded flow.
    pub fn uses(&self, source: Endpoint, destination: Endpoint) -> bool {
        self.answers.contains_key(&(destination, source))
    }

    /// All that is remembered.
    pub fn list(&self, now: Duration) -> Vec<Connection> {
        let living = self.flows.iter().filter(|(_, kept)| kept.vanishes > now);
        living
            .map(|((source, destination), kept)| Connection {
                protocol: Protocol::Udp,
                source: *source,
                destination: *destination,
                answers_from: kept.flow.destination,
            })
            .collect()
    }

    /// Forgets a flow. A missing one is fine.
    pub fn forget(&mut self, source: Endpoint, destination: Endpoint) {
        if let Some(kept) = self.flows.remove(&(source, destination)) {
            self.answers.remove(&(kept.flow.destination, kept.flow.source));
        }
    }

    /// Takes out what has vanished, now and then.
    fn sweep(&mut self, now: Duration) {
        if now < self.sweep_at {
            return;
        }
        self.sweep_at = now + UNANSWERED;
        self.flows.retain(|_, kept| kept.vanishes > now);
        let flows = &self.flows;
        self.answers.retain(|_, key| flows.contains_key(key));
    }
}
