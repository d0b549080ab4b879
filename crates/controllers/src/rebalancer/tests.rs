//! Moves applied to a model until none is left.

use std::sync::Arc;

use daruma_api::core::v1::{Node, NodeCondition, NodeStatus, Pod};
use daruma_api::meta::ObjectExt;
use daruma_api::taints::NO_SCHEDULE;
use proptest::prelude::*;

use super::plan::{Memory, Seen, Step, Workload, plan};
use crate::daemon_set::nodes::tests::node;
use crate::pods;
use crate::pods::tests::{at, pod};

fn ready_node(name: &str, taints: &[(&str, &str)]) -> Arc<Node> {
    let condition = NodeCondition {
        type_: "Ready".into(),
        status: "True".into(),
        last_transition_time: Some(pods::wire_time(at(0))),
        ..NodeCondition::default()
    };
    let status = NodeStatus { conditions: Some(vec![condition]), ..NodeStatus::default() };
    Arc::new(Node { status: Some(status), ..node(name, taints) })
}

struct Model {
    nodes: Vec<Arc<Node>>,
    pods: Vec<Arc<Pod>>,
    memory: Memory,
    second: i64,
    next: usize,
    evictions: usize,
    gave_up: usize,
}

impl Model {
    fn new(counts: &[usize]) -> Self {
        let nodes = (0..counts.len()).map(|number| ready_node(&format!("n{number}"), &[])).collect();
        let mut model =
            Self { nodes, pods: Vec::new(), memory: Memory::default(), second: 1000, next: 0, evictions: 0, gave_up: 0 };
        for (number, count) in counts.iter().enumerate() {
            for _ in 0..*count {
                model.add(&format!("n{number}"));
            }
        }
        model
    }

    fn add(&mut self, node: &str) {
        self.next += 1;
        self.pods.push(Arc::new(pod(&format!("p{}", self.next), node, Some(self.second))));
    }

    fn counts(&self) -> Vec<usize> {
        let on = |node: &Arc<Node>| self.pods.iter().filter(|pod| pods::node_name(pod) == node.name()).count();
        self.nodes.iter().map(on).collect()
    }

    fn look(&mut self, settled: bool) -> Option<Step> {
        self.second += 5;
        let workload = Workload { key: "default/web".into(), generation: 1, settled, pods: self.pods.clone() };
        let seen = Seen { nodes: &self.nodes, workloads: &[workload], on_node: &|_| Vec::new(), now: at(self.second) };
        plan(&seen, &mut self.memory)
    }

    /// Looks until long after nothing is left to do; `place` picks the node of a replacement.
    fn run(&mut self, place: impl Fn(&Self, &str) -> String) {
        let mut idle = 0;
        while idle < 20 {
            idle += 1;
            match self.look(true) {
                None => {}
                Some(Step::GaveUp(..)) => self.gave_up += 1,
                Some(Step::Evict(next)) => {
                    idle = 0;
                    self.evictions += 1;
                    self.pods.retain(|pod| pod.uid() != next.pod.uid());
                    self.memory.evicted(*next.clone(), at(self.second));
                    assert_eq!(self.look(false), None, "one at a time");
                    let node = place(self, &next.from);
                    self.add(&node);
                }
            }
        }
    }
}

fn emptiest(model: &Model, _from: &str) -> String {
    let counts = model.counts();
    let least = (0..counts.len()).min_by_key(|number| counts[*number]).expect("there are nodes");
    format!("n{least}")
}

#[test]
fn a_recovered_node_gets_its_share() {
    let mut model = Model::new(&[4, 0]);
    model.run(emptiest);
    assert_eq!((model.counts(), model.evictions, model.gave_up), (vec![2, 2], 2, 0));
    let mut even = Model::new(&[2, 1, 2]);
    even.run(emptiest);
    assert_eq!(even.evictions, 0);
}

#[test]
fn a_replacement_that_comes_back_is_not_moved_again() {
    let mut model = Model::new(&[4, 0]);
    model.run(|_, from| from.to_owned());
    assert_eq!((model.evictions, model.gave_up), (1, 1));
    // Another node is another matter.
    model.nodes.push(ready_node("n2", &[]));
    model.run(|_, _| "n2".to_owned());
    // Two good moves; the third makes nothing better.
    assert_eq!((model.counts(), model.evictions, model.gave_up), (vec![1, 0, 3], 4, 2));
}

#[test]
fn only_nodes_that_pods_can_go_to_count() {
    let mut tainted = Model::new(&[4, 0]);
    tainted.nodes[1] = ready_node("n1", &[("x", NO_SCHEDULE)]);
    tainted.run(emptiest);
    assert_eq!(tainted.evictions, 0);
    let mut fresh = Model::new(&[4, 0]);
    let mut node = fresh.nodes[1].as_ref().clone();
    let conditions = node.status.as_mut().expect("built").conditions.as_mut().expect("built");
    conditions[0].last_transition_time = Some(pods::wire_time(at(990)));
    fresh.nodes[1] = Arc::new(node);
    assert_eq!(fresh.look(true), None, "ready for fifteen seconds only");
    fresh.second += 60;
    assert!(matches!(fresh.look(true), Some(Step::Evict(_))));
    let mut busy = Model::new(&[4, 0]);
    assert_eq!(busy.look(false), None, "a rollout is under way");
}

#[test]
fn a_refusal_is_not_repeated_at_once() {
    let mut model = Model::new(&[4, 0]);
    assert!(matches!(model.look(true), Some(Step::Evict(_))));
    model.memory.refused(at(model.second));
    assert_eq!(model.look(true), None);
    model.second += 30;
    assert!(matches!(model.look(true), Some(Step::Evict(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Wherever the pods lie and wherever replacements land, moves come to an end; with a scheduler that
    /// spreads, they end evenly.
    #[test]
    fn converges(counts in proptest::collection::vec(0usize..8, 1..6), target in 0usize..6) {
        let mut fair = Model::new(&counts);
        fair.run(emptiest);
        let after = fair.counts();
        let (most, least) = (after.iter().max().expect("nodes"), after.iter().min().expect("nodes"));
        prop_assert!(most - least <= 1, "{:?}", after);
        prop_assert_eq!(after.iter().sum::<usize>(), counts.iter().sum::<usize>());
        let mut stubborn = Model::new(&counts);
        let node = format!("n{}", target % counts.len());
        stubborn.run(|_, _| node.clone());
        prop_assert!(stubborn.evictions <= counts.iter().sum::<usize>() + 1);
        let settled = stubborn.evictions;
        stubborn.run(|_, _| node.clone());
        prop_assert_eq!(stubborn.evictions, settled);
    }
}
