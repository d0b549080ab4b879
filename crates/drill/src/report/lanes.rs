//! Which nodes and pods get a lane of their own in the picture, and how the others are counted. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{DELETED, History, acts_on_machines, mends, stays_with_its_node};
use crate::record::{AtMs, Entry, EntryKind, NodeState, PodState};

/// Lanes of single nodes at most; with so many nodes or fewer, each has one.
const MOST_LANES: usize = 24;
/// Lanes of nodes that went the same way, when not all nodes have one.
const MOST_ALIKE: usize = 5;
/// So many pods of a lane, or fewer, are each drawn for themselves.
const FEW_PODS: usize = 8;
/// Rows of pods in one lane at most.
const MOST_ROWS: usize = 14;

/// A stretch of time in one colour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub from_ms: AtMs,
    pub to_ms: AtMs,
    /// CSS class.
    pub class: &'static str,
    /// What may be written into it.
    pub label: String,
    /// What the pointer is told.
    pub tip: String,
}

/// One node with its pods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Lane {
    pub node: String,
    pub zone: String,
    /// What was really done to the machine.
    pub broken: Vec<Segment>,
    /// What the cluster thought of the node.
    pub states: Vec<Segment>,
    /// Pods, several in a row where they follow each other.
    pub rows: Vec<Vec<Segment>>,
}

/// Nodes that have no lane of their own, by zone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Group {
    pub title: String,
    /// Their names.
    pub nodes: BTreeSet<String>,
}

/// Everything that is drawn by node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Lanes {
    pub lanes: Vec<Lane>,
    pub groups: Vec<Group>,
    /// What was left out, in sentences.
    pub left_out: Vec<String>,
}

impl Lanes {
    pub(super) fn of(history: &History<'_>) -> Self {
        let mut lanes = Self::default();
        let all: Vec<&str> = history.nodes().collect();
        let chosen = if all.len() <= MOST_LANES { all.iter().copied().collect() } else { choose(history, &all) };
        lanes.groups = groups(history, all.iter().filter(|node| !chosen.contains(**node)).copied());
        if chosen.len() < all.len() {
            lanes.left_out.push(format!(
                "{} of {} nodes have a lane: up to {MOST_ALIKE} of those that went the same way, the first to change first. \
                 The others are counted in the rows of their zones.",
                chosen.len(),
                all.len()
            ));
        }
        let mut pods = pods_by_node(history, &chosen);
        let mut hidden = 0;
        let mut in_order: Vec<&str> = chosen.iter().copied().collect();
        in_order.sort_by_key(|node| natural(node));
        for node in in_order {
            let (lane, left_out) = lane(history, node, pods.remove(node).unwrap_or_default());
            hidden += left_out;
            lanes.lanes.push(lane);
        }
        if let Some(pods) = pods.remove("") {
            let (rows, left_out) = rows(history, pods);
            hidden += left_out;
            lanes.lanes.push(Lane { node: "(no node)".to_owned(), rows, ..Lane::default() });
        }
        if hidden > 0 {
            lanes.left_out.push(format!(
                "{hidden} pods of these nodes are not drawn: pods of kube-system and of DaemonSets to which nothing happened, \
                 and what goes beyond {MOST_ROWS} rows a node."
            ));
        }
        lanes
    }
}

/// `worker-2` comes before `worker-10`.
fn natural(name: &str) -> (String, u64) {
    let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (stem, number) = name.split_at(name.len() - digits);
    (stem.to_owned(), number.parse().unwrap_or(0))
}

/// Nodes worth a lane among many: those that changed or were acted on, a few of each sort.
fn choose<'a>(history: &History<'a>, all: &[&'a str]) -> BTreeSet<&'a str> {
    let hit: BTreeSet<&str> = history.faults().flat_map(|entry| entry.machines.iter().map(String::as_str)).collect();
    let mut changed: Vec<(AtMs, &str)> = all
        .iter()
        .filter_map(|node| {
            let states = history.node_states(node);
            let first_change = states.windows(2).find(|pair| shape(pair[0]) != shape(pair[1])).map(|pair| pair[1].at_ms);
            first_change.or(hit.contains(node).then_some(AtMs::MAX)).map(|at| (at, *node))
        })
        .collect();
    changed.sort_unstable();
    let mut alike: BTreeMap<String, usize> = BTreeMap::new();
    let mut chosen = BTreeSet::new();
    for (_, node) in changed {
        let path: Vec<String> = history.node_states(node).iter().map(|state| shape(state)).collect();
        let seen = alike.entry(path.join(">")).or_default();
        *seen += 1;
        if *seen <= MOST_ALIKE && chosen.len() < MOST_LANES {
            chosen.insert(node);
        }
    }
    chosen
}

fn shape(state: &NodeState) -> String {
    format!("{} {} {} {}", state.ready, state.taints.join(","), state.pressure.join(","), state.unschedulable)
}

fn groups<'a>(history: &History<'_>, nodes: impl Iterator<Item = &'a str>) -> Vec<Group> {
    let mut by_zone: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for node in nodes {
        let zone = history.node_states(node).last().map_or("", |state| state.zone.as_str());
        by_zone.entry(zone).or_default().insert(node.to_owned());
    }
    let titled = |(zone, nodes): (&str, BTreeSet<String>)| Group {
        title: if zone.is_empty() { "other nodes".to_owned() } else { format!("zone {zone}") },
        nodes,
    };
    by_zone.into_iter().map(titled).collect()
}

