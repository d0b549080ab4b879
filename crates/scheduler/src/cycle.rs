//! One scheduling cycle: filter, score, pick. Pure.
//!
//! Source: kubernetes pkg/scheduler/schedule_one.go and framework/types.go.

use std::collections::BTreeMap;
use std::fmt;

use daruma_api::core::v1::Pod;
use daruma_api::meta::ObjectExt;

use crate::node_info::{NodeInfo, PodInfo};
use crate::plugins::{ALL, Cluster, Plugin, Prepared, Refusal};
use crate::preemption::{Outcome, preempt};

/// With fewer nodes than this, all are looked at.
const MIN_FEASIBLE: usize = 100;
/// The least part of the nodes that is looked at for, in percent.
const MIN_PERCENT: usize = 5;

/// A node was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Its name.
    pub node: String,
    /// How many nodes were looked at; the next cycle starts after them.
    pub evaluated: usize,
}

/// No node fits.
#[derive(Debug, Clone)]
pub struct FitError {
    /// Nodes in the cluster.
    pub nodes: usize,
    /// Why each of them was refused, in name order.
    pub refusals: Vec<Refusal>,
    /// What came of making room.
    pub preemption: Outcome,
}

impl fmt::Display for FitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let reasons = self.refusals.iter().flat_map(|refusal| &refusal.reasons).map(AsRef::as_ref);
        write!(f, "0/{} nodes are available: {}.", self.nodes, histogram(reasons))?;
        // What two later plugins say in the same message: dynamic resources, then preemption.
        match &self.preemption {
            Outcome::Room(_) => Ok(()),
            Outcome::NotEligible(why) => write!(f, " no new claims to deallocate, preemption: {why}"),
            Outcome::Nothing(why) => write!(f, " no new claims to deallocate, preemption: {why}"),
        }
    }
}

/// `2 Insufficient cpu, 1 node(s) were unschedulable`, sorted as text.
pub(crate) fn histogram<'a>(reasons: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut texts: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    texts.sort();
    texts.join(", ")
}

/// Finds the best node for `pod`, looking first at the node with index `start`. `draw(n)` gives a number
/// below `n` and decides between equally good nodes.
///
/// # Errors
/// [`FitError`] when every node was refused.
pub fn schedule(
    pod: &PodInfo,
    cluster: &Cluster<'_>,
    start: usize,
    draw: &mut dyn FnMut(usize) -> usize,
) -> Result<Decision, FitError> {
    let nodes: Vec<&NodeInfo> = cluster.nodes().collect();
    let prepared: Vec<Chosen<'_>> = ALL
        .iter()
        .filter_map(|(plugin, weight)| Some(Chosen { plugin: *plugin, prepared: plugin.prepare(pod, cluster)?, weight: *weight }))
        .collect();
    if let Some(promised) = promised(pod, cluster, &prepared) {
        return Ok(Decision { node: promised, evaluated: 0 });
    }
    let wanted = feasible_wanted(nodes.len());
    let mut feasible = Vec::new();
    let mut refusals = BTreeMap::new();
    let mut evaluated = 0;
    for offset in 0..nodes.len() {
        if feasible.len() >= wanted {
            break;
        }
        let index = (start + offset) % nodes.len();
        evaluated += 1;
        match fits(pod, cluster, &prepared, nodes[index]) {
            Ok(()) => feasible.push(nodes[index]),
            Err(refusal) => {
                refusals.insert(index, refusal);
            }
        }
    }
    let Some(best) = pick(&feasible, &prepared, draw) else {
        let preemption = preempt(pod, cluster, &nodes, &refusals, &prepared, draw);
        return Err(FitError { nodes: nodes.len(), refusals: refusals.into_values().collect(), preemption });
    };
    Ok(Decision { node: best.name().to_owned(), evaluated })
}

/// A plugin that is concerned, with what it has found out about the pod.
pub(crate) struct Chosen<'a> {
    plugin: &'static dyn Plugin,
    prepared: Box<dyn Prepared + 'a>,
    weight: i64,
}

