//! The drill file: its types, how it is read, and everything that is looked at before anything is touched.
//!
//! ```yaml
//! apiVersion: daruma.dev/v1
//! kind: Drill
//! metadata: {name: lights-out}
//! spec:
//!   description: A worker loses power for good.
//!   parameters: {replicas: {default: 4}}
//!   cluster: {controllers: 1, workers: 2}
//!   manifests: [{file: web.yaml}]
//!   probes: [{name: web, http: {to: {service: web}}}]
//!   steps:
//!   - {at: 10s, fault: power-off, target: {machine: worker-1}}
//!   - {waitFor: {nodeNotReady: worker-1}}
//!   - {view: get pods -o wide}
//!   checks: [{nodeDetectedWithin: {after: power-off, limit: 60s}}]
//! ```

mod cluster;
mod parse;
mod placed;
mod power;
mod probe;
mod schema;
pub(crate) mod simulated;
mod step;
mod target;
#[cfg(test)]
mod tests;
mod values;
mod verify;
mod wait;
mod yaml;
mod yaml_de;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use cluster::{ClusterSpec, Preload, Settings, ZONE_LABEL};
pub use parse::{FileError, FileErrors, parse, parse_placed};
pub use placed::{Placed, Problem};
pub use probe::{Destination, DnsProbe, HttpProbe, Probe, Via, Writer};
pub use schema::schema;
pub use step::{Action, DrainCall, FaultCall, PatchCall, PatchType, ScaleCall, Step};
pub use target::{PodRef, Target, Workload, WorkloadKind};
pub use values::Bytes;
pub use wait::{EventSeen, PodsAre, ProbeIs, WaitFor};
pub use yaml::Position;

use crate::Span;
use crate::checks::Check;

/// The only API version of drills.
pub const API_VERSION: &str = "daruma.dev/v1";

/// A drill, as [`parse`] gives it: files are read, parameters are put in, everything is verified.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Drill {
    /// `daruma.dev/v1`.
    pub api_version: String,
    /// `Drill`.
    pub kind: String,
    /// What it is called.
    pub metadata: Metadata,
    /// What happens.
    pub spec: Spec,
}

/// See [`Drill`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Its name.
    pub name: String,
}

/// See [`Drill`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Spec {
    /// What it shows, in a sentence or two.
    pub description: String,
    /// What can be set from outside: `${name}` stands for its value wherever text or a number may stand.
    pub parameters: BTreeMap<String, Parameter>,
    /// The cluster it needs.
    pub cluster: ClusterSpec,
    /// Settings of the cluster's components.
    pub settings: Settings,
    /// Objects that are applied, and waited for, before the drill begins; `{file: PATH}` stands for the objects of a file.
    pub manifests: Vec<Value>,
    /// How long the workloads of the manifests may take to become ready.
    pub ready_within: Span,
    /// Clients that ask or write from the drill's beginning to its end.
    pub probes: Vec<Probe>,
    /// What is done.
    pub steps: Vec<Step>,
    /// What must have been true.
    pub checks: Vec<Check>,
    /// How long the steps may take altogether.
    pub limit: Span,
    /// How long the cluster may take, after all faults are undone, to be as specified again. With 0 nothing is waited for,
    /// nobody looks for containers that were left behind, and in the virtual world, which ends there, nothing is undone.
    pub converge_within: Span,
}

/// A value that can be set from outside.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Parameter {
    /// Its value where none is set; one must be set where there is no default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// What it is.
    pub description: String,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            description: String::new(),
            parameters: BTreeMap::new(),
            cluster: ClusterSpec::default(),
            settings: Settings::default(),
            manifests: Vec::new(),
            ready_within: Span::seconds(300),
            probes: Vec::new(),
            steps: Vec::new(),
            checks: Vec::new(),
            limit: Span::seconds(3600),
            converge_within: Span::seconds(900),
        }
    }
}
