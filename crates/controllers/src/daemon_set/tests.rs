//! DaemonSets' plans applied to a model until none is left.

use std::sync::Arc;

use daruma_api::IntOrString;
use daruma_api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
use daruma_api::core::v1::{Node, Pod, PodSpec, PodTemplateSpec};
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::ObjectMeta;
use proptest::prelude::*;

use super::nodes::tests::node;
use super::plan::{FailedPods, Plan, by_node, plan, roll, status};
use crate::pods;
use crate::pods::tests::{at, pod};
use crate::template_hash::CONTROLLER_REVISION_HASH;

fn set(surge: i32, unavailable: i32) -> DaemonSet {
    DaemonSet {
        metadata: ObjectMeta { name: Some("agent".to_owned()), generation: Some(1), ..ObjectMeta::default() },
        spec: Some(DaemonSetSpec {
            template: PodTemplateSpec { spec: Some(PodSpec::default()), ..PodTemplateSpec::default() },
            update_strategy: Some(DaemonSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDaemonSet {
                    max_surge: Some(IntOrString::Int(surge)),
                    max_unavailable: Some(IntOrString::Int(unavailable)),
                }),
            }),
            ..DaemonSetSpec::default()
        }),
        status: None,
    }
}

struct Model {
    set: DaemonSet,
    nodes: Vec<Arc<Node>>,
    pods: Vec<Arc<Pod>>,
    failed: FailedPods,
    next: usize,
    second: i64,
}

impl Model {
    fn new(set: DaemonSet, nodes: usize) -> Self {
        let nodes = (0..nodes).map(|number| Arc::new(node(&format!("n{number}"), &[]))).collect();
        Self { set, nodes, pods: Vec::new(), failed: FailedPods::default(), next: 0, second: 100 }
    }

    fn step(&mut self, hash: &str) -> bool {
        self.second += 1;
        let mut done = plan(&self.set, &self.nodes, &by_node(&self.pods), hash, &mut self.failed, at(self.second));
        if done.create.is_empty() && done.delete.is_empty() {
            done = roll(&self.set, &self.nodes, &by_node(&self.pods), hash, at(self.second));
        }
        let Plan { create, delete, .. } = done;
        self.pods.retain(|pod| !delete.iter().any(|name| name == pod.name()));
        for node in &create {
            self.next += 1;
            let mut new = pod(&format!("p{}", self.next), node, None);
            new.metadata.labels = Some([(CONTROLLER_REVISION_HASH.to_owned(), hash.to_owned())].into());
            new.metadata.creation_timestamp = Some(pods::wire_time(at(self.second)));
            self.pods.push(Arc::new(new));
        }
        !create.is_empty() || !delete.is_empty()
    }

    /// One waiting pod becomes ready.
    fn one_ready(&mut self) -> bool {
        let Some(place) = self.pods.iter_mut().find(|pod| !pods::is_ready(pod)) else { return false };
        let mut ready = pod(place.name(), pods::node_name(place), Some(self.second));
        ready.metadata = place.metadata.clone();
        *place = Arc::new(ready);
        true
    }

    fn available(&self) -> usize {
        self.nodes
            .iter()
            .filter(|node| self.pods.iter().any(|pod| pods::node_name(pod) == node.name() && pods::is_ready(pod)))
            .count()
    }
}

#[test]
fn a_lost_node_gets_its_pod_back_and_failed_pods_wait() {
    let mut model = Model::new(set(0, 1), 1);
    assert!(model.step("a"));
    assert!(!model.step("a"));
    let mut failed = model.pods[0].as_ref().clone();
    failed.status.as_mut().expect("built").phase = Some("Failed".to_owned());
    model.pods = vec![Arc::new(failed.clone())];
    let now = at(500);
    let first = plan(&model.set, &model.nodes, &by_node(&model.pods), "a", &mut model.failed, now);
    assert_eq!(first.delete, [failed.name()]);
    assert_eq!(first.events[0].2, format!("Found failed daemon pod default/{} on node n0, will try to kill it", failed.name()));
    let second = plan(&model.set, &model.nodes, &by_node(&model.pods), "a", &mut model.failed, now);
    assert!(second.delete.is_empty() && second.again.is_some());
}

#[test]
fn status_counts() {
    let mut model = Model::new(set(0, 1), 3);
    model.step("a");
    model.one_ready();
    let status = status(&model.set, &model.nodes, &by_node(&model.pods), "a", true, at(200));
    assert_eq!((status.desired_number_scheduled, status.current_number_scheduled, status.number_ready), (3, 3, 1));
    assert_eq!((status.number_available, status.number_unavailable), (Some(1), Some(2)));
    assert_eq!(status.updated_number_scheduled, Some(3));
}

proptest! {
    /// A rollout settles with one new pod a node; nodes without an available pod stay within the limit.
    #[test]
    fn converges(nodes in 1usize..8, surge in 0i32..3, unavailable in 0i32..3) {
        let mut model = Model::new(set(surge, if surge > 0 { 0 } else { unavailable }), nodes);
        let limit = if surge > 0 { 0 } else { unavailable.max(1) as usize };
        while model.step("a") || model.one_ready() {}
        prop_assert_eq!(model.available(), nodes);
        for round in 0.. {
            prop_assert!(round < 500, "does not settle");
            let busy = model.step("b");
            prop_assert!(nodes - model.available() <= limit);
            prop_assert!(model.pods.len() <= nodes + surge as usize);
            if !(model.one_ready() || busy) {
                break;
            }
        }
        prop_assert_eq!(model.pods.len(), nodes);
        prop_assert!(model.pods.iter().all(|pod| pod.label(CONTROLLER_REVISION_HASH) == Some("b")));
    }
}