/// The node that the pod was promised, where it fits.
fn promised(pod: &PodInfo, cluster: &Cluster<'_>, prepared: &[Chosen<'_>]) -> Option<String> {
    if cluster.nominated.is_empty() {
        return None;
    }
    let node = cluster.cache.node(cluster.nominated.node_of(&pod.pod.key())?)?;
    fits(pod, cluster, prepared, node).is_ok().then(|| node.name().to_owned())
}

/// Whether the pod fits beside the pods that are there, and beside those that were promised a place and go first too.
fn fits(pod: &PodInfo, cluster: &Cluster<'_>, prepared: &[Chosen<'_>], node: &NodeInfo) -> Result<(), Refusal> {
    if !cluster.nominated.is_empty() {
        beside_promised(pod, cluster, prepared, node)?;
    }
    prepared.iter().try_for_each(|one| one.prepared.filter(node))
}

/// As [`fits`], on a node as it would be.
pub(crate) fn fits_changed(
    pod: &PodInfo,
    cluster: &Cluster<'_>,
    prepared: &[Chosen<'_>],
    changed: &NodeInfo,
) -> Result<(), Refusal> {
    beside_promised(pod, cluster, prepared, changed)?;
    filter_changed(pod, cluster, prepared, changed)
}

fn beside_promised(pod: &PodInfo, cluster: &Cluster<'_>, prepared: &[Chosen<'_>], node: &NodeInfo) -> Result<(), Refusal> {
    let ahead = cluster.nominated.before(node.name(), pod);
    if ahead.is_empty() {
        return Ok(());
    }
    let mut with = node.clone();
    for other in ahead {
        with.add_pod(other);
    }
    filter_changed(pod, cluster, prepared, &with)
}

fn filter_changed(pod: &PodInfo, cluster: &Cluster<'_>, prepared: &[Chosen<'_>], changed: &NodeInfo) -> Result<(), Refusal> {
    let cluster = Cluster { changed: Some(changed), ..*cluster };
    for (plugin, _) in ALL {
        let known = prepared.iter().find(|one| one.plugin.name() == plugin.name());
        if !plugin.looks_around() {
            known.map_or(Ok(()), |one| one.prepared.filter(changed))?;
        } else if known.is_some() || !changed.pods_with_affinity.is_empty() {
            plugin.prepare(pod, &cluster).map_or(Ok(()), |fresh| fresh.filter(changed))?;
        }
    }
    Ok(())
}

fn pick<'a>(feasible: &[&'a NodeInfo], prepared: &[Chosen<'_>], draw: &mut dyn FnMut(usize) -> usize) -> Option<&'a NodeInfo> {
    if feasible.len() <= 1 {
        return feasible.first().copied();
    }
    let mut totals = vec![0i64; feasible.len()];
    for one in prepared.iter().filter(|one| one.weight > 0) {
        for (total, score) in totals.iter_mut().zip(one.prepared.score(feasible).into_iter().flatten()) {
            *total += score * one.weight;
        }
    }
    let highest = totals.iter().copied().max()?;
    let best: Vec<usize> = (0..feasible.len()).filter(|index| totals[*index] == highest).collect();
    Some(feasible[best[draw(best.len()) % best.len()]])
}

/// How many feasible nodes are enough: all of up to a hundred, then a part that shrinks with the cluster.
fn feasible_wanted(nodes: usize) -> usize {
    if nodes < MIN_FEASIBLE {
        return nodes;
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(MIN_PERCENT);
    (nodes * percent / 100).max(MIN_FEASIBLE)
}

/// Whether the scheduler must leave the pod alone: it is bound, ends, has ended or belongs to another one.
pub(crate) fn is_waiting(pod: &Pod, scheduler_name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let bound = spec.node_name.as_deref().is_some_and(|name| !name.is_empty());
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    !bound
        && !pod.is_being_deleted()
        && phase != "Succeeded"
        && phase != "Failed"
        && spec.scheduler_name.as_deref().unwrap_or("default-scheduler") == scheduler_name
}

#[cfg(test)]
mod tests;
