//! A record, indexed: what was true when. Pure; checks, figures and reports ask it.

use std::collections::{BTreeMap, BTreeSet};

use crate::file::Workload;
use crate::record::{AtMs, Entry, EntryKind, NodeState, PodState, Record, ReplicaState, Request};

/// STATUS of a pod, and value of a node's Ready, once the object is gone.
pub const DELETED: &str = "Deleted";

/// Index of a [`Record`]. Building it is linear in the record; make one and ask it often.
pub struct History<'a> {
    /// What is indexed.
    pub record: &'a Record,
    pods: BTreeMap<&'a str, Vec<&'a PodState>>,
    nodes: BTreeMap<&'a str, Vec<&'a NodeState>>,
    replicas: BTreeMap<&'a str, Vec<&'a ReplicaState>>,
    requests: BTreeMap<&'a str, Vec<&'a Request>>,
}

/// A stretch of time in which a workload's replicas stayed as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaSpan {
    /// Begins.
    pub from_ms: AtMs,
    /// Ends.
    pub to_ms: AtMs,
    /// Asked for.
    pub desired: u32,
    /// Available.
    pub available: u32,
}

/// A run of failed requests of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// When the first of them was sent.
    pub from_ms: AtMs,
    /// When the next answered request was sent; the end of the window where none was.
    pub to_ms: AtMs,
    /// How many failed.
    pub failed: u64,
    /// What the first of them met.
    pub error: String,
}

impl Outage {
    /// How long it lasted.
    pub fn length_ms(&self) -> u64 {
        self.to_ms.saturating_sub(self.from_ms)
    }
}

impl<'a> History<'a> {
    /// Indexes a record.
    pub fn new(record: &'a Record) -> Self {
        let mut history =
            Self { record, pods: BTreeMap::new(), nodes: BTreeMap::new(), replicas: BTreeMap::new(), requests: BTreeMap::new() };
        for state in &record.pods {
            history.pods.entry(&state.uid).or_default().push(state);
        }
        for state in &record.nodes {
            history.nodes.entry(&state.node).or_default().push(state);
        }
        for state in &record.replicas {
            history.replicas.entry(&state.workload).or_default().push(state);
        }
        for request in &record.requests {
            history.requests.entry(&request.probe).or_default().push(request);
        }
        for requests in history.requests.values_mut() {
            requests.sort_by_key(|request| request.at_ms);
        }
        history
    }

    /// End of the run.
    pub fn end(&self) -> AtMs {
        self.record.took_ms
    }

    /// When a step began.
    ///
    /// # Errors
    /// In words, when it was never reached.
    pub fn moment(&self, step: &str) -> Result<AtMs, String> {
        let entry = self.record.timeline.iter().find(|entry| entry.step == step);
        entry.map(|entry| entry.at_ms).ok_or_else(|| match &self.record.aborted {
            Some(why) => format!("step {step} was never reached: the run ended early, {why}"),
            None => format!("step {step} was never reached"),
        })
    }

    /// From one step (or the beginning) to another (or the end).
    ///
    /// # Errors
    /// In words, when one of them was never reached or they are the wrong way round.
    pub fn window(&self, after: Option<&str>, until: Option<&str>) -> Result<(AtMs, AtMs), String> {
        let from = after.map_or(Ok(0), |step| self.moment(step))?;
        let to = until.map_or(Ok(self.end()), |step| self.moment(step))?;
        if to < from {
            return Err(format!("step {} came before step {}", until.unwrap_or("(the end)"), after.unwrap_or("(the beginning)")));
        }
        Ok((from, to))
    }

