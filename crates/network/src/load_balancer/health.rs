//! Whether a node takes connections: what is asked, and what follows from the answers.
//!
//! A node is asked for `/healthz` at a port: that of its kube-proxy, or a service's own. One that failed twice is out,
//! one success brings it back. (Clouds ask alike, more seldom: cloud-provider-gcp providers/gce/gce.go asks each 8 s and
//! wants three failures.)

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use daruma_world::World;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Time between two checks of a target.
pub const EVERY: Duration = Duration::from_secs(2);
/// A target that has not answered after so long has failed.
pub const LIMIT: Duration = Duration::from_secs(1);
/// So many failures in a row put a target out.
const FAILURES: u32 = 2;
/// What is read of an answer: its first line is enough.
const ANSWER_MOST: usize = 64;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The node's address.
    pub address: Ipv4Addr,
    /// The port that tells.
    pub port: u16,
}

/// What is known of a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct State {
    checked: bool,
    up: bool,
    failures: u32,
}

impl State {
    /// Takes an answer in; gives whether the target is in or out now and was not before.
    pub fn note(&mut self, passed: bool) -> bool {
        let before = self.up;
        self.checked = true;
        self.failures = if passed { 0 } else { (self.failures + 1).min(FAILURES) };
        self.up = passed || (self.up && self.failures < FAILURES);
        self.up != before
    }

    /// It takes connections. One that was never asked does not.
    pub fn is_up(self) -> bool {
        self.up
    }
}

/// What is known of all targets.
#[derive(Debug, Default)]
pub struct States(BTreeMap<Target, State>);

impl States {
    /// Whether a target takes connections.
    pub fn is_up(&self, target: &Target) -> bool {
        self.0.get(target).is_some_and(|state| state.is_up())
    }

    /// Forgets all but `wanted`, and learns of those.
    pub fn keep(&mut self, wanted: &BTreeSet<Target>) {
        self.0.retain(|target, _| wanted.contains(target));
        for target in wanted {
            self.0.entry(*target).or_default();
        }
    }

    /// Targets to ask now: all, or those that were never asked.
    pub fn due(&self, all: bool) -> Vec<Target> {
        self.0.iter().filter(|(_, state)| all || !state.checked).map(|(target, _)| *target).collect()
    }

    /// Takes an answer in, as [`State::note`]; one of a forgotten target changes nothing.
    pub fn note(&mut self, target: &Target, passed: bool) -> bool {
        self.0.get_mut(target).is_some_and(|state| state.note(passed))
    }
}

/// Asks all of `targets` at once and tells each answer as it comes.
pub(super) async fn ask(world: &World, targets: Vec<Target>, mut told: impl FnMut(Target, bool)) {
    let mut answers: FuturesUnordered<_> =
        targets.into_iter().map(|target| async move { (target, passes(world, target).await) }).collect();
    while let Some((target, passed)) = answers.next().await {
        told(target, passed);
    }
}

async fn passes(world: &World, target: Target) -> bool {
    let answer = world.timeout(LIMIT, get_healthz(world, SocketAddr::from((target.address, target.port))));
    matches!(answer.await, Ok(Ok(true)))
}

async fn get_healthz(world: &World, at: SocketAddr) -> std::io::Result<bool> {
    let mut stream = world.net.connect(at).await?;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {at}\r\nUser-Agent: daruma-load-balancer\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while answer.len() < ANSWER_MOST && !answer.contains(&b'\n') {
        if stream.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    let status = std::str::from_utf8(&answer).unwrap_or_default().split(' ').nth(1);
    Ok(status == Some("200"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_failures_out_one_success_in() {
        for (answers, expected) in [
            ("", ""),
            ("-", "-"),
            ("--", "--"),
            ("+", "+"),
            ("+-", "++"),
            ("+--", "++-"),
            ("+-+-", "++++"),
            ("--+", "--+"),
            ("+---+--", "++--++-"),
        ] {
            let mut state = State::default();
            let shown: String = answers
                .chars()
                .map(|answer| {
                    let before = state.is_up();
                    assert_eq!(state.note(answer == '+'), state.is_up() != before);
                    if state.is_up() { '+' } else { '-' }
                })
                .collect();
            assert_eq!(shown, expected, "{answers}");
        }
    }

    #[test]
    fn only_new_targets_are_asked_between_rounds() {
        let target = |last| Target { address: Ipv4Addr::new(10, 0, 0, last), port: 10256 };
        let mut states = States::default();
        states.keep(&BTreeSet::from([target(1)]));
        assert!(states.note(&target(1), true) && !states.note(&target(2), true));
        states.keep(&BTreeSet::from([target(1), target(2)]));
        assert_eq!((states.due(false), states.due(true)), (vec![target(2)], vec![target(1), target(2)]));
        assert!(states.is_up(&target(1)) && !states.is_up(&target(2)));
        states.keep(&BTreeSet::from([target(2)]));
        assert!(!states.is_up(&target(1)));
    }
}
