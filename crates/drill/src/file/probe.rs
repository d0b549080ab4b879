//! Clients that ask or write all the time while a drill runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PodRef;
use super::cluster::default_namespace;
use crate::Span;

/// A client. It does exactly one of `http`, `tcp`, `dns`, `write`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Probe {
    /// Its name; checks and reports call it so.
    pub name: String,
    /// From one request to the next.
    #[serde(default = "second")]
    pub interval: Span,
    /// When an answer comes too late.
    #[serde(default = "second")]
    pub timeout: Span,
    /// The machine from which it asks; from outside of the cluster where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// GET over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbe>,
    /// Opens a TCP connection and closes it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Destination>,
    /// Resolves a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsProbe>,
    /// Writes objects to the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<Writer>,
}

/// What is asked by HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpProbe {
    /// Whom.
    pub to: Destination,
    /// Path of the URL.
    #[serde(default = "root")]
    pub path: String,
    /// The status that is right; any below 400 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// Whom a probe asks: a service, a pod or an address. It is looked up anew for every request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Destination {
    /// A service by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Namespace of the service.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Which of the service's addresses.
    #[serde(default)]
    pub via: Via,
    /// The machine whose node port is asked; all nodes in turn where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// A pod, asked directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodRef>,
    /// A host and port, e.g. `10.96.0.10:53`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Port number: of the service (its first where nothing is said), or of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// See [`Destination::via`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Via {
    /// Its port on the nodes.
    #[default]
    NodePort,
    /// Its address inside the cluster; the probe must be `from` a machine.
    ClusterIp,
    /// Its address outside of the cluster.
    LoadBalancer,
}

/// What name is resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsProbe {
    /// The name, e.g. `web.default.svc.cluster.local`. Its IPv4 address is asked for.
    pub name: String,
    /// The name server's address and port; the cluster's own where nothing is said.
    #[serde(default = "cluster_dns")]
    pub server: String,
}

/// Creates ConfigMaps one after the other; what the API acknowledged is looked for at the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Writer {
    /// Namespace that is written to.
    #[serde(default = "default_namespace")]
    pub namespace: String,
}

impl Probe {
    /// Whether it writes instead of asking.
    pub fn is_writer(&self) -> bool {
        self.write.is_some()
    }
}

fn second() -> Span {
    Span::seconds(1)
}

fn root() -> String {
    "/".to_owned()
}

/// kubeadm's address of the cluster's name server.
fn cluster_dns() -> String {
    "10.96.0.10:53".to_owned()
}
