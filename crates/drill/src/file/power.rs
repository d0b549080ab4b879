//! Follows the power of machines through a drill's steps, to find steps that contradict each other.
//!
//! Only what is certain counts: after a step that the cluster itself may have answered, nothing is known any more.

use std::collections::{BTreeMap, BTreeSet};

use super::{ClusterSpec, FaultCall, Target, ZONE_LABEL};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    Off,
    Hung,
    /// A fault on its way back (`for`) makes it uncertain.
    Unknown,
}

pub(super) struct Powers<'a> {
    shape: &'a ClusterSpec,
    /// Machines that are not simply on.
    changed: BTreeMap<String, Power>,
    /// Machines by the fault that changed them.
    by_fault: BTreeMap<String, BTreeSet<String>>,
}

impl<'a> Powers<'a> {
    pub(super) fn new(shape: &'a ClusterSpec) -> Self {
        Self { shape, changed: BTreeMap::new(), by_fault: BTreeMap::new() }
    }

    /// Takes a fault into account; gives the contradiction, where there is one.
    pub(super) fn fault(&mut self, identity: &str, call: &FaultCall) -> Option<String> {
        // What the machine must be for it, and what it is afterwards.
        let (before, after) = match call.fault.as_str() {
            "power-off" | "power-off-zone" | "shutdown" | "store-torn" => (&[Power::On, Power::Hung][..], Power::Off),
            "power-on" => (&[Power::Off][..], Power::On),
            "hang" => (&[Power::On][..], Power::Hung),
            "resume" => (&[Power::Hung][..], Power::On),
            "reset" => (&[Power::On, Power::Hung][..], Power::On),
            "reboot" | "disk-full" | "inodes-full" | "memory-pressure" | "cpu-starvation" | "pid-exhaustion" | "kubelet"
            | "container-engine" | "kube-proxy" | "network-agent" => (&[Power::On][..], Power::On),
            _ => return None,
        };
        let mut contradiction = None;
        for machine in self.machines(&call.target) {
            let power = self.changed.get(&machine).copied().unwrap_or(Power::On);
            if power != Power::Unknown && !before.contains(&power) {
                let state = match power {
                    Power::On => "on",
                    Power::Off => "off",
                    Power::Hung | Power::Unknown => "hung",
                };
                contradiction.get_or_insert(format!("{}: {machine} is {state} at this step", call.fault));
            }
            let after = if call.lasting.is_some() { Power::Unknown } else { after };
            if after == Power::On && power == Power::On {
                continue;
            }
            self.changed.insert(machine.clone(), after);
            self.by_fault.entry(identity.to_owned()).or_default().insert(machine);
        }
        contradiction
    }

    /// A fault is taken back.
    pub(super) fn undo(&mut self, identity: &str) {
        for machine in self.by_fault.remove(identity).unwrap_or_default() {
            self.changed.remove(&machine);
        }
    }

    /// All faults are taken back.
    pub(super) fn undo_all(&mut self) {
        self.changed.clear();
        self.by_fault.clear();
    }

    /// Machines that are certain from the file alone.
    fn machines(&self, target: &Target) -> Vec<String> {
        let named: Vec<String> = target.machine.iter().chain(&target.machines).cloned().collect();
        match &target.zone {
            Some(zone) => {
                let of_zone = |machine: &String| self.shape.labels_of(machine).get(ZONE_LABEL) == Some(zone);
                self.shape.machines().filter(of_zone).collect()
            }
            None => named,
        }
    }
}
