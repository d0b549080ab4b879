//! Tables: a cluster, a pod, where it goes or why it does not.

use std::sync::Arc;

use daruma_api::core::v1::Node;
use daruma_api::selector::Selector;
use serde_json::{Value, json};

use super::*;
use crate::cache::Cache;
use crate::nominated::Nominated;
use crate::plugins::Namespaces;
use crate::preemption::Budget;

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

/// Everything beside the cache.
#[derive(Default)]
struct Around {
    namespaces: Namespaces,
    nominated: Nominated,
    budgets: Vec<Budget>,
}

fn decide(cache: &Cache, around: &Around, pod: Arc<Pod>) -> Result<Decision, FitError> {
    let selector = Selector::parse("app=a").expect("parses");
    let Around { namespaces, nominated, budgets } = around;
    let cluster = Cluster { cache, default_selector: Some(&selector), namespaces, nominated, budgets, changed: None };
    schedule(&PodInfo::new(pod), &cluster, 0, &mut |_| 0)
}

fn run(cache: &Cache, pod: Arc<Pod>) -> Result<String, String> {
    decide(cache, &Around::default(), pod).map(|decision| decision.node).map_err(|error| error.to_string())
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

#[test]
fn namespaces_are_selected_by_their_labels() {
    let mut cache = story();
    let mut near = plain();
    near["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!([
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "a"}},
         "namespaceSelector": {"matchLabels": {"team": "x"}}}]);
    let mut other = (*pod("db", plain())).clone();
    other.metadata.namespace = Some("data".into());
    cache.place(Arc::new(other), "worker-1");
    let labels = |value: &str| BTreeMap::from([("team".to_owned(), value.to_owned())]);
    for (team, expected) in [("x", Some("worker-1")), ("y", None)] {
        let around = Around { namespaces: Namespaces::from([("data".to_owned(), labels(team))]), ..Around::default() };
        let node = decide(&cache, &around, pod("p", near.clone())).ok().map(|decision| decision.node);
        assert_eq!(node.as_deref(), expected, "team {team}");
    }
}

/// A pod with a priority that asks for CPU and started at a second.
fn ranked(name: &str, priority: i32, cpu: &str, started: &str) -> Arc<Pod> {
    let mut spec = asking(cpu);
    spec["priority"] = priority.into();
    let mut pod = (*pod(name, spec)).clone();
    pod.metadata.uid = Some(name.to_owned());
    pod.status = serde_json::from_value(json!({"startTime": format!("2026-01-01T00:00:{started}Z")})).ok();
    Arc::new(pod)
}

/// `NODE: VICTIM VICTIM` or the message.
fn room(cache: &Cache, around: &Around, pod: Arc<Pod>) -> String {
    let error = decide(cache, around, pod).expect_err("it does not fit as things are");
    match &error.preemption {
        Outcome::Room(best) => {
            let names: Vec<&str> = best.victims.iter().map(|victim| victim.pod.name()).collect();
            format!("{}: {}", best.node, names.join(" "))
        }
        _ => error.to_string().rsplit_once("preemption: ").map(|(_, text)| text.to_owned()).unwrap_or_default(),
    }
}

#[track_caller]
fn check_room(pods: &[(&str, i32, &str, &str, &str)], cpu: &str, expected: &str) {
    let mut cache = story();
    for (name, priority, cpu, node, started) in pods {
        cache.place(ranked(name, *priority, cpu, started), node);
    }
    assert_eq!(room(&cache, &Around::default(), ranked("p", 10, cpu, "59")), expected, "{pods:?}");
}

