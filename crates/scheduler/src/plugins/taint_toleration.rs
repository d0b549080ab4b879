//! Taints keep pods away; preferred ones cost score.

use daruma_api::core::v1::{Taint, Toleration};
use daruma_api::taints::{NO_EXECUTE, NO_SCHEDULE, PREFER_NO_SCHEDULE, tolerated};

use super::{Cluster, Plugin, Prepared, Refusal, normalize};
use crate::node_info::{NodeInfo, PodInfo};

/// See the module.
pub struct TaintToleration;

struct ForPod<'a> {
    tolerations: &'a [Toleration],
    /// Those that count for preferred taints.
    preferred: Vec<Toleration>,
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Cluster<'a>) -> Option<Box<dyn Prepared + 'a>> {
        let tolerations = pod.spec().tolerations.as_deref().unwrap_or_default();
        let for_preferred =
            |one: &&Toleration| one.effect.as_deref().is_none_or(|effect| effect.is_empty() || effect == PREFER_NO_SCHEDULE);
        let preferred = tolerations.iter().filter(for_preferred).cloned().collect();
        Some(Box::new(ForPod { tolerations, preferred }))
    }
}

fn node_taints(node: &NodeInfo) -> &[Taint] {
    node.node.as_ref().and_then(|node| node.spec.as_ref()).and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

impl Prepared for ForPod<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Refusal> {
        let hard = |taint: &&Taint| taint.effect == NO_SCHEDULE || taint.effect == NO_EXECUTE;
        if node_taints(node).iter().filter(hard).all(|taint| tolerated(self.tolerations, taint)) {
            Ok(())
        } else {
            Err(Refusal::unresolvable("node(s) had untolerated taint(s)"))
        }
    }

    fn score(&self, nodes: &[&NodeInfo]) -> Option<Vec<i64>> {
        let soft = |taint: &&Taint| taint.effect == PREFER_NO_SCHEDULE && !tolerated(&self.preferred, taint);
        let mut scores: Vec<i64> = nodes.iter().map(|node| node_taints(node).iter().filter(soft).count() as i64).collect();
        normalize(&mut scores, true);
        Some(scores)
    }
}
