//! Restores the spread of Deployments after a recovery: a node that comes back gets its share of pods again.
//!
//! Not a controller of Kubernetes, and off by default: `--controllers=*,rebalancer` turns it on. Pods go through
//! the eviction API, so disruption budgets hold, and one at a time: the next goes when the replacement of
//! the last is ready.

pub mod plan;
pub mod spread;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_api::apps::v1::Deployment;
use daruma_api::core::v1::Pod;
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::{DeleteOptions, ObjectMeta, Preconditions, Status};
use daruma_api::policy::v1::Eviction;
use futures::FutureExt;

use self::plan::{Memory, Move, Seen, Step, Workload};
use crate::pods;
use crate::shared::{BY_CONTROLLER, BY_NODE, Shared};
use crate::shell::Context;

/// How often the spread is looked at.
const PERIOD: Duration = Duration::from_secs(5);
const REASON: &str = "Rebalancing";

/// Registers the controller.
pub(crate) fn start(context: Context) {
    let shared = context.shared.clone();
    let ready = async move {
        shared.nodes.wait_synced().await;
        shared.deployments.wait_synced().await;
        shared.replica_sets.wait_synced().await;
        shared.pods.wait_synced().await;
    };
    let rebalancer = Arc::new(Rebalancer { context: context.clone(), memory: Mutex::default() });
    context.every(PERIOD, ready, move || {
        let rebalancer = rebalancer.clone();
        async move { rebalancer.look().await }.boxed()
    });
}

struct Rebalancer {
    context: Context,
    memory: Mutex<Memory>,
}

impl Rebalancer {
    async fn look(&self) {
        let shared = &self.context.shared;
        let deployments = shared.deployments.list();
        let workloads: Vec<Workload> = deployments.iter().map(|deployment| workload(shared, deployment)).collect();
        let nodes = shared.nodes.list();
        let step = {
            let on_node = |name: &str| shared.pods.by_index(BY_NODE, name);
            let now = self.context.world.now();
            let seen = Seen { nodes: &nodes, workloads: &workloads, on_node: &on_node, now };
            plan::plan(&seen, &mut self.memory.lock().expect("no panic while held"))
        };
        match step {
            None => {}
            Some(Step::Evict(next)) => self.evict(*next).await,
            Some(Step::GaveUp(pod, workload)) => {
                let message = format!(
                    "The spread of Deployment {workload} did not get better with this pod on {}; it is left as it is until its nodes or its template change",
                    pods::node_name(&pod)
                );
                self.context.recorder.normal(pod.as_ref(), REASON, message);
            }
        }
    }

    async fn evict(&self, next: Move) {
        let pod = next.pod.clone();
        let eviction = Eviction {
            metadata: ObjectMeta {
                name: pod.metadata.name.clone(),
                namespace: pod.metadata.namespace.clone(),
                ..ObjectMeta::default()
            },
            delete_options: Some(DeleteOptions {
                preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
                ..DeleteOptions::default()
            }),
        };
        let api = self.context.client.namespaced::<Pod>(pod.namespace());
        let outcome = api.create_subresource::<Eviction, Status>(pod.name(), "eviction", &eviction).await;
        let now = self.context.world.now();
        let mut memory = self.memory.lock().expect("no panic while held");
        match outcome {
            Ok(_) => {
                self.context.recorder.normal(pod.as_ref(), REASON, next.why.clone());
                memory.evicted(next, now);
            }
            Err(error) => {
                tracing::debug!(pod = pod.key(), %error, "cannot evict");
                memory.refused(now);
            }
        }
    }
}

fn workload(shared: &Shared, deployment: &Deployment) -> Workload {
    let sets = shared.replica_sets.by_index(BY_CONTROLLER, deployment.uid());
    let pods = sets.iter().flat_map(|set| shared.pods_of(set.uid(), None)).filter(|pod| pods::is_active(pod)).collect();
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let counts = [status.replicas, status.updated_replicas, status.available_replicas];
    Workload {
        key: deployment.key(),
        generation: deployment.metadata.generation.unwrap_or_default(),
        settled: !deployment.is_being_deleted()
            && status.observed_generation == deployment.metadata.generation
            && counts.iter().all(|count| count.unwrap_or_default() == wanted),
        pods,
    }
}
