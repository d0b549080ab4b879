//! What is wrong with a drill that reads well: contradictions, things that cannot exist, checks that nothing can answer.
//!
//! Pure. Everything is found, not only the first.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::power::Powers;
use super::{Action, Destination, Drill, Probe, Problem, Step, Via, WaitFor, simulated};
use crate::Span;
use crate::checks::Known;
use crate::faults::{self, Call, target_problems};
use crate::objects::{self, Kinds};
use crate::view::Command;

/// Most machines of one kind, so that their addresses can be told apart.
const MOST_MACHINES: u32 = 50_000;
/// Requests of one probe that may wait at once.
const MOST_WAITING: u64 = 100;

/// Everything that is wrong.
pub(super) fn problems(drill: &Drill) -> Vec<Problem> {
    let mut found = Problems { drill, kinds: Kinds::of(drill), problems: Vec::new() };
    found.cluster();
    found.manifests();
    found.probes();
    found.steps();
    found.checks();
    found.problems
}

struct Problems<'a> {
    drill: &'a Drill,
    kinds: Kinds,
    problems: Vec<Problem>,
}

impl Problems<'_> {
    fn add(&mut self, place: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(place, message));
    }

    fn cluster(&mut self) {
        let (metadata, spec) = (&self.drill.metadata, &self.drill.spec);
        let plain = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '-';
        if metadata.name.is_empty() || metadata.name.len() > 63 || !metadata.name.chars().all(plain) {
            self.add("metadata.name", format!("{:?} is no name: lower-case letters, digits and -, at most 63", metadata.name));
        }
        let cluster = &spec.cluster;
        if cluster.controllers == 0 {
            self.add("spec.cluster.controllers", "a cluster has at least one controller");
        }
        for (field, count) in
            [("controllers", cluster.controllers), ("workers", cluster.workers), ("simulated", cluster.simulated)]
        {
            if count > MOST_MACHINES {
                self.add(format!("spec.cluster.{field}"), format!("{count} machines are too many (at most {MOST_MACHINES})"));
            }
        }
        if !(cluster.cpus > 0.0 && cluster.cpus <= 1024.0) {
            self.add("spec.cluster.cpus", format!("{} CPUs make no machine", cluster.cpus));
        }
        for machine in cluster.labels.keys().filter(|machine| !cluster.has_machine(machine)) {
            self.add(
                format!("spec.cluster.labels.{machine}"),
                format!("there is no machine {machine:?}; there are {}", cluster.known()),
            );
        }
        let mut names = BTreeSet::new();
        for (index, preload) in cluster.preload.iter().enumerate() {
            if cluster.workers == 0 {
                self.add(format!("spec.cluster.preload[{index}]"), "without workers nothing can run already");
            }
            if !names.insert((&preload.namespace, &preload.deployment)) {
                self.add(format!("spec.cluster.preload[{index}].deployment"), format!("{:?} is there twice", preload.deployment));
            }
        }
        for key in spec.settings.set.keys() {
            if !key.split_once('.').is_some_and(|(component, flag)| !component.is_empty() && !flag.is_empty()) {
                self.add(
                    format!("spec.settings.set.{key}"),
                    format!("{key:?}: write component.flag, e.g. kube-controller-manager.kube-api-qps"),
                );
            }
        }
        if spec.limit.is_zero() {
            self.add("spec.limit", "nothing happens within no time");
        }
    }

    fn manifests(&mut self) {
        for (index, object) in self.drill.spec.manifests.iter().enumerate() {
            self.object(&format!("spec.manifests[{index}]"), object);
        }
    }

    fn object(&mut self, place: &str, object: &Value) {
        if let Err(message) = objects::Place::of(object, &self.kinds) {
            self.add(place, message);
        }
    }

    fn machine(&mut self, place: &str, machine: &str) {
        let cluster = &self.drill.spec.cluster;
        if !cluster.has_machine(machine) {
            self.add(place, format!("there is no machine {machine:?}; there are {}", cluster.known()));
        }
    }

    fn probes(&mut self) {
        let mut names = BTreeSet::new();
        for (index, probe) in self.drill.spec.probes.iter().enumerate() {
            let place = format!("spec.probes[{index}]");
            if !names.insert(&probe.name) {
                self.add(format!("{place}.name"), format!("there is another probe {:?}", probe.name));
            }
            self.probe(&place, probe);
        }
    }

    fn probe(&mut self, place: &str, probe: &Probe) {
        let ways = [probe.http.is_some(), probe.tcp.is_some(), probe.dns.is_some(), probe.write.is_some()];
        if ways.into_iter().filter(|given| *given).count() != 1 {
            self.add(place, "a probe does exactly one of http, tcp, dns, write");
        }
        for (field, span) in [("interval", probe.interval), ("timeout", probe.timeout)] {
            if span.is_zero() {
                self.add(format!("{place}.{field}"), "must be more than no time");
            }
        }
        if !probe.interval.is_zero() && probe.timeout.as_ms() / probe.interval.as_ms().max(1) > MOST_WAITING {
            self.add(format!("{place}.timeout"), format!("more than {MOST_WAITING} requests would wait at once"));
        }
        if let Some(machine) = &probe.from {
            self.machine(&format!("{place}.from"), machine);
        }
        if let Some(http) = &probe.http {
            self.destination(&format!("{place}.http.to"), &http.to, probe);
            if !http.path.starts_with('/') || http.path.contains(char::is_whitespace) {
                self.add(format!("{place}.http.path"), format!("{:?} is no path of a URL; it begins with /", http.path));
            }
        }
        if let Some(tcp) = &probe.tcp {
            self.destination(&format!("{place}.tcp"), tcp, probe);
        }
        if let Some(dns) = &probe.dns
            && dns.server.parse::<std::net::SocketAddr>().is_err()
        {
            self.add(format!("{place}.dns.server"), format!("{:?} is no address with a port", dns.server));
        }
        if probe.dns.is_some() && probe.from.is_none() {
            self.add(place, "names of the cluster are resolved inside of it: say from which machine (from)");
        }
    }

    fn destination(&mut self, place: &str, to: &Destination, probe: &Probe) {
        let ways = [to.service.is_some(), to.pod.is_some(), to.address.is_some()];
        if ways.into_iter().filter(|given| *given).count() != 1 {
            self.add(place, "give exactly one of service, pod, address");
        }
        if let Some(pod) = &to.pod {
            let mut problems = Vec::new();
            faults::pod_problems(&format!("{place}.pod"), pod, &self.drill.spec.cluster, &mut problems);
            self.problems.extend(problems.into_iter().map(|(place, message)| Problem::new(place, message)));
            if to.port.is_none() {
                self.add(place, "a pod is asked at a port: say which");
            }
        }
        if let Some(address) = &to.address
            && address.parse::<std::net::SocketAddr>().is_err()
        {
            self.add(format!("{place}.address"), format!("{address:?} is no address with a port, e.g. 10.96.0.10:53"));
        }
        if let Some(node) = &to.node {
            self.machine(&format!("{place}.node"), node);
        }
        let inside = to.pod.is_some() || to.service.is_some() && to.via == Via::ClusterIp;
        if inside && probe.from.is_none() {
            self.add(place, "such an address is known inside of the cluster only: say from which machine (from)");
        }
    }

    fn steps(&mut self) {
        let spec = &self.drill.spec;
        let mut named = BTreeSet::new();
        let mut faults: BTreeMap<&str, FaultState> = BTreeMap::new();
        let mut powers = Powers::new(&spec.cluster);
        let mut last = Span::default();
        for (index, step) in spec.steps.iter().enumerate() {
            let place = format!("spec.steps[{index}]");
            if let Some(name) = &step.name {
                if !named.insert(name.as_str()) {
                    self.add(format!("{place}.name"), format!("there is another step {name:?}"));
                }
                if name == "all" {
                    self.add(format!("{place}.name"), "\"all\" stands for all faults");
                }
            }
            if let Some(at) = step.at {
                if at < last {
                    self.add(
                        format!("{place}.at"),
                        format!("{at} is before {last}, the time of a step above; steps run in order"),
                    );
                }
                if at > spec.limit {
                    self.add(format!("{place}.at"), format!("{at} is after the end of the drill (spec.limit is {})", spec.limit));
                }
                last = last.max(at);
            }
            self.step(&place, step, &mut faults, &mut powers);
        }
    }

    fn step<'a>(&mut self, place: &str, step: &'a Step, faults: &mut BTreeMap<&'a str, FaultState>, powers: &mut Powers<'a>) {
        match &step.action {
            Action::Fault(call) => {
                let Some(known) = Call::of(call) else {
                    self.add(format!("{place}.fault"), unknown_fault(&call.fault));
                    return;
                };
                let mut below = known.problems(&self.drill.spec.cluster);
                below.extend(simulated::without_agents(self.drill, &known));
                let clean = below.is_empty();
                self.problems.extend(below.into_iter().map(|(below, message)| Problem::new(format!("{place}.{below}"), message)));
                if call.lasting.is_some() && !known.fault.lasts() {
                    self.add(
                        format!("{place}.for"),
                        format!("{} is over at once; there is nothing to take back later", call.fault),
                    );
                }
                if clean && let Some(message) = powers.fault(step.identity(), call) {
                    self.add(format!("{place}.fault"), message);
                }
                let state = faults.entry(step.identity()).or_default();
                if state.steps > 0 && (state.timed || call.lasting.is_some()) {
                    let identity = step.identity();
                    let message =
                        format!("another fault above is called {identity:?}, and one of them ends by itself: give them names");
                    self.add(format!("{place}.for"), message);
                }
                state.timed |= call.lasting.is_some();
                state.steps += 1;
                state.undone = false;
                state.lasts |= known.fault.lasts();
            }
            Action::Undo(name) if name == "all" => {
                for state in faults.values_mut() {
                    state.undone = true;
                }
                powers.undo_all();
            }
            Action::Undo(name) => {
                let message = match faults.get_mut(name.as_str()) {
                    None => {
                        let known: Vec<&str> = faults.keys().copied().collect();
                        let known = if known.is_empty() {
                            "no fault comes before it".to_owned()
                        } else {
                            format!("there are {}", known.join(", "))
                        };
                        Some(format!("no fault {name:?} was made that could be undone; {known}"))
                    }
                    Some(state) if state.steps > 1 => {
                        Some(format!("{} faults above are called {name:?}: give them names", state.steps))
                    }
                    Some(state) if state.undone => Some(format!("{name:?} has been undone by a step above")),
                    Some(state) if !state.lasts => Some(format!("{name:?} is over at once; there is nothing to undo")),
                    Some(state) => {
                        state.undone = true;
                        powers.undo(name);
                        None
                    }
                };
                if let Some(message) = message {
                    self.add(format!("{place}.undo"), message);
                }
            }
            Action::Apply(objects) | Action::Delete(objects) => {
                let field = step.action.field();
                for (index, object) in objects.iter().enumerate() {
                    self.object(&format!("{place}.{field}[{index}]"), object);
                }
            }
            Action::Patch(call) => {
                if let Err(message) =
                    objects::Place::named(&self.kinds, &call.api_version, &call.kind, &call.namespace, &call.name)
                {
                    self.add(format!("{place}.patch"), message);
                }
            }
            Action::Cordon(target) | Action::Uncordon(target) => self.nodes(&format!("{place}.{}", step.action.field()), target),
            Action::Drain(call) => {
                self.nodes(&format!("{place}.drain.target"), &call.target);
                if call.limit.is_zero() {
                    self.add(format!("{place}.drain.limit"), "nothing happens within no time");
                }
            }
            Action::View(line) => {
                if let Err(message) = Command::parse(line, &self.kinds) {
                    self.add(format!("{place}.view"), message);
                }
            }
            Action::WaitFor(wait) => self.wait(&format!("{place}.waitFor"), wait),
            Action::Scale(_) | Action::Restart(_) | Action::Sleep(_) | Action::Note(_) => {}
        }
    }

    fn nodes(&mut self, place: &str, target: &super::Target) {
        if target.machine_fields().len() != 1 || target.pod.is_some() || target.workload.is_some() || target.to.is_some() {
            self.add(place, "nodes are given in exactly one way: machine, machines, nodes, nodeOf or zone");
        }
        let mut problems = Vec::new();
        target_problems(place, target, &self.drill.spec.cluster, &mut problems);
        self.problems.extend(problems.into_iter().map(|(place, message)| Problem::new(place, message)));
    }

    fn wait(&mut self, place: &str, wait: &WaitFor) {
        if wait.fields().len() != 1 {
            self.add(place, "wait for exactly one of nodeReady, nodeNotReady, available, pods, event, probe");
        }
        if wait.limit.is_zero() {
            self.add(format!("{place}.limit"), "nothing happens within no time");
        }
        for (field, node) in [("nodeReady", &wait.node_ready), ("nodeNotReady", &wait.node_not_ready)] {
            if let Some(node) = node {
                self.machine(&format!("{place}.{field}"), node);
            }
        }
        if let Some(probe) = &wait.probe {
            let known: Vec<&str> =
                self.drill.spec.probes.iter().filter(|probe| !probe.is_writer()).map(|probe| probe.name.as_str()).collect();
            if !known.contains(&probe.name.as_str()) {
                self.add(
                    format!("{place}.probe.name"),
                    format!("no probe {:?} asks; there are {}", probe.name, known.join(", ")),
                );
            }
        }
        if let Some(pods) = &wait.pods {
            if let Some(message) = pods.count.validate("count") {
                self.add(format!("{place}.pods.count"), message);
            }
            if let Some(selector) = &pods.selector
                && let Err(error) = daruma_api::selector::Selector::parse(selector)
            {
                self.add(format!("{place}.pods.selector"), format!("{selector:?} is no label selector: {error}"));
            }
            if let Some(node) = &pods.node {
                self.machine(&format!("{place}.pods.node"), node);
            }
        }
    }

    fn checks(&mut self) {
        let known = known(self.drill);
        for (index, check) in self.drill.spec.checks.iter().enumerate() {
            let place = format!("spec.checks[{index}].{}", check.name());
            for message in check.validate(&known) {
                // What is wrong with one field begins with its name.
                match message.split_once(": ") {
                    Some((field, rest)) if !field.contains(' ') => self.add(format!("{place}.{field}"), rest),
                    _ => self.add(&place, message),
                }
            }
        }
    }
}

