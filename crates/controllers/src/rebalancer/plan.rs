//! Which pod to move next, and whether the last move was worth it. Pure but for its own memory.
//!
//! Every move that counts as good makes the spread strictly more even, and a workload whose move was not
//! good is left alone until its nodes or its template change: so moves come to an end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::{Node, Pod};
use daruma_api::meta::ObjectExt;
use jiff::Timestamp;

use super::spread::{Spread, has_room, is_eligible, rules};
use crate::pods::{self, since};

/// Rest after a move, and after a refusal.
pub const COOL_DOWN: Duration = Duration::from_secs(30);
/// How long a replacement may take to become ready.
pub const PATIENCE: Duration = Duration::from_secs(300);
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A Deployment and its pods.
#[derive(Debug, Clone)]
pub struct Workload {
    /// `namespace/name`.
    pub key: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// Whether all wanted pods are there, up to date and available.
    pub settled: bool,
    /// Its pods that have neither ended nor are being deleted.
    pub pods: Vec<Arc<Pod>>,
}

/// What is seen.
pub struct Seen<'a> {
    /// All nodes.
    pub nodes: &'a [Arc<Node>],
    /// All Deployments.
    pub workloads: &'a [Workload],
    /// The pods on a node, by its name.
    pub on_node: &'a dyn Fn(&str) -> Vec<Arc<Pod>>,
    /// Now.
    pub now: Timestamp,
}

/// One pod to be evicted.
#[derive(Debug, Clone, PartialEq)]
pub struct Move {
    /// Key of the workload.
    pub workload: String,
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its node.
    pub from: String,
    /// Why, for a person.
    pub why: String,
    spread: Spread,
    generation: i64,
    known: BTreeSet<String>,
}

/// What to do now.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Evict this pod, then call [`Memory::evicted`] or [`Memory::refused`].
    Evict(Box<Move>),
    /// The replacement (its pod) has not made things more even; its workload is left alone from now on.
    GaveUp(Arc<Pod>, String),
}

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub struct Memory {
    moving: Option<(Move, Timestamp)>,
    rest_until: Option<Timestamp>,
    /// Generation and nodes with which a move was of no use, by workload.
    given_up: BTreeMap<String, (i64, BTreeSet<String>)>,
}

impl Memory {
    /// The pod is being deleted.
    pub fn evicted(&mut self, done: Move, now: Timestamp) {
        self.moving = Some((done, now));
    }

    /// The eviction was refused, by a disruption budget most likely.
    pub fn refused(&mut self, now: Timestamp) {
        self.rest_until = Some(now + jiff::SignedDuration::try_from(COOL_DOWN).unwrap_or_default());
    }
}

/// Decides. At most one pod is on its way at a time.
pub fn plan(seen: &Seen<'_>, memory: &mut Memory) -> Option<Step> {
    if let Some((moving, began)) = memory.moving.take() {
        match arrival(seen, &moving, began) {
            Arrival::Waiting => {
                memory.moving = Some((moving, began));
                return None;
            }
            Arrival::Good => memory.refused(seen.now),
            Arrival::Useless(pod) => {
                memory.refused(seen.now);
                memory.given_up.insert(moving.workload.clone(), (moving.generation, moving.spread.nodes()));
                return pod.map(|pod| Step::GaveUp(pod, moving.workload));
            }
        }
    }
    if memory.rest_until.is_some_and(|until| seen.now < until) {
        return None;
    }
    memory.rest_until = None;
    let mut moves = Vec::new();
    for workload in seen.workloads.iter().filter(|workload| workload.settled) {
        let Some((next, skew)) = next_move(seen, workload) else { continue };
        let circumstances = (workload.generation, next.spread.nodes());
        if memory.given_up.get(&workload.key) != Some(&circumstances) {
            moves.push((skew, next));
        }
    }
    memory.given_up.retain(|key, _| seen.workloads.iter().any(|workload| workload.key == *key));
    // The most lopsided one first; of equals the first by key.
    let (_, next) = moves.into_iter().rev().max_by_key(|(skew, _)| *skew)?;
    memory.given_up.remove(&next.workload);
    Some(Step::Evict(Box::new(next)))
}

enum Arrival {
    Waiting,
    Good,
    Useless(Option<Arc<Pod>>),
}

fn arrival(seen: &Seen<'_>, moving: &Move, began: Timestamp) -> Arrival {
    let Some(workload) = seen.workloads.iter().find(|workload| workload.key == moving.workload) else { return Arrival::Good };
    let left = workload.pods.iter().all(|pod| pod.uid() != moving.pod.uid());
    let fresh = workload.pods.iter().find(|pod| !moving.known.contains(pod.uid()));
    match fresh {
        Some(pod) if left && workload.settled && pods::is_ready(pod) => {
            if moving.spread.is_better(&moving.from, pods::node_name(pod)) {
                Arrival::Good
            } else {
                Arrival::Useless(Some(pod.clone()))
            }
        }
        _ if workload.generation != moving.generation => Arrival::Good,
        _ if since(began, seen.now) > PATIENCE => Arrival::Useless(fresh.cloned()),
        _ => Arrival::Waiting,
    }
}

/// The pod of a workload that had better be elsewhere, and by how much it is lopsided.
fn next_move(seen: &Seen<'_>, workload: &Workload) -> Option<(Move, i32)> {
    let spec = workload.pods.first()?.spec.as_ref()?;
    let eligible: Vec<&Arc<Node>> = seen.nodes.iter().filter(|node| is_eligible(spec, node, seen.now)).collect();
    for rule in rules(spec) {
        let spread = Spread::of(rule, &eligible, &workload.pods);
        let Some((fullest, most)) = spread.fullest() else { continue };
        let is_in = |name: &str, value: &str| spread.domains.get(name).is_some_and(|domain| domain == value);
        let roomy = spread.emptier().into_iter().find(|(value, _)| {
            let mut nodes = eligible.iter().filter(|node| is_in(node.name(), value));
            nodes.any(|node| has_room(spec, node, &(seen.on_node)(node.name())))
        });
        let Some((emptier, least)) = roomy else { continue };
        let crowd: Vec<&Arc<Pod>> = workload.pods.iter().filter(|pod| is_in(pods::node_name(pod), fullest)).collect();
        let pod = (*crowd.iter().min_by_key(|pod| preference(pod, &crowd))?).clone();
        let why = format!(
            "Evicting a pod of Deployment {} so that it spreads again: {fullest} has {most} of its pods, {emptier} has {least}",
            workload.key
        );
        let next = Move {
            workload: workload.key.clone(),
            from: pods::node_name(&pod).to_owned(),
            pod,
            why,
            known: workload.pods.iter().map(|pod| pod.uid().to_owned()).collect(),
            generation: workload.generation,
            spread,
        };
        return Some((next, most - least));
    }
    None
}

/// The least goes: of the node with the most, the cheapest, the youngest, the first by name.
fn preference(pod: &Pod, crowd: &[&Arc<Pod>]) -> (std::cmp::Reverse<usize>, i32, std::cmp::Reverse<Option<Timestamp>>, String) {
    let together = crowd.iter().filter(|other| pods::node_name(other) == pods::node_name(pod)).count();
    let cost = pod.annotation(DELETION_COST).and_then(|cost| cost.parse().ok()).unwrap_or_default();
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (std::cmp::Reverse(together), cost, std::cmp::Reverse(created), pod.name().to_owned())
}