    /// Machines that a step's faults act on.
    pub fn machines_of(&self, step: &str) -> BTreeSet<&'a str> {
        let of_step = self
            .record
            .timeline
            .iter()
            .filter(|entry| entry.step == step && entry.kind == EntryKind::Fault && acts_on_machines(entry));
        of_step.flat_map(|entry| entry.machines.iter().map(String::as_str)).collect()
    }

    /// Lines of the timeline that are faults, in order; those that only take others back are none.
    pub fn faults(&self) -> impl Iterator<Item = &'a Entry> {
        self.record.timeline.iter().filter(|entry| entry.kind == EntryKind::Fault && !mends(entry))
    }

    /// Names of nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &'a str> {
        self.nodes.keys().copied()
    }

    /// States of a node, in order.
    pub fn node_states(&self, node: &str) -> &[&'a NodeState] {
        self.nodes.get(node).map_or(&[], Vec::as_slice)
    }

    /// State of a node at a moment; `None` before it was there.
    pub fn node_at(&self, node: &str, at_ms: AtMs) -> Option<&'a NodeState> {
        at(self.node_states(node), at_ms, |state| state.at_ms)
    }

    /// Nodes that could take a pod without tolerations at a moment, ordered.
    pub fn eligible_nodes(&self, at_ms: AtMs) -> BTreeSet<&'a str> {
        let fit = |state: &NodeState| {
            let tainted = state.taints.iter().any(|taint| taint.ends_with(":NoSchedule") || taint.ends_with(":NoExecute"));
            state.ready == "True" && !state.unschedulable && !tainted
        };
        self.nodes().filter(|node| self.node_at(node, at_ms).is_some_and(fit)).collect()
    }

    /// States of every pod, in order, by uid.
    pub fn pods(&self) -> impl Iterator<Item = &[&'a PodState]> {
        self.pods.values().map(Vec::as_slice)
    }

    /// State of every pod that exists at a moment.
    pub fn pods_at(&self, at_ms: AtMs) -> impl Iterator<Item = &'a PodState> {
        self.pods().filter_map(move |states| pod_at(states, at_ms))
    }

    /// Names of workloads as [`ReplicaState`] has them.
    pub fn workloads(&self) -> impl Iterator<Item = &'a str> {
        self.replicas.keys().copied()
    }

    /// Workloads of applications: those outside of `kube-system`.
    pub fn applications(&self) -> impl Iterator<Item = &'a str> {
        self.workloads().filter(|workload| !workload.starts_with("kube-system/"))
    }

    /// One workload, or all those of applications.
    ///
    /// # Errors
    /// In words, when nothing was recorded of it.
    pub fn select(&self, workload: Option<&Workload>) -> Result<Vec<&'a str>, String> {
        match workload {
            None => {
                let all: Vec<_> = self.applications().collect();
                if all.is_empty() { Err("no workload was seen".to_owned()) } else { Ok(all) }
            }
            Some(workload) => match self.replicas.get_key_value(workload.to_string().as_str()) {
                Some((name, _)) => Ok(vec![name]),
                None => Err(format!("workload {workload} was never seen")),
            },
        }
    }

    /// How a workload's replicas went within a window.
    pub fn replicas(&self, workload: &str, from_ms: AtMs, to_ms: AtMs) -> Vec<ReplicaSpan> {
        let states = self.replicas.get(workload).map_or(&[][..], Vec::as_slice);
        let mut spans = Vec::new();
        for (index, state) in states.iter().enumerate() {
            let from = state.at_ms.max(from_ms);
            let to = states.get(index + 1).map_or(self.end().max(to_ms), |next| next.at_ms).min(to_ms);
            if from < to || (from == to && to == to_ms && index + 1 == states.len()) {
                spans.push(ReplicaSpan { from_ms: from, to_ms: to, desired: state.desired, available: state.available });
            }
        }
        spans
    }

    /// Replicas of a workload at a moment.
    pub fn replicas_at(&self, workload: &str, at_ms: AtMs) -> Option<&'a ReplicaState> {
        at(self.replicas.get(workload)?, at_ms, |state| state.at_ms)
    }

    /// Stretches in which a workload had fewer available replicas than it asked for.
    pub fn below_desired(&self, workload: &str, from_ms: AtMs, to_ms: AtMs) -> Vec<(AtMs, AtMs)> {
        merged(self.replicas(workload, from_ms, to_ms), |span| span.available < span.desired)
    }

    /// Stretches in which a workload had fewer available replicas than a number.
    pub fn below(&self, workload: &str, least: u32, from_ms: AtMs, to_ms: AtMs) -> Vec<(AtMs, AtMs)> {
        merged(self.replicas(workload, from_ms, to_ms), |span| span.available < least)
    }

    /// Names of probes that sent requests.
    pub fn probes(&self) -> impl Iterator<Item = &'a str> {
        self.requests.keys().copied()
    }

    /// Requests of a probe that were sent within a window (its end included), in order.
    pub fn requests(&self, probe: &str, from_ms: AtMs, to_ms: AtMs) -> &[&'a Request] {
        let all = self.requests.get(probe).map_or(&[][..], Vec::as_slice);
        let first = all.partition_point(|request| request.at_ms < from_ms);
        let last = all.partition_point(|request| request.at_ms <= to_ms);
        &all[first..last.max(first)]
    }

    /// Runs of failed requests of a probe within a window.
    pub fn outages(&self, probe: &str, from_ms: AtMs, to_ms: AtMs) -> Vec<Outage> {
        let mut outages = Vec::new();
        let mut open: Option<Outage> = None;
        for request in self.requests(probe, from_ms, to_ms) {
            match (&request.error, &mut open) {
                (Some(_), Some(outage)) => outage.failed += 1,
                (Some(error), None) => {
                    open = Some(Outage { from_ms: request.at_ms, to_ms, failed: 1, error: error.clone() });
                }
                (None, _) => {
                    if let Some(mut outage) = open.take() {
                        outage.to_ms = request.at_ms;
                        outages.push(outage);
                    }
                }
            }
        }
        outages.extend(open);
        outages
    }
}

