//! A port of a node serves one pod.

use super::{Cluster, Plugin, Prepared, Refusal};
use crate::node_info::{HostPort, NodeInfo, PodInfo};

/// See the module.
pub struct NodePorts;

struct ForPod<'a> {
    ports: &'a [HostPort],
}

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Cluster<'a>) -> Option<Box<dyn Prepared + 'a>> {
        (!pod.host_ports.is_empty()).then(|| Box::new(ForPod { ports: &pod.host_ports }) as Box<dyn Prepared>)
    }
}

/// The unspecified address conflicts with every address.
fn conflict(a: &HostPort, b: &HostPort) -> bool {
    a.0 == b.0 && a.2 == b.2 && (a.1 == b.1 || a.1 == "0.0.0.0" || b.1 == "0.0.0.0")
}

impl Prepared for ForPod<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Refusal> {
        if self.ports.iter().any(|port| node.used_ports.iter().any(|used| conflict(port, used))) {
            return Err(Refusal::resolvable("node(s) didn't have free ports for the requested pod ports"));
        }
        Ok(())
    }
}
