//! The figures of a run: how fast things were noticed and mended, and what users missed. Pure.
//!
//! Every figure is defined where it is a field; the manual (`docs/drills.md`) says the same in a table.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::checks::{in_words, left_at, noticed_at};
use crate::history::{History, acts_on_machines, is_finished, is_leaving, mends, pod_at, stays_with_its_node, workload_of};
use crate::record::{AtMs, Entry, EntryKind, PodState, Record};

/// An Event may be seen so much later than what came of it.
const EVENT_LAG_MS: AtMs = 1000;

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Of each fault, in order.
    pub faults: Vec<FaultFigures>,
    /// Of each probe, by name.
    pub probes: Vec<ProbeFigures>,
    /// Of each workload outside of kube-system, by name.
    pub workloads: Vec<WorkloadFigures>,
}

/// What followed one fault. Times are milliseconds from the moment the fault was done.
///
/// A fault's own time ends when a machine it acts on is acted on again (by an undo or another fault), or with the
/// run; what is noticed later is not counted as noticing it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FaultFigures {
    /// Identity of its step.
    pub step: String,
    /// What was done, in words.
    pub text: String,
    /// When.
    pub at_ms: AtMs,
    /// Machines it acts on.
    pub machines: Vec<String>,
    /// Until the first of its machines was seen as not Ready, or with a condition of pressure that it did not have before;
    /// `None` when none was.
    pub detected_after_ms: Option<u64>,
    /// Until the first pod of its machines (DaemonSets, static pods and kube-system aside), or the pod it acts on,
    /// was Terminating or gone, or the Event was seen that its kubelet had evicted it.
    pub evicted_after_ms: Option<u64>,
    /// How many pods were evicted in its time.
    pub evicted_pods: u64,
    /// Until a pod that was made after the first eviction, of a workload that lost one, was available.
    pub replaced_after_ms: Option<u64>,
    /// Whether any workload fell below its desired available replicas before the next fault or change by the drill.
    pub fell: bool,
    /// Until every workload that fell had its desired available replicas again; `None` when it did not, or none fell.
    pub back_after_ms: Option<u64>,
    /// Until it was undone; `None` when it undid itself.
    pub undone_after_ms: Option<u64>,
}

/// What one probe met.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProbeFigures {
    /// Its name.
    pub probe: String,
    /// Requests sent.
    pub sent: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// How often failures began.
    pub outages: u64,
    /// The longest time from a failed request to the next answered one.
    pub longest_outage_ms: u64,
    /// How long the slowest answered request took.
    pub slowest_ms: u64,
}

/// How one workload fared.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadFigures {
    /// E.g. `default/deployment/web`.
    pub workload: String,
    /// Replicas asked for at the end.
    pub desired: u32,
    /// Fewest available replicas at any time.
    pub lowest: u32,
    /// Time with fewer available replicas than desired.
    pub unavailable_ms: u64,
    /// Time with no available replica, while some were desired.
    pub down_ms: u64,
    /// By how much RESTARTS of its pods rose, all together.
    pub restarts: u64,
    /// Pods on each node when the first fault came (or at the start).
    pub spread_before: String,
    /// Pods on each node at the end.
    pub spread_after: String,
}

/// One line for comparing runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Headline {
    /// The soonest detection after its fault.
    pub detected_after_ms: Option<u64>,
    /// The soonest replacement after its fault.
    pub replaced_after_ms: Option<u64>,
    /// The longest recovery after its fault; `None` when nothing fell or something did not come back.
    pub back_after_ms: Option<u64>,
    /// Whether everything that fell came back.
    pub recovered: bool,
    /// Unavailable time of all workloads together.
    pub unavailable_ms: u64,
    /// Failed requests of all probes together.
    pub failed_requests: u64,
}

impl Figures {
    /// Measures a run.
    pub fn of(record: &Record) -> Self {
        Self::of_history(&History::new(record))
    }

    /// Measures a run that is indexed already.
    pub fn of_history(history: &History<'_>) -> Self {
        Self { faults: faults(history), probes: probes(history), workloads: workloads(history) }
    }

    /// The run in one line.
    pub fn headline(&self) -> Headline {
        let faults = &self.faults;
        Headline {
            detected_after_ms: faults.iter().filter_map(|fault| fault.detected_after_ms).min(),
            replaced_after_ms: faults.iter().filter_map(|fault| fault.replaced_after_ms).min(),
            back_after_ms: faults.iter().filter_map(|fault| fault.back_after_ms).max(),
            recovered: faults.iter().all(|fault| !fault.fell || fault.back_after_ms.is_some()),
            unavailable_ms: self.workloads.iter().map(|workload| workload.unavailable_ms).sum(),
            failed_requests: self.probes.iter().map(|probe| probe.failed).sum(),
        }
    }
}