/// Whether a fault or undo is one of machines; one of a single pod is told by what it is about.
pub fn acts_on_machines(entry: &Entry) -> bool {
    !entry.about.starts_with("pod/")
}

/// Whether it takes a fault back: an undo, or a fault whose sense is that.
pub fn mends(entry: &Entry) -> bool {
    let by_name = ["power-on", "resume", "mend"]
        .iter()
        .any(|name| entry.text.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':')));
    entry.kind == EntryKind::Undo || (entry.kind == EntryKind::Fault && by_name)
}

/// Full name of a pod's workload; `None` where it has none.
pub fn workload_of(pod: &PodState) -> Option<String> {
    (!pod.workload.is_empty()).then(|| format!("{}/{}", pod.namespace, pod.workload))
}

/// Whether the node controllers would never evict it: pods of DaemonSets tolerate a dead node, static pods
/// belong to their node, and kube-system is not what a drill is about.
pub fn stays_with_its_node(pod: &PodState) -> bool {
    pod.workload.starts_with("daemonset/") || pod.workload.starts_with("node/") || pod.namespace == "kube-system"
}

/// State of one pod at a moment; `None` before it was there and once it is gone.
pub fn pod_at<'a>(states: &[&'a PodState], at_ms: AtMs) -> Option<&'a PodState> {
    at(states, at_ms, |state| state.at_ms).filter(|state| state.status != DELETED)
}

/// Whether STATUS says that a pod has ended and stays so, e.g. one that its kubelet has evicted.
pub fn is_finished(status: &str) -> bool {
    matches!(status, "Completed" | "Evicted" | "Failed" | "Succeeded")
}

/// Whether a STATUS says that the pod is on its way out or gone.
pub fn is_leaving(status: &str) -> bool {
    status == "Terminating" || status == DELETED
}

fn at<'a, T>(states: &[&'a T], at_ms: AtMs, when: impl Fn(&T) -> AtMs) -> Option<&'a T> {
    let after = states.partition_point(|state| when(state) <= at_ms);
    after.checked_sub(1).map(|index| states[index])
}

fn merged(spans: Vec<ReplicaSpan>, counts: impl Fn(&ReplicaSpan) -> bool) -> Vec<(AtMs, AtMs)> {
    let mut stretches: Vec<(AtMs, AtMs)> = Vec::new();
    for span in spans.into_iter().filter(counts) {
        match stretches.last_mut() {
            Some(last) if last.1 == span.from_ms => last.1 = span.to_ms,
            _ => stretches.push((span.from_ms, span.to_ms)),
        }
    }
    stretches
}
