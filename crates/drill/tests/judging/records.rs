//! A hand that writes records: states of nodes, pods and replicas, with the time set as one goes.

use daruma_drill::WorldKind;
use daruma_drill::record::{Entry, EntryKind, NodeState, PodState, Record, ReplicaState, Request};

/// Writes a record at a moving point of time.
pub struct Pen {
    pub record: Record,
    now: u64,
}

impl Pen {
    pub fn new(drill: &str) -> Self {
        let started = "2026-11-24T09:00:00Z".parse().unwrap();
        Self { record: Record::new(drill, WorldKind::Sim, Some(7), started), now: 0 }
    }

    /// Sets the time, in seconds.
    pub fn at(&mut self, seconds: f64) -> &mut Self {
        self.now = (seconds * 1000.0).round() as u64;
        self
    }

    fn entry(&mut self, kind: EntryKind, who: &str, about: &str, text: &str) -> &mut Entry {
        self.record.timeline.push(Entry::new(self.now, kind, who, about, text));
        self.record.timeline.last_mut().unwrap()
    }

    pub fn fault(&mut self, step: &str, about: &str, text: &str, machines: &[&str]) -> &mut Self {
        let entry = self.entry(EntryKind::Fault, "drill", about, text);
        step.clone_into(&mut entry.step);
        entry.machines = machines.iter().map(|machine| (*machine).to_owned()).collect();
        self
    }

    pub fn undo(&mut self, step: &str, about: &str, text: &str, machines: &[&str]) -> &mut Self {
        let entry = self.entry(EntryKind::Undo, "drill", about, text);
        step.clone_into(&mut entry.step);
        entry.machines = machines.iter().map(|machine| (*machine).to_owned()).collect();
        self
    }

    pub fn step(&mut self, step: &str, kind: EntryKind, text: &str) -> &mut Self {
        step.clone_into(&mut self.entry(kind, "drill", "", text).step);
        self
    }

    pub fn event(&mut self, who: &str, about: &str, reason: &str, text: &str) -> &mut Self {
        reason.clone_into(&mut self.entry(EntryKind::Event, who, about, text).reason);
        self
    }

    pub fn node(&mut self, name: &str, ready: &str, taints: &[&str]) -> &mut Self {
        let old = self.record.nodes.iter().rev().find(|state| state.node == name).map(|state| state.ready.clone());
        if let Some(old) = old.filter(|old| old != ready) {
            self.entry(EntryKind::Change, "node-controller", &format!("node/{name}"), &format!("Ready {old} → {ready}"));
        }
        self.node_in(name, ready, taints, "")
    }

    /// A node's state with its zone, without a line in the timeline.
    pub fn node_in(&mut self, name: &str, ready: &str, taints: &[&str], zone: &str) -> &mut Self {
        self.record.nodes.push(NodeState {
            at_ms: self.now,
            node: name.to_owned(),
            ready: ready.to_owned(),
            taints: taints.iter().map(|taint| (*taint).to_owned()).collect(),
            pressure: Vec::new(),
            unschedulable: false,
            zone: zone.to_owned(),
        });
        self
    }

    /// A pod's state; what is not said stays as it was.
    pub fn pod(&mut self, name: &str, change: impl FnOnce(&mut PodState)) -> &mut Self {
        let last = self.record.pods.iter().rev().find(|state| state.name == name).cloned();
        let mut state = last.clone().unwrap_or_else(|| PodState {
            at_ms: 0,
            uid: format!("uid-{name}"),
            namespace: "default".to_owned(),
            name: name.to_owned(),
            workload: "deployment/kubernetes-bootcamp".to_owned(),
            node: String::new(),
            status: "Pending".to_owned(),
            ready: 0,
            containers: 1,
            available: false,
            restarts: 0,
            ip: String::new(),
        });
        state.at_ms = self.now;
        change(&mut state);
        let before = last.map_or_else(String::new, |last| last.status);
        if before != state.status && self.now > 0 {
            let text = if before.is_empty() { state.status.clone() } else { format!("{before} → {}", state.status) };
            self.entry(EntryKind::Change, "kubelet", &format!("pod/{name}"), &text);
        }
        self.record.pods.push(state);
        self
    }

    pub fn replicas(&mut self, workload: &str, desired: u32, available: u32) -> &mut Self {
        self.record.replicas.push(ReplicaState { at_ms: self.now, workload: workload.to_owned(), desired, available });
        self
    }

    /// A probe's requests, one a `every_ms` from one second to another; `error` of a request by its time.
    pub fn requests(
        &mut self,
        probe: &str,
        seconds: (f64, f64),
        every_ms: u64,
        error: impl Fn(u64) -> Option<&'static str>,
    ) -> &mut Self {
        let (from, to) = ((seconds.0 * 1000.0) as u64, (seconds.1 * 1000.0) as u64);
        for at_ms in (from..to).step_by(every_ms as usize) {
            let error = error(at_ms).map(str::to_owned);
            let took_ms = if error.is_some() { 1000 } else { 2 + at_ms % 7 };
            self.record.requests.push(Request { at_ms, probe: probe.to_owned(), took_ms, error, by: String::new() });
        }
        self
    }

    pub fn end(mut self, seconds: f64) -> Record {
        self.record.took_ms = (seconds * 1000.0) as u64;
        self.record
    }
}
