//! One scheduling cycle: filter, score, pick. Pure.
//!
//! Source: kubernetes pkg/scheduler/schedule_one.go and framework/types.go.

use std::collections::BTreeMap;
use std::fmt;

use daruma_api::core::v1::Pod;
use daruma_api::meta::ObjectExt;

use crate::node_info::{NodeInfo, PodInfo};
use crate::plugins::{ALL, Cluster, Prepared, Refusal};

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FitError {
    /// Nodes in the cluster.
    pub nodes: usize,
    /// Why each of them was refused, in name order.
    pub refusals: Vec<Refusal>,
    /// Whether the pod may not take another pod's place (`preemptionPolicy: Never`).
    pub never_preempts: bool,
}

impl fmt::Display for FitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let reasons = self.refusals.iter().flat_map(|refusal| &refusal.reasons).map(AsRef::as_ref);
        write!(f, "0/{} nodes are available: {}.", self.nodes, histogram(reasons))?;
        // What two later plugins say in the same message: dynamic resources, then preemption.
        f.write_str(" no new claims to deallocate, preemption: ")?;
        if self.never_preempts {
            return f.write_str("not eligible due to preemptionPolicy=Never..");
        }
        let helpful = |refusal: &Refusal| {
            if refusal.resolvable {
                "No preemption victims found for incoming pod"
            } else {
                "Preemption is not helpful for scheduling"
            }
        };
        write!(f, "0/{} nodes are available: {}.", self.nodes, histogram(self.refusals.iter().map(helpful)))
    }
}

/// `2 Insufficient cpu, 1 node(s) were unschedulable`, sorted as text.
fn histogram<'a>(reasons: impl Iterator<Item = &'a str>) -> String {
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
    let nodes: Vec<&NodeInfo> = cluster.cache.nodes().collect();
    let prepared: Vec<(Box<dyn Prepared + '_>, i64)> =
        ALL.iter().filter_map(|(plugin, weight)| Some((plugin.prepare(pod, cluster)?, *weight))).collect();
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
        match prepared.iter().find_map(|(plugin, _)| plugin.filter(nodes[index]).err()) {
            None => feasible.push(nodes[index]),
            Some(refusal) => {
                refusals.insert(index, refusal);
            }
        }
    }
    let Some(best) = pick(&feasible, &prepared, draw) else {
        let never_preempts = pod.spec().preemption_policy.as_deref() == Some("Never");
        return Err(FitError { nodes: nodes.len(), refusals: refusals.into_values().collect(), never_preempts });
    };
    Ok(Decision { node: best.name().to_owned(), evaluated })
}

fn pick<'a>(
    feasible: &[&'a NodeInfo],
    prepared: &[(Box<dyn Prepared + '_>, i64)],
    draw: &mut dyn FnMut(usize) -> usize,
) -> Option<&'a NodeInfo> {
    if feasible.len() <= 1 {
        return feasible.first().copied();
    }
    let mut totals = vec![0i64; feasible.len()];
    for (plugin, weight) in prepared.iter().filter(|(_, weight)| *weight > 0) {
        for (total, score) in totals.iter_mut().zip(plugin.score(feasible).into_iter().flatten()) {
            *total += score * weight;
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
mod tests {
    use std::sync::Arc;

    use daruma_api::core::v1::Node;
    use daruma_api::selector::Selector;
    use serde_json::{Value, json};

    use super::*;
    use crate::cache::Cache;

    fn node(name: &str, change: impl Fn(&mut Value)) -> Arc<Node> {
        let mut node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": {},
            "status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "110"}},
        });
        change(&mut node);
        Arc::new(serde_json::from_value(node).expect("a node"))
    }

    fn pod(name: &str, spec: Value) -> Arc<Pod> {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": {"app": "a"}}, "spec": spec});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn plain() -> Value {
        json!({"containers": [{"name": "c"}]})
    }

    fn asking(cpu: &str) -> Value {
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]})
    }

    fn run(cache: &Cache, pod: Arc<Pod>) -> Result<String, String> {
        let selector = Selector::parse("app=a").expect("parses");
        let cluster = Cluster { cache, default_selector: Some(selector) };
        let info = PodInfo::new(pod);
        schedule(&info, &cluster, 0, &mut |_| 0).map(|decision| decision.node).map_err(|error| error.to_string())
    }

    /// One tainted controller and two workers.
    fn story() -> Cache {
        let mut cache = Cache::default();
        cache.set_node(node("controller-0", |node| {
            node["spec"]["taints"] = json!([{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]);
        }));
        cache.set_node(node("worker-0", |_| ()));
        cache.set_node(node("worker-1", |_| ()));
        cache
    }

    #[test]
    fn four_pods_end_two_and_two() {
        let mut cache = story();
        let mut places = BTreeMap::<String, usize>::new();
        for index in 0..4 {
            let pod = pod(&format!("p{index}"), plain());
            let node = run(&cache, pod.clone()).expect("fits");
            *places.entry(node.clone()).or_default() += 1;
            cache.place(pod, &node);
        }
        assert_eq!(places, BTreeMap::from([("worker-0".to_owned(), 2), ("worker-1".to_owned(), 2)]));
    }

    #[track_caller]
    fn check_refused(cache: &Cache, spec: Value, expected: &str) {
        assert_eq!(run(cache, pod("p", spec)), Err(expected.to_owned()));
    }

    #[test]
    fn messages() {
        check_refused(&Cache::default(), plain(), "no nodes available to schedule pods");
        let mut cache = story();
        check_refused(
            &cache,
            asking("2"),
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. no new claims to deallocate, \
             preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
        );
        for (name, on) in [("a", "worker-0"), ("b", "worker-1")] {
            cache.place(pod(name, asking("900m")), on);
        }
        check_refused(
            &cache,
            asking("500m"),
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. no new claims to deallocate, \
             preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found \
             for incoming pod.",
        );
        let mut elsewhere = plain();
        elsewhere["nodeSelector"] = json!({"disk": "ssd"});
        check_refused(
            &cache,
            elsewhere,
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) didn't match Pod's node affinity/selector. \
             no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
        );
    }

    #[test]
    fn anti_affinity_keeps_apart() {
        let mut cache = story();
        let mut apart = plain();
        apart["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!([
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "a"}}}]);
        cache.place(pod("x", apart.clone()), "worker-0");
        assert_eq!(run(&cache, pod("y", apart.clone())).as_deref(), Ok("worker-1"));
        cache.place(pod("y", apart.clone()), "worker-1");
        assert!(run(&cache, pod("z", plain())).is_err_and(|text| text.contains("existing pods anti-affinity rules")));
    }

    #[test]
    fn hard_spread_is_kept() {
        let mut cache = story();
        let mut spread = plain();
        spread["topologySpreadConstraints"] = json!([{"topologyKey": "kubernetes.io/hostname", "maxSkew": 1,
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "a"}},
            "nodeTaintsPolicy": "Honor"}]);
        cache.place(pod("x", spread.clone()), "worker-1");
        assert_eq!(run(&cache, pod("y", spread)).as_deref(), Ok("worker-0"));
    }

    #[test]
    fn large_clusters_look_at_a_part() {
        assert_eq!(feasible_wanted(3), 3);
        assert_eq!(feasible_wanted(200), 100);
        assert_eq!(feasible_wanted(1000), 420);
        assert_eq!(feasible_wanted(6000), 300);
    }
}