fn faults(history: &History<'_>) -> Vec<FaultFigures> {
    let mut steps: Vec<(&str, Vec<&Entry>)> = Vec::new();
    for entry in history.faults() {
        match steps.iter_mut().find(|(step, _)| *step == entry.step && !step.is_empty()) {
            Some((_, entries)) => entries.push(entry),
            None => steps.push((&entry.step, vec![entry])),
        }
    }
    // What a workload loses because it was scaled or restarted is no fault's doing.
    let changes = history
        .record
        .timeline
        .iter()
        .filter(|entry| entry.kind == EntryKind::Step && entry.about.contains('/') && acts_on_machines(entry));
    let starts: Vec<AtMs> = steps.iter().map(|(_, entries)| entries[0].at_ms).chain(changes.map(|entry| entry.at_ms)).collect();
    steps
        .iter()
        .map(|(step, entries)| {
            let at = entries[0].at_ms;
            let next_act = starts.iter().copied().filter(|start| *start > at).min().unwrap_or(history.end());
            one_fault(history, step, entries, next_act)
        })
        .collect()
}

fn one_fault(history: &History<'_>, step: &str, entries: &[&Entry], next_act: AtMs) -> FaultFigures {
    let first = entries[0];
    let at = first.at_ms;
    let of_machines = entries.iter().filter(|entry| acts_on_machines(entry));
    let machines: BTreeSet<&str> = of_machines.flat_map(|entry| entry.machines.iter().map(String::as_str)).collect();
    let single: BTreeSet<&str> =
        entries.iter().filter(|entry| !acts_on_machines(entry)).map(|entry| name_of(&entry.about)).collect();
    let again = history.record.timeline.iter().find(|entry| {
        let ours = entry.machines.iter().any(|machine| machines.contains(machine.as_str()));
        let undoes = mends(entry) && (ours || (!step.is_empty() && entry.step == step));
        let breaks = entry.kind == EntryKind::Fault && ours && entry.step != first.step;
        entry.at_ms >= at && (undoes || breaks)
    });
    let own_end = again.map_or(history.end(), |entry| entry.at_ms);

    let evictions = evictions(history, at);
    let (mut evicted, mut evicted_pods, mut bereft) = (None::<AtMs>, 0, BTreeSet::new());
    for states in history.pods() {
        // A pod that the fault itself deletes is gone at the very moment: what counts is what was right before.
        let Some(before) = pod_at(states, at.saturating_sub(1)) else { continue };
        let lost_its_node = machines.contains(before.node.as_str()) && !stays_with_its_node(before);
        if !(lost_its_node || single.contains(before.name.as_str())) || is_leaving(&before.status) {
            continue;
        }
        let told = evictions.get(before.name.as_str()).copied();
        if let Some(left) = left_at(states, at).into_iter().chain(told).min().filter(|left| *left <= own_end) {
            evicted = Some(evicted.map_or(left, |soonest| soonest.min(left)));
            evicted_pods += 1;
            bereft.extend(workload_of(before));
        }
    }
    let replaced = evicted.and_then(|evicted| {
        let successors = history.pods().filter(|states| {
            states[0].at_ms + EVENT_LAG_MS >= evicted
                && states[0].at_ms >= at
                && workload_of(states[0]).is_some_and(|workload| bereft.contains(&workload))
        });
        successors.filter_map(|states| states.iter().find(|state| state.available).map(|state| state.at_ms)).min()
    });

    let mut fell = false;
    let mut back = Some(at);
    for workload in history.applications() {
        let stretches = history.below_desired(workload, at, history.end());
        let Some(&(_, up)) = stretches.first().filter(|(down, _)| *down < next_act || next_act == history.end()) else {
            continue;
        };
        fell = true;
        let down_still = up >= history.end()
            && history.replicas_at(workload, history.end()).is_some_and(|state| state.available < state.desired);
        back = if down_still { None } else { back.map(|latest| latest.max(up)) };
    }

    let undone = again.filter(|entry| mends(entry));
    FaultFigures {
        step: step.to_owned(),
        text: first.text.clone(),
        at_ms: at,
        detected_after_ms: machines.iter().filter_map(|node| newly_detected(history, node, at, own_end)).min().map(|t| t - at),
        machines: machines.into_iter().map(str::to_owned).collect(),
        evicted_after_ms: evicted.map(|t| t - at),
        evicted_pods,
        replaced_after_ms: replaced.map(|t| t - at),
        fell,
        back_after_ms: back.filter(|_| fell).map(|t| t - at),
        undone_after_ms: undone.map(|entry| entry.at_ms - at),
    }
}

