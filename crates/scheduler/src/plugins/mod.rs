//! One file a plugin, all named in [`ALL`].

mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
mod pod_topology_spread;
mod taint_toleration;

use std::borrow::Cow;
use std::collections::BTreeMap;

use daruma_api::selector::Selector;

use crate::cache::Cache;
use crate::node_info::{NodeInfo, PodInfo};
use crate::nominated::Nominated;
use crate::preemption::Budget;

/// Highest score of a node in one plugin.
pub const MAX_SCORE: i64 = 100;

/// Every plugin with its weight in scoring, in the order of filtering
/// (pkg/scheduler/apis/config/v1/default_plugins.go).
pub static ALL: &[(&dyn Plugin, i64)] = &[
    (&node_unschedulable::NodeUnschedulable, 0),
    (&node_name::NodeName, 0),
    (&taint_toleration::TaintToleration, 3),
    (&node_affinity::NodeAffinity, 2),
    (&node_ports::NodePorts, 0),
    (&node_resources::Fit, 1),
    (&pod_topology_spread::PodTopologySpread, 2),
    (&inter_pod_affinity::InterPodAffinity, 2),
    (&node_resources::BalancedAllocation, 1),
    (&image_locality::ImageLocality, 1),
];

/// Labels of the namespaces, by name.
pub type Namespaces = BTreeMap<String, BTreeMap<String, String>>;

/// What plugins may look at beyond the pod.
#[derive(Clone, Copy)]
pub struct Cluster<'a> {
    /// Nodes and pods.
    pub cache: &'a Cache,
    /// Selector of the services and the owner that the pod belongs to; `None` where there are none.
    pub default_selector: Option<&'a Selector>,
    /// Labels of the namespaces.
    pub namespaces: &'a Namespaces,
    /// Pods that were promised a place.
    pub nominated: &'a Nominated,
    /// Disruption budgets.
    pub budgets: &'a [Budget],
    /// One node as it would be if pods came or went; it stands for the cache's own state of this node.
    pub changed: Option<&'a NodeInfo>,
}

impl<'a> Cluster<'a> {
    /// The nodes that exist, in name order.
    pub fn nodes(self) -> impl Iterator<Item = &'a NodeInfo> {
        let changed = self.changed;
        self.cache.nodes().map(move |node| changed.filter(|changed| changed.name() == node.name()).unwrap_or(node))
    }
}

/// Why a node was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// As they appear in the message, e.g. `Insufficient cpu`.
    pub reasons: Vec<Cow<'static, str>>,
    /// Whether removing pods from the node could help.
    pub resolvable: bool,
}

impl Refusal {
    /// Removing pods could help.
    pub fn resolvable(reason: &'static str) -> Self {
        Self { reasons: vec![reason.into()], resolvable: true }
    }
    /// Removing pods does not help.
    pub fn unresolvable(reason: &'static str) -> Self {
        Self { reasons: vec![reason.into()], resolvable: false }
    }
}

/// One aspect of placing pods. Pure.
pub trait Plugin: Sync {
    /// Its name as Kubernetes spells it.
    fn name(&self) -> &'static str;

    /// Whether it looks at other nodes than the one that it filters, so that it has to look anew where pods come or go.
    fn looks_around(&self) -> bool {
        false
    }

    /// Looks at one pod; `None` where the pod does not concern this plugin.
    fn prepare<'a>(&self, pod: &'a PodInfo, cluster: &'a Cluster<'a>) -> Option<Box<dyn Prepared + 'a>>;
}

/// A plugin that has looked at a pod.
pub trait Prepared {
    /// Whether the pod can run on `node`.
    fn filter(&self, _node: &NodeInfo) -> Result<(), Refusal> {
        Ok(())
    }

    /// Normalised scores (0 to 100) of the nodes that passed all filters, one a node; `None` for no opinion.
    fn score(&self, _nodes: &[&NodeInfo]) -> Option<Vec<i64>> {
        None
    }
}

/// Scales scores so that the highest becomes 100; reversed, so that the highest becomes 0
/// (pkg/scheduler/framework/plugins/helper/normalize_score.go).
pub(crate) fn normalize(scores: &mut [i64], reverse: bool) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        if highest == 0 {
            *score = if reverse { MAX_SCORE } else { *score };
        } else {
            *score = *score * MAX_SCORE / highest;
            if reverse {
                *score = MAX_SCORE - *score;
            }
        }
    }
}
