//! A fault with its target and parameters, as a step calls it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::{Argument, Fault, FaultError, ParameterKind};
use crate::file::{ClusterSpec, FaultCall, PodRef, Target};

/// What a fault is aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// Machines, in one of the ways of a target.
    Machines,
    /// Machines; all controllers where nothing is said.
    Controllers,
    /// The link between machines and others (`to`, everybody where nothing is said).
    Link,
    /// The link between machines and those in `to`, which must be said.
    Sides,
    /// A zone.
    Zone,
    /// A pod.
    Pod,
    /// A workload whose pod template is changed.
    Workload,
    /// Machines, or nothing for everything.
    Optional,
}

/// A fault as it is called.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Which.
    pub fault: &'static dyn Fault,
    /// At what.
    pub target: &'a Target,
    /// How.
    pub with: &'a BTreeMap<String, Value>,
}

impl<'a> Call<'a> {
    /// The call of a step; `None` where there is no such fault.
    pub fn of(call: &'a FaultCall) -> Option<Self> {
        Some(Self { fault: super::find(&call.fault)?, target: &call.target, with: &call.with })
    }

    /// What is wrong with target and parameters: place below the step and words.
    pub fn problems(&self, shape: &ClusterSpec) -> Vec<(String, String)> {
        let mut problems = self.parameter_problems();
        let fields = self.target.machine_fields();
        let field = |name: &str| format!("target.{name}");
        let mut problem = |place: &str, message: String| problems.push((place.to_owned(), message));
        let name = self.fault.name();
        if let [first, second, ..] = fields[..] {
            problem(&field(second), format!("machines are given in one way, and {first} gives them already"));
        }
        let (needs_machines, allows_to) = match self.fault.aim() {
            Aim::Machines => (true, false),
            Aim::Controllers | Aim::Optional => (false, false),
            Aim::Link => (true, true),
            Aim::Sides => {
                if self.target.to.is_none() {
                    problem("target", format!("{name} needs the other side: target.to"));
                }
                (true, true)
            }
            Aim::Zone => {
                if self.target.zone.is_none() {
                    problem("target", format!("{name} is aimed at a zone: target.zone"));
                }
                (true, false)
            }
            Aim::Pod => {
                if self.target.pod.is_none() {
                    problem("target", format!("{name} is aimed at a pod: target.pod"));
                }
                (false, false)
            }
            Aim::Workload => {
                if self.target.workload.is_none() {
                    problem("target", format!("{name} is aimed at a workload: target.workload"));
                }
                (false, false)
            }
        };
        if needs_machines && fields.is_empty() && self.fault.aim() != Aim::Zone {
            problem("target", format!("{name} is aimed at machines: machine, machines, nodes, nodeOf or zone"));
        }
        let machines_allowed = !matches!(self.fault.aim(), Aim::Pod | Aim::Workload);
        let stray = [
            ("to", self.target.to.is_some() && !allows_to),
            ("pod", self.target.pod.is_some() && self.fault.aim() != Aim::Pod),
            ("workload", self.target.workload.is_some() && self.fault.aim() != Aim::Workload),
            (fields.first().copied().unwrap_or_default(), !fields.is_empty() && !machines_allowed),
        ];
        for (stray, _) in stray.into_iter().filter(|(_, given)| *given) {
            problem(&field(stray), format!("{name} is not aimed at this"));
        }
        if self.fault.aim() == Aim::Controllers {
            for (field, machines) in [("machine", self.target.machine.as_slice()), ("machines", &self.target.machines)] {
                let others = machines.iter().filter(|machine| shape.has_machine(machine) && !machine.starts_with("controller-"));
                problems.extend(
                    others.map(|other| (format!("target.{field}"), format!("{name} is for controllers, and {other} is none"))),
                );
            }
        }
        target_problems("target", self.target, shape, &mut problems);
        problems.extend(self.fault.check(self, shape));
        problems
    }

    fn parameter_problems(&self) -> Vec<(String, String)> {
        let parameters = self.fault.parameters();
        let mut problems = Vec::new();
        for (name, value) in self.with {
            let place = format!("with.{name}");
            match parameters.iter().find(|parameter| parameter.name == name) {
                None => {
                    let known: Vec<&str> = parameters.iter().map(|parameter| parameter.name).collect();
                    let known =
                        if known.is_empty() { "it has none".to_owned() } else { format!("there are {}", known.join(", ")) };
                    problems.push((place, format!("{} has no parameter {name:?}; {known}", self.fault.name())));
                }
                Some(parameter) => {
                    if let Err(message) = parameter.kind.read(value) {
                        problems.push((place, message));
                    }
                }
            }
        }
        for parameter in parameters.iter().filter(|parameter| parameter.required && !self.with.contains_key(parameter.name)) {
            let expected = parameter.kind.expected();
            problems.push(("with".to_owned(), format!("{} needs {:?}: {expected}", self.fault.name(), parameter.name)));
        }
        problems
    }

    /// Value of a parameter, or its default; `None` where neither is.
    pub fn argument(&self, name: &str) -> Result<Option<Argument>, FaultError> {
        let Some(parameter) = self.fault.parameters().iter().find(|parameter| parameter.name == name) else {
            return Ok(None);
        };
        let default = parameter.default.map(|text| Value::String(text.to_owned()));
        let value = self.with.get(name).or(default.as_ref());
        value.map(|value| read(name, parameter.kind, value)).transpose()
    }

