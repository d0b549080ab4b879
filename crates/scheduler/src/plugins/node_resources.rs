//! Whether a node has room, and which one has most (pkg/scheduler/framework/plugins/noderesources).

use std::borrow::Cow;

use super::{Cluster, MAX_SCORE, Plugin, Prepared, Refusal};
use crate::amounts::Amounts;
use crate::node_info::{NodeInfo, PodInfo};

/// Filters by requests, prefers the least allocated node.
pub struct Fit;

/// Prefers nodes whose CPU and memory are used in equal parts.
pub struct BalancedAllocation;

impl Plugin for Fit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Cluster<'a>) -> Option<Box<dyn Prepared + 'a>> {
        Some(Box::new(FitForPod { pod }))
    }
}

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Cluster<'a>) -> Option<Box<dyn Prepared + 'a>> {
        // Pods without requests are left to the other plugins.
        let asks = pod.requests.milli_cpu > 0 || pod.requests.memory > 0;
        asks.then(|| Box::new(BalanceForPod { pod }) as Box<dyn Prepared>)
    }
}

struct FitForPod<'a> {
    pod: &'a PodInfo,
}

impl Prepared for FitForPod<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Refusal> {
        let (reasons, resolvable) = lacking(&self.pod.requests, node);
        if reasons.is_empty() { Ok(()) } else { Err(Refusal { reasons, resolvable }) }
    }

    fn score(&self, nodes: &[&NodeInfo]) -> Option<Vec<i64>> {
        let least = |node: &&NodeInfo| {
            let parts = [
                (node.scoring.0 + self.pod.scoring.0, node.allocatable.milli_cpu),
                (node.scoring.1 + self.pod.scoring.1, node.allocatable.memory),
            ];
            let known = parts.iter().filter(|(_, capacity)| *capacity > 0);
            let scores: Vec<i64> = known
                .map(|(asked, capacity)| if asked > capacity { 0 } else { (capacity - asked) * MAX_SCORE / capacity })
                .collect();
            if scores.is_empty() { 0 } else { scores.iter().sum::<i64>() / scores.len() as i64 }
        };
        Some(nodes.iter().map(least).collect())
    }
}

/// What the node lacks, and whether pods on it could make room.
fn lacking(asked: &Amounts, node: &NodeInfo) -> (Vec<Cow<'static, str>>, bool) {
    let (has, used) = (&node.allocatable, &node.requested);
    let mut reasons: Vec<Cow<'static, str>> = Vec::new();
    let mut resolvable = true;
    if node.pods.len() as i64 + 1 > has.pods {
        reasons.push("Too many pods".into());
    }
    let fixed = [
        ("Insufficient cpu", asked.milli_cpu, has.milli_cpu, used.milli_cpu),
        ("Insufficient memory", asked.memory, has.memory, used.memory),
        ("Insufficient ephemeral-storage", asked.ephemeral_storage, has.ephemeral_storage, used.ephemeral_storage),
    ];
    for (reason, asked, has, used) in fixed {
        if asked > 0 && asked > has - used {
            reasons.push(reason.into());
            resolvable &= asked <= has;
        }
    }
    for (name, asked) in &asked.scalars {
        let has = has.scalars.get(name).copied().unwrap_or(0);
        let used = used.scalars.get(name).copied().unwrap_or(0);
        if *asked > 0 && *asked > has - used {
            reasons.push(format!("Insufficient {name}").into());
            resolvable &= *asked <= has;
        }
    }
    (reasons, resolvable)
}

struct BalanceForPod<'a> {
    pod: &'a PodInfo,
}

impl Prepared for BalanceForPod<'_> {
    fn score(&self, nodes: &[&NodeInfo]) -> Option<Vec<i64>> {
        let score = |node: &&NodeInfo| {
            let without = balance(&node.requested, &node.allocatable);
            let mut with_pod = node.requested.clone();
            with_pod.add(&self.pod.requests, 1);
            let with = balance(&with_pod, &node.allocatable);
            MAX_SCORE / 2 + (MAX_SCORE / 2 + with - without) / 2
        };
        Some(nodes.iter().map(score).collect())
    }
}

/// 100 where CPU and memory are used in equal parts, less the half of their difference.
fn balance(used: &Amounts, has: &Amounts) -> i64 {
    if has.milli_cpu == 0 || has.memory == 0 {
        return MAX_SCORE;
    }
    let fraction = |used: i64, has: i64| (used as f64 / has as f64).min(1.0);
    let deviation = ((fraction(used.milli_cpu, has.milli_cpu) - fraction(used.memory, has.memory)) / 2.0).abs();
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}