type States<'a> = Vec<&'a PodState>;

/// Pods by the node they ended on, of chosen nodes and of none (``).
fn pods_by_node<'a>(history: &History<'a>, chosen: &BTreeSet<&str>) -> BTreeMap<&'a str, Vec<States<'a>>> {
    let mut by_node: BTreeMap<&str, Vec<States<'_>>> = BTreeMap::new();
    for states in history.pods() {
        let node = states.iter().rev().map(|state| state.node.as_str()).find(|node| !node.is_empty()).unwrap_or("");
        if node.is_empty() || chosen.contains(node) {
            by_node.entry(node).or_default().push(states.to_vec());
        }
    }
    by_node
}

fn lane(history: &History<'_>, node: &str, pods: Vec<States<'_>>) -> (Lane, usize) {
    let states = history.node_states(node);
    let segments = states.iter().enumerate().map(|(index, state)| {
        let to = states.get(index + 1).map_or(history.end(), |next| next.at_ms);
        node_segment(state, to)
    });
    let (rows, left_out) = rows(history, pods);
    let lane = Lane {
        node: node.to_owned(),
        zone: states.last().map_or(String::new(), |state| state.zone.clone()),
        broken: broken(history, node),
        states: segments.filter(|segment| segment.class != "gone").collect(),
        rows,
    };
    (lane, left_out)
}

fn node_segment(state: &NodeState, to_ms: AtMs) -> Segment {
    let troubled = !state.taints.iter().all(|taint| taint.starts_with("node-role.kubernetes.io/"))
        || !state.pressure.is_empty()
        || state.unschedulable;
    let (class, label) = match state.ready.as_str() {
        "True" if troubled => ("n-taint", "Ready, tainted"),
        "True" => ("n-ready", "Ready"),
        DELETED => ("gone", ""),
        _ if state.taints.iter().any(|taint| taint.ends_with(":NoExecute")) => ("n-evict", "NotReady, NoExecute"),
        _ => ("n-lost", "NotReady"),
    };
    let mut tip = format!("{}: {label} (Ready {})", state.node, state.ready);
    for (title, list) in [("taints", &state.taints), ("pressure", &state.pressure)] {
        if !list.is_empty() {
            tip.push_str(&format!("\n{title}: {}", list.join(", ")));
        }
    }
    if state.unschedulable {
        tip.push_str("\ncordoned");
    }
    Segment { from_ms: state.at_ms, to_ms, class, label: label.to_owned(), tip }
}

/// From each fault on a machine to what took it back; one that takes itself back (a reset) ends when the kubelet says so.
/// What nothing takes back, and leaves the node Ready, was over at once (a killed program).
fn broken(history: &History<'_>, node: &str) -> Vec<Segment> {
    let about = format!("node/{node}");
    let ends_it = |entry: &Entry| match entry.kind {
        EntryKind::Fault | EntryKind::Undo => acts_on_machines(entry) && entry.machines.iter().any(|machine| machine == node),
        EntryKind::Event => entry.reason == "Rebooted" && entry.about == about,
        _ => false,
    };
    let acts: Vec<_> = history.record.timeline.iter().filter(|entry| ends_it(entry)).collect();
    let mut segments = Vec::new();
    for (index, fault) in acts.iter().enumerate().filter(|(_, entry)| entry.kind == EntryKind::Fault && !mends(entry)) {
        let lost = || history.node_at(node, history.end()).is_some_and(|state| state.ready != "True");
        let to_ms = match acts.get(index + 1) {
            Some(next) if next.kind == EntryKind::Event || mends(next) => next.at_ms,
            None if lost() => history.end(),
            _ => fault.at_ms,
        };
        let label = if fault.step.is_empty() { fault.text.clone() } else { fault.step.clone() };
        let tip = format!("{node}, in truth: {}", fault.text);
        segments.push(Segment { from_ms: fault.at_ms, to_ms, class: "broken", label, tip });
    }
    segments
}