    /// A length of time.
    pub fn time(&self, name: &str) -> Result<Duration, FaultError> {
        match self.argument(name)? {
            Some(Argument::Time(span)) => Ok(span.duration()),
            _ => Err(self.missing(name)),
        }
    }

    /// An amount of bytes.
    pub fn bytes(&self, name: &str) -> Result<u64, FaultError> {
        match self.argument(name)? {
            Some(Argument::Bytes(bytes)) => Ok(bytes),
            _ => Err(self.missing(name)),
        }
    }

    /// A share in percent.
    pub fn percent(&self, name: &str) -> Result<f64, FaultError> {
        match self.argument(name)? {
            Some(Argument::Percent(percent)) => Ok(percent),
            _ => Err(self.missing(name)),
        }
    }

    /// A whole number.
    pub fn count(&self, name: &str) -> Result<u64, FaultError> {
        match self.argument(name)? {
            Some(Argument::Count(count)) => Ok(count),
            _ => Err(self.missing(name)),
        }
    }

    /// A whole number that may be below zero.
    pub fn signed(&self, name: &str) -> Result<i64, FaultError> {
        match self.argument(name)? {
            Some(Argument::Signed(number)) => Ok(number),
            _ => Err(self.missing(name)),
        }
    }

    /// Yes or no; no where nothing is said.
    pub fn flag(&self, name: &str) -> Result<bool, FaultError> {
        Ok(self.argument(name)? == Some(Argument::Flag(true)))
    }

    /// Text; `None` where nothing is said.
    pub fn text(&self, name: &str) -> Result<Option<String>, FaultError> {
        match self.argument(name)? {
            Some(Argument::Text(text)) => Ok(Some(text)),
            _ => Ok(None),
        }
    }

    fn missing(&self, name: &str) -> FaultError {
        FaultError::Parameter(format!("{} needs {name:?}", self.fault.name()))
    }
}

fn read(name: &str, kind: ParameterKind, value: &Value) -> Result<Argument, FaultError> {
    kind.read(value).map_err(|error| FaultError::Parameter(format!("{name}: {error}")))
}

/// What cannot be right about the machines and pods of a target, whatever it is for.
pub(crate) fn target_problems(place: &str, target: &Target, shape: &ClusterSpec, problems: &mut Vec<(String, String)>) {
    for machine in target.machine.iter().chain(&target.machines) {
        if !shape.has_machine(machine) {
            let field = if target.machine.as_ref() == Some(machine) { "machine" } else { "machines" };
            problems.push((format!("{place}.{field}"), format!("there is no machine {machine:?}; there are {}", shape.known())));
        }
    }
    if let Some(zone) = &target.zone {
        let known: std::collections::BTreeSet<String> =
            shape.machines().filter_map(|machine| shape.labels_of(&machine).remove(crate::file::ZONE_LABEL)).collect();
        if !known.contains(zone) {
            let known: Vec<String> = known.into_iter().collect();
            let known =
                if known.is_empty() { "cluster.zones names none".to_owned() } else { format!("there are {}", known.join(", ")) };
            problems.push((format!("{place}.zone"), format!("no machine is in zone {zone:?}; {known}")));
        }
    }
    if let Some(selector) = &target.nodes
        && let Err(error) = daruma_api::selector::Selector::parse(selector)
    {
        problems.push((format!("{place}.nodes"), format!("{selector:?} is no label selector: {error}")));
    }
    for (field, pod) in [("nodeOf", &target.node_of), ("pod", &target.pod)] {
        if let Some(pod) = pod {
            pod_problems(&format!("{place}.{field}"), pod, shape, problems);
        }
    }
    if let Some(to) = &target.to {
        target_problems(&format!("{place}.to"), to, shape, problems);
        if to.machine_fields().len() != 1 {
            problems.push((format!("{place}.to"), "machines are given in exactly one way here".to_owned()));
        }
    }
}

/// What cannot be right about the description of a pod.
pub(crate) fn pod_problems(place: &str, pod: &PodRef, shape: &ClusterSpec, problems: &mut Vec<(String, String)>) {
    let ways = [pod.name.is_some(), pod.selector.is_some(), pod.workload.is_some()].into_iter().filter(|given| *given).count();
    if ways != 1 {
        problems.push((place.to_owned(), "a pod is given by exactly one of name, selector, workload".to_owned()));
    }
    if let Some(node) = &pod.node
        && !shape.has_machine(node)
    {
        problems.push((format!("{place}.node"), format!("there is no machine {node:?}; there are {}", shape.known())));
    }
    if let Some(selector) = &pod.selector
        && let Err(error) = daruma_api::selector::Selector::parse(selector)
    {
        problems.push((format!("{place}.selector"), format!("{selector:?} is no label selector: {error}")));
    }
}

/// The pod that a call is aimed at.
pub(super) fn pod_ref<'a>(call: &Call<'a>) -> Result<&'a PodRef, FaultError> {
    call.target.pod.as_ref().ok_or_else(|| FaultError::Target("a pod is needed: target.pod".to_owned()))
}
