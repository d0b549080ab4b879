//! Cordoned nodes take no pods, but those that tolerate it.

use daruma_api::core::v1::Taint;
use daruma_api::taints;

use super::{Cluster, Plugin, Prepared, Refusal};
use crate::node_info::{NodeInfo, PodInfo};

/// See the module.
pub struct NodeUnschedulable;

struct ForPod {
    tolerated: bool,
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Cluster<'a>) -> Option<Box<dyn Prepared + 'a>> {
        let taint = Taint { key: taints::UNSCHEDULABLE.into(), effect: taints::NO_SCHEDULE.into(), ..Taint::default() };
        let tolerated = taints::tolerated(pod.spec().tolerations.as_deref().unwrap_or_default(), &taint);
        Some(Box::new(ForPod { tolerated }))
    }
}

impl Prepared for ForPod {
    fn filter(&self, node: &NodeInfo) -> Result<(), Refusal> {
        let cordoned = node.node.as_ref().and_then(|node| node.spec.as_ref()).and_then(|spec| spec.unschedulable);
        if cordoned == Some(true) && !self.tolerated {
            return Err(Refusal::unresolvable("node(s) were unschedulable"));
        }
        Ok(())
    }
}