/// Packs pods into rows: one that begins after another has ended shares its row.
fn rows(history: &History<'_>, mut pods: Vec<States<'_>>) -> (Vec<Vec<Segment>>, usize) {
    let all = pods.len();
    pods.retain(|states| !stays_with_its_node(states[0]) || states.windows(2).any(|pair| differs(pair[0], pair[1])));
    pods.sort_by(|a, b| (a[0].at_ms, &a[0].namespace, &a[0].name).cmp(&(b[0].at_ms, &b[0].namespace, &b[0].name)));
    let mut rows: Vec<(AtMs, Vec<Segment>)> = Vec::new();
    let mut drawn = 0;
    for (segments, count) in together(history, &pods) {
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else { continue };
        let (from, to) = (first.from_ms, last.to_ms);
        match rows.iter().position(|(until, _)| *until <= from) {
            Some(free) => {
                rows[free].0 = to;
                rows[free].1.extend(segments);
            }
            None if rows.len() < MOST_ROWS => rows.push((to, segments)),
            None => continue,
        }
        drawn += count;
    }
    (rows.into_iter().map(|(_, row)| row).collect(), all - drawn)
}

/// Segments of each pod, with how many pods they stand for: where there are many, those that went the same way at
/// the same time (as far as a picture can show) are one.
fn together(history: &History<'_>, pods: &[States<'_>]) -> Vec<(Vec<Segment>, usize)> {
    let mut all: Vec<_> = pods.iter().map(|states| (pod_segments(states, history.end()), 1)).collect();
    if pods.len() <= FEW_PODS {
        return all;
    }
    let grain = (history.end() / 300).max(1);
    let mut first: BTreeMap<Vec<(&'static str, u64, u64)>, usize> = BTreeMap::new();
    let mut kept: Vec<(Vec<Segment>, usize)> = Vec::new();
    for (segments, _) in all.drain(..) {
        let way = segments.iter().map(|segment| (segment.class, segment.from_ms / grain, segment.to_ms / grain)).collect();
        let place = *first.entry(way).or_insert(kept.len());
        match kept.get_mut(place) {
            Some((_, count)) => *count += 1,
            None => kept.push((segments, 1)),
        }
    }
    for (segments, count) in kept.iter_mut().filter(|(_, count)| *count > 1) {
        for segment in segments {
            segment.label = format!("{count} × {}", segment.label);
            segment.tip = format!("{count} pods like {}", segment.tip);
        }
    }
    kept
}

fn differs(a: &PodState, b: &PodState) -> bool {
    (&a.status, a.available, a.restarts) != (&b.status, b.available, b.restarts)
}

fn pod_segments(states: &[&PodState], end: AtMs) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    for (index, state) in states.iter().enumerate() {
        if state.status == DELETED {
            break;
        }
        let to_ms = states.get(index + 1).map_or(end, |next| next.at_ms);
        let class = pod_class(&state.status, state.available);
        let ip = if state.ip.is_empty() { "<none>" } else { &state.ip };
        let tip = format!(
            "{}: {}/{} {} {}{}\n{ip} on {}",
            state.name,
            state.ready,
            state.containers,
            state.status,
            state.restarts,
            if state.available || class != "p-unready" { "" } else { ", condition Ready is False: no endpoint" },
            if state.node.is_empty() { "no node" } else { &state.node },
        );
        match segments.last_mut() {
            Some(last) if last.class == class && last.tip == tip => last.to_ms = to_ms,
            _ => segments.push(Segment { from_ms: state.at_ms, to_ms, class, label: state.status.clone(), tip }),
        }
    }
    segments
}

/// CSS class of a pod's STATUS.
pub(super) fn pod_class(status: &str, available: bool) -> &'static str {
    match status {
        "Running" if available => "p-ok",
        "Running" => "p-unready",
        "Pending" | "SchedulingGated" => "p-wait",
        "ContainerCreating" | "PodInitializing" => "p-make",
        init if init.starts_with("Init:") && !init.contains("Err") && !init.contains("Crash") => "p-make",
        "Terminating" => "p-end",
        "Completed" | "Succeeded" => "p-done",
        _ => "p-bad",
    }
}
