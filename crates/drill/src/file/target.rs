//! What a fault is aimed at, and how workloads and pods are named.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::cluster::default_namespace;

/// What a fault is aimed at. Machines are given in exactly one way; the others are for faults that say so.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Target {
    /// One machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Several machines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<String>,
    /// Nodes by a label selector, e.g. `topology.kubernetes.io/zone=b`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    /// The machine on which this pod is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_of: Option<PodRef>,
    /// Every machine of this zone (label `topology.kubernetes.io/zone`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// A pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodRef>,
    /// A workload, for faults that change its pod template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// The other side of a link; everybody where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Box<Target>>,
}

/// One pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodRef {
    /// Namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// By its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// By a label selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// As a pod of a workload, e.g. `deployment/web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// Only pods on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Which of those found, counted from 0 in the order of their names; pods being deleted do not count.
    #[serde(default)]
    pub nth: usize,
    /// Name of the container, where it has several; the first where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// A workload as kubectl names it: `deployment/web`, or `shop/deployment/web` in another namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    /// Namespace.
    pub namespace: String,
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
}

/// See [`Workload`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkloadKind {
    /// `deployment`
    Deployment,
    /// `statefulset`
    StatefulSet,
    /// `daemonset`
    DaemonSet,
    /// `replicaset`
    ReplicaSet,
}

impl WorkloadKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Deployment, Self::StatefulSet, Self::DaemonSet, Self::ReplicaSet];

    /// Singular resource name, e.g. `deployment`.
    pub fn singular(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
            Self::DaemonSet => "daemonset",
            Self::ReplicaSet => "replicaset",
        }
    }

    /// Plural resource name as in URLs.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
            Self::DaemonSet => "daemonsets",
            Self::ReplicaSet => "replicasets",
        }
    }
}

impl Workload {
    /// URL path of the object.
    pub fn path(&self) -> String {
        format!("/apis/apps/v1/namespaces/{}/{}/{}", self.namespace, self.kind.plural(), self.name)
    }

    /// `deployment/web`, without the namespace, as pods of a record name it.
    pub fn short(&self) -> String {
        format!("{}/{}", self.kind.singular(), self.name)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.namespace, self.kind.singular(), self.name)
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let (namespace, kind, name) = match parts[..] {
            [kind, name] => ("default", kind, name),
            [namespace, kind, name] => (namespace, kind, name),
            _ => return Err(format!("{text:?} names no workload; write for example deployment/web or shop/deployment/web")),
        };
        let kind = WorkloadKind::ALL.into_iter().find(|one| {
            let kind = kind.to_ascii_lowercase();
            one.singular() == kind || one.plural() == kind
        });
        match kind {
            Some(kind) if !name.is_empty() && !namespace.is_empty() => {
                Ok(Self { namespace: namespace.to_owned(), kind, name: name.to_owned() })
            }
            _ => Err(format!("{text:?} names no workload; kinds are deployment, statefulset, daemonset, replicaset")),
        }
    }
}

impl Serialize for Workload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Workload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Workload {
    fn schema_name() -> Cow<'static, str> {
        "Workload".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A workload such as deployment/web, or shop/deployment/web in another namespace.",
            "type": "string",
            "pattern": "^([a-z0-9-]+/)?(deployment|statefulset|daemonset|replicaset)s?/[a-z0-9.-]+$",
        })
    }
}

impl Target {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The ways in which machines are given, by field name.
    pub fn machine_fields(&self) -> Vec<&'static str> {
        let fields = [
            ("machine", self.machine.is_some()),
            ("machines", !self.machines.is_empty()),
            ("nodes", self.nodes.is_some()),
            ("nodeOf", self.node_of.is_some()),
            ("zone", self.zone.is_some()),
        ];
        fields.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
    }
}

impl fmt::Display for PodRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, &self.selector, &self.workload) {
            (Some(name), ..) => write!(formatter, "pod {}/{name}", self.namespace)?,
            (None, Some(selector), _) => write!(formatter, "pod {} of {selector} in {}", self.nth, self.namespace)?,
            (None, None, Some(workload)) => write!(formatter, "pod {} of {workload}", self.nth)?,
            (None, None, None) => write!(formatter, "pod {} of {}", self.nth, self.namespace)?,
        }
        match &self.node {
            Some(node) => write!(formatter, " on {node}"),
            None => Ok(()),
        }
    }
}