#[test]
fn who_has_to_go() {
    // The least that is enough, and the less important.
    check_room(
        &[("a", 1, "500m", "worker-0", "00"), ("b", 2, "400m", "worker-0", "00"), ("c", 9, "1", "worker-1", "00")],
        "500m",
        "worker-0: a",
    );
    // The lowest of the highest priorities.
    check_room(&[("a", 5, "1", "worker-0", "00"), ("b", 4, "1", "worker-1", "00")], "1", "worker-1: b");
    // The lowest sum, which is the fewer victims too.
    check_room(
        &[("a", 5, "500m", "worker-0", "00"), ("b", 5, "500m", "worker-0", "00"), ("c", 5, "1", "worker-1", "00")],
        "1",
        "worker-1: c",
    );
    // The latest start.
    check_room(&[("a", 5, "1", "worker-0", "07"), ("b", 5, "1", "worker-1", "08")], "1", "worker-1: b");
    // Of equals the younger one.
    check_room(
        &[("a", 5, "500m", "worker-0", "07"), ("b", 5, "500m", "worker-0", "09"), ("c", 50, "1", "worker-1", "00")],
        "500m",
        "worker-0: b",
    );
    let nothing =
        "0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod.";
    check_room(&[("a", 10, "1", "worker-0", "00"), ("b", 11, "1", "worker-1", "00")], "1", nothing);
    // Even without all of lower priority there is no room on one node, and nobody of lower priority on the other.
    check_room(
        &[("a", 1, "100m", "worker-0", "00"), ("b", 11, "900m", "worker-0", "00"), ("c", 11, "900m", "worker-1", "00")],
        "500m",
        "0/3 nodes are available: 1 Insufficient cpu, 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling.",
    );
}

#[test]
fn budgets_and_affinity() {
    let mut cache = story();
    cache.place(ranked("a", 1, "1", "00"), "worker-0");
    cache.place(ranked("b", 5, "1", "00"), "worker-1");
    let budget = |allowed: i32, app: &str| {
        let object = json!({"metadata": {"name": "x", "namespace": "default"}, "spec": {"selector": {"matchLabels": {"app": app}}},
            "status": {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1,
                       "disruptedPods": {"b": "2026-01-01T00:00:00Z"}}});
        vec![Budget::of(&serde_json::from_value(object).expect("a budget"))]
    };
    let chosen = |budgets: Vec<Budget>| room(&cache, &Around { budgets, ..Around::default() }, ranked("p", 10, "1", "59"));
    assert_eq!(chosen(vec![]), "worker-0: a");
    assert_eq!(chosen(budget(1, "a")), "worker-0: a");
    assert_eq!(chosen(budget(0, "a")), "worker-1: b", "the disruption of b is counted already");
    assert_eq!(chosen(budget(0, "other")), "worker-0: a");
    // What an anti-affinity keeps away is no help for affinity of nodes, but those that repel can go.
    let mut cache = story();
    let mut apart = asking("1m");
    apart["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!([
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "a"}}}]);
    for (name, node) in [("x", "worker-0"), ("y", "worker-1")] {
        cache.place(pod(name, apart.clone()), node);
    }
    assert_eq!(room(&cache, &Around::default(), ranked("p", 10, "1m", "59")), "worker-0: x");
}

#[test]
fn a_promised_place() {
    let mut cache = story();
    cache.place(ranked("a", 1, "1", "00"), "worker-0");
    cache.place(ranked("b", 20, "1", "00"), "worker-1");
    let urgent = ranked("p", 10, "1", "59");
    let mut around = Around::default();
    around.nominated.set(Arc::new(PodInfo::new(urgent.clone())), "worker-0");
    // While its victim ends, it waits.
    let mut ending = (*ranked("a", 1, "1", "00")).clone();
    ending.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:01:00Z")).ok();
    ending.status = serde_json::from_value(
        json!({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]}),
    )
    .ok();
    cache.place(Arc::new(ending), "worker-0");
    assert_eq!(room(&cache, &around, urgent.clone()), "not eligible due to a terminating pod on the nominated node.");
    // Once it is gone nobody of lower priority takes the place; those above do.
    cache.remove_pod("default/a");
    assert!(decide(&cache, &around, ranked("low", 9, "1", "59")).is_err());
    assert_eq!(
        decide(&cache, &around, ranked("high", 11, "1", "59")).map(|decision| decision.node).ok().as_deref(),
        Some("worker-0")
    );
    let decision = decide(&cache, &around, urgent).expect("it has its place");
    assert_eq!((decision.node.as_str(), decision.evaluated), ("worker-0", 0));
}

#[test]
fn some_never_preempt() {
    let mut cache = story();
    for node in ["worker-0", "worker-1"] {
        cache.place(ranked(node, 1, "1", "00"), node);
    }
    let mut spec = asking("1");
    spec["priority"] = 10.into();
    spec["preemptionPolicy"] = "Never".into();
    check_refused(
        &cache,
        spec,
        "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. no new claims to deallocate, \
         preemption: not eligible due to preemptionPolicy=Never.",
    );
    let error = decide(&cache, &Around::default(), ranked("p", 10, "1", "59")).expect_err("full");
    assert_eq!(error.to_string(), "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu.");
}