/// When the first Event after a moment said of a pod that its kubelet had evicted it; by the pod's name.
fn evictions<'a>(history: &History<'a>, from: AtMs) -> BTreeMap<&'a str, AtMs> {
    let mut found = BTreeMap::new();
    let told = history.record.timeline.iter().filter(|entry| entry.kind == EntryKind::Event && entry.reason == "Evicted");
    for entry in told.filter(|entry| entry.at_ms >= from) {
        found.entry(name_of(&entry.about)).or_insert(entry.at_ms);
    }
    found
}

/// `web-1` of `pod/default/web-1`.
fn name_of(about: &str) -> &str {
    about.rsplit('/').next().unwrap_or(about)
}

/// Detection of a fault: a node that was not Ready before says nothing about it.
fn newly_detected(history: &History<'_>, node: &str, from: AtMs, to: AtMs) -> Option<AtMs> {
    let was_ready =
        from.checked_sub(1).and_then(|before| history.node_at(node, before)).is_none_or(|state| state.ready == "True");
    noticed_at(history, node, from, to).filter(|_| was_ready)
}

fn probes(history: &History<'_>) -> Vec<ProbeFigures> {
    let one = |probe: &str| {
        let requests = history.requests(probe, 0, AtMs::MAX);
        let outages = history.outages(probe, 0, history.end().max(requests.last().map_or(0, |request| request.at_ms)));
        ProbeFigures {
            probe: probe.to_owned(),
            sent: requests.len() as u64,
            failed: requests.iter().filter(|request| request.error.is_some()).count() as u64,
            outages: outages.len() as u64,
            longest_outage_ms: outages.iter().map(crate::history::Outage::length_ms).max().unwrap_or(0),
            slowest_ms: requests.iter().filter(|r| r.error.is_none()).map(|request| request.took_ms).max().unwrap_or(0),
        }
    };
    history.probes().map(one).collect()
}

fn workloads(history: &History<'_>) -> Vec<WorkloadFigures> {
    let first_fault = history.faults().next().map_or(0, |entry| entry.at_ms.saturating_sub(1));
    let (before, after) = (spreads(history, first_fault), spreads(history, history.end()));
    let mut restarts: BTreeMap<String, u64> = BTreeMap::new();
    for states in history.pods() {
        let (first, last) = (states[0], states.iter().map(|state| state.restarts).max().unwrap_or(0));
        // A pod that was there when the record began brings its restarts with it.
        let brought = if first.at_ms == 0 { first.restarts } else { 0 };
        if let Some(workload) = workload_of(first) {
            *restarts.entry(workload).or_default() += u64::from(last.saturating_sub(brought));
        }
    }
    let total = |stretches: Vec<(AtMs, AtMs)>| stretches.iter().map(|(from, to)| to - from).sum();
    history
        .applications()
        .map(|workload| {
            let spans = history.replicas(workload, 0, history.end());
            let wanted: Vec<_> = spans.iter().filter(|span| span.desired > 0).collect();
            WorkloadFigures {
                workload: workload.to_owned(),
                desired: spans.last().map_or(0, |span| span.desired),
                lowest: spans.iter().map(|span| span.available).min().unwrap_or(0),
                unavailable_ms: total(history.below_desired(workload, 0, history.end())),
                down_ms: wanted.iter().filter(|span| span.available == 0).map(|span| span.to_ms - span.from_ms).sum(),
                restarts: restarts.get(workload).copied().unwrap_or(0),
                spread_before: before.get(workload).cloned().unwrap_or_default(),
                spread_after: after.get(workload).cloned().unwrap_or_default(),
            }
        })
        .collect()
}

/// Spread of every workload at a moment, in words; one pass over all pods.
fn spreads(history: &History<'_>, at_ms: AtMs) -> BTreeMap<String, String> {
    /// Above so many nodes, zeros are not written out.
    const FEW: usize = 8;
    let eligible = history.eligible_nodes(at_ms);
    let mut counts: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    let counts_here = |pod: &&PodState| !pod.node.is_empty() && !is_finished(&pod.status) && !is_leaving(&pod.status);
    for pod in history.pods_at(at_ms).filter(counts_here) {
        if let Some(workload) = workload_of(pod) {
            *counts.entry(workload).or_default().entry(pod.node.clone()).or_default() += 1;
        }
    }
    counts
        .into_iter()
        .map(|(workload, mut counts)| {
            if eligible.len() <= FEW {
                for node in &eligible {
                    counts.entry((*node).to_owned()).or_default();
                }
                return (workload, in_words(&counts));
            }
            let used = counts.len();
            let most = counts.values().copied().max().unwrap_or(0);
            (workload, format!("on {used} of {} nodes, at most {most} on one", eligible.len()))
        })
        .collect()
}
