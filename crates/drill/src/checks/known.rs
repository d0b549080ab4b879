//! What a drill says there will be, for refusing checks that nothing could answer.

use std::collections::BTreeSet;

use super::Workload;

/// Names that a drill defines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Identities of its steps.
    pub steps: BTreeSet<String>,
    /// Names of its probes that send requests.
    pub probes: BTreeSet<String>,
    /// Names of its probes that write objects.
    pub writers: BTreeSet<String>,
    /// Workloads of its manifests, e.g. `default/deployment/web`; `None` where it plays on what is there.
    pub workloads: Option<BTreeSet<String>>,
    /// Its machines; `None` where it plays on what is there.
    pub nodes: Option<BTreeSet<String>>,
}

impl Known {
    /// Complaint about a step that there is not.
    pub fn step(&self, field: &str, step: Option<&str>) -> Option<String> {
        unknown(field, "step", step?, &self.steps)
    }

    /// Complaint about a probe that there is not.
    pub fn probe(&self, field: &str, probe: Option<&str>) -> Option<String> {
        unknown(field, "probe", probe?, &self.probes)
    }

    /// Complaint about a writer that there is not.
    pub fn writer(&self, field: &str, writer: Option<&str>) -> Option<String> {
        unknown(field, "writing probe", writer?, &self.writers)
    }

    /// Complaint about a node that there is not.
    pub fn node(&self, field: &str, node: Option<&str>) -> Option<String> {
        unknown(field, "node", node?, self.nodes.as_ref()?)
    }

    /// Complaint about a workload that there is not.
    pub fn workload(&self, field: &str, workload: Option<&Workload>) -> Option<String> {
        unknown(field, "workload", &workload?.to_string(), self.workloads.as_ref()?)
    }
}

fn unknown(field: &str, noun: &str, name: &str, known: &BTreeSet<String>) -> Option<String> {
    if known.contains(name) {
        return None;
    }
    let there: Vec<_> = known.iter().map(String::as_str).collect();
    let there = if there.is_empty() { "there is none".to_owned() } else { format!("there is {}", there.join(", ")) };
    Some(format!("{field}: no {noun} {name:?}; {there}"))
}

/// Complaint about a share that is none.
pub(super) fn percent(field: &str, percent: f64) -> Option<String> {
    (!(0.0..=100.0).contains(&percent)).then(|| format!("{field}: {percent} is no share in percent (0 to 100)"))
}

/// Complaint about a length of time that nothing can keep to.
pub(super) fn positive(field: &str, span: crate::Span) -> Option<String> {
    span.is_zero().then(|| format!("{field}: nothing happens within no time"))
}