#[derive(Default)]
struct FaultState {
    steps: u32,
    timed: bool,
    undone: bool,
    lasts: bool,
}

/// Names that the drill defines, for its checks.
fn known(drill: &Drill) -> Known {
    let spec = &drill.spec;
    let applied = spec.steps.iter().filter_map(|step| match &step.action {
        Action::Apply(objects) => Some(objects.as_slice()),
        _ => None,
    });
    let objects = spec.manifests.iter().chain(applied.flatten());
    let mut workloads: BTreeSet<String> = objects.filter_map(objects::workload_of).map(|workload| workload.to_string()).collect();
    for preload in &spec.cluster.preload {
        let name = |name: &str| format!("{}/deployment/{name}", preload.namespace);
        match preload.count {
            1 => drop(workloads.insert(name(&preload.deployment))),
            count => workloads.extend((0..count).map(|index| name(&format!("{}-{index}", preload.deployment)))),
        }
    }
    // What every cluster of ours runs.
    workloads.extend(
        ["deployment/coredns", "deployment/metrics-server", "daemonset/kube-proxy", "daemonset/daruma-network"]
            .map(|name| format!("kube-system/{name}")),
    );
    let probes = |writers: bool| {
        spec.probes.iter().filter(move |probe| probe.is_writer() == writers).map(|probe| probe.name.clone()).collect()
    };
    Known {
        steps: spec.steps.iter().map(|step| step.identity().to_owned()).collect(),
        probes: probes(false),
        writers: probes(true),
        workloads: Some(workloads),
        nodes: Some(spec.cluster.machines().collect()),
    }
}

fn unknown_fault(name: &str) -> String {
    let known: Vec<&str> = faults::ALL.iter().map(|fault| fault.name()).collect();
    format!("there is no fault {name:?}; there are {}", known.join(", "))
}
