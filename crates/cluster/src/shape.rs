//! The shape of a cluster: names, addresses and settings that everything else is derived from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// The built-in image that every system pod runs.
pub const IMAGE: &str = "daruma.dev/daruma:v0.1.0";
/// Addresses of pods, a /24 a node.
pub const POD_CIDR: &str = "10.244.0.0/16";
/// Addresses of services.
pub const SERVICE_CIDR: &str = "10.96.0.0/12";
/// The `kubernetes` service.
pub const KUBERNETES_SERVICE_IP: &str = "10.96.0.1";
/// The cluster's name server.
pub const DNS_SERVICE_IP: &str = "10.96.0.10";
/// Domain of services.
pub const CLUSTER_DOMAIN: &str = "cluster.local";
/// Port of the API server.
pub const API_SERVER_PORT: u16 = 6443;

/// What a machine is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs the control plane.
    Controller,
    /// Runs applications.
    Worker,
}

/// One machine of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// Host and node name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its address in the node network.
    pub address: Ipv4Addr,
}

/// A cluster as it was asked for; written to its directory by the first `up` and read by later ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shape {
    /// Name of the cluster.
    pub name: String,
    /// The node network, a /24.
    pub network: Ipv4Addr,
    /// The machines, controllers first.
    pub machines: Vec<Machine>,
    /// The simulated nodes beside them have the numbers below this one, but for those in `simulated_gone`; see
    /// [`crate::simulated::numbers`].
    #[serde(default)]
    pub simulated: u32,
    /// Numbers of simulated nodes that were removed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub simulated_gone: BTreeSet<u32>,
    /// CPUs of each machine, in thousandths.
    pub cpu_millis: u64,
    /// Memory of each machine in bytes.
    pub memory_bytes: u64,
    /// Disk of each machine in bytes.
    pub disk_bytes: u64,
    /// From power-on to a running kernel, in milliseconds.
    pub boot_time_ms: u64,
    /// After how long without a heartbeat a node is NotReady, as a Go duration.
    pub node_monitor_grace_period: String,
    /// How long pods tolerate a NotReady or unreachable node, in seconds.
    pub default_toleration_seconds: u64,
    /// Further flags by component.
    pub settings: BTreeMap<String, BTreeMap<String, String>>,
}

impl Shape {
    /// The machines for so many controllers and workers: controllers from .10, workers from .20 on.
    pub fn place(network: Ipv4Addr, controllers: u8, workers: u8) -> Vec<Machine> {
        let machine = |role, name: &str, index: u8, first: u8| Machine {
            name: format!("{name}-{index}"),
            role,
            address: Ipv4Addr::from_bits(network.to_bits() + u32::from(first) + u32::from(index)),
        };
        let controllers = (0..controllers).map(|index| machine(Role::Controller, "controller", index, 10));
        controllers.chain((0..workers).map(|index| machine(Role::Worker, "worker", index, 20))).collect()
    }

    /// Address of the API server.
    ///
    /// # Panics
    /// A shape without a controller, which `daruma up` refuses.
    pub fn api_server(&self) -> Ipv4Addr {
        self.machines.iter().find(|machine| machine.role == Role::Controller).expect("every cluster has a controller").address
    }

    /// URL of the API server.
    pub fn api_server_url(&self) -> String {
        format!("https://{}:{API_SERVER_PORT}", self.api_server())
    }

    /// Puts the flags that were set for one component into its command line, in place of what it says already.
    pub fn set_flags(&self, component: &str, arguments: &mut Vec<String>) {
        for (name, value) in self.settings.get(component).into_iter().flatten() {
            let flag = format!("--{name}=");
            arguments.retain(|argument| !argument.starts_with(&flag));
            arguments.push(flag + value);
        }
    }

    /// The same for the arguments of a container in a manifest.
    pub(crate) fn set_container_flags(&self, component: &str, container: &mut serde_json::Value) {
        let Some(arguments) = container.get_mut("args") else { return };
        let mut texts: Vec<String> =
            arguments.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect();
        self.set_flags(component, &mut texts);
        *arguments = texts.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_replace_what_is_there() {
        let mut shape: Shape = serde_json::from_value(serde_json::json!({
            "name": "c", "network": "10.88.0.0", "machines": [], "cpuMillis": 1, "memoryBytes": 1, "diskBytes": 1,
            "bootTimeMs": 1, "nodeMonitorGracePeriod": "50s", "defaultTolerationSeconds": 300, "settings": {}
        }))
        .expect("a shape");
        shape.settings.entry("dns".into()).or_default().insert("a".into(), "2".into());
        let mut arguments = vec!["dns".to_owned(), "--a=1".to_owned(), "--ab=1".to_owned()];
        shape.set_flags("dns", &mut arguments);
        assert_eq!(arguments, ["dns", "--ab=1", "--a=2"]);
        shape.set_flags("kubelet", &mut arguments);
        assert_eq!(arguments.len(), 3);
    }
}
