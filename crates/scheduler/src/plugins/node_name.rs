//! A pod that names its node goes nowhere else.

use super::{Cluster, Plugin, Prepared, Refusal};
use crate::node_info::{NodeInfo, PodInfo};

/// See the module.
pub struct NodeName;

struct ForPod<'a> {
    name: &'a str,
}

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Cluster<'a>) -> Option<Box<dyn Prepared + 'a>> {
        let name = pod.spec().node_name.as_deref().filter(|name| !name.is_empty())?;
        Some(Box::new(ForPod { name }))
    }
}

impl Prepared for ForPod<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Refusal> {
        if node.name() == self.name { Ok(()) } else { Err(Refusal::unresolvable("node(s) didn't match the requested node name")) }
    }
}
