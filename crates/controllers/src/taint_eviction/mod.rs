//! Evicts pods that do not tolerate their node's NoExecute taints, or not for longer.
//!
//! Source: kubernetes pkg/controller/tainteviction/taint_eviction.go.

pub mod plan;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_api::core::v1::{Node, ObjectReference, Pod, Taint};
use daruma_api::meta::{ObjectExt, split_key};
use daruma_client::events::EventType;
use daruma_client::informer::Delta;
use daruma_client::{ClientError, DeleteOptions, Patch};
use futures::FutureExt;
use serde_json::json;
use tokio::sync::Notify;

use self::plan::{Decision, Timetable, decide, no_execute};
use crate::node_taints;
use crate::pods;
use crate::shared::BY_NODE;
use crate::shell::Context;

/// Attempts to evict a pod, and the pause between them.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(10);

/// Registers the controller.
pub(crate) fn start(context: Context) {
    let node_queue = context.queue("noexec_taint_node");
    let pod_queue = context.queue("noexec_taint_pod");
    let shared = context.shared.clone();
    {
        let queue = node_queue.clone();
        shared.nodes.on_delta(move |delta| {
            let taints = |node: &Node| no_execute(node_taints::taints(node));
            match delta {
                Delta::Updated(old, node) if taints(old) == taints(node) => {}
                _ => queue.add(delta.object().name()),
            }
        });
    }
    {
        let queue = pod_queue.clone();
        shared.pods.on_delta(move |delta| {
            let tolerations = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.tolerations.clone());
            match delta {
                Delta::Updated(old, pod)
                    if tolerations(old) == tolerations(pod) && pods::node_name(old) == pods::node_name(pod) => {}
                _ => queue.add(&delta.object().key()),
            }
        });
    }
    let ready = || {
        let shared = shared.clone();
        async move {
            shared.nodes.wait_synced().await;
            shared.pods.wait_synced().await;
        }
    };
    let evictor = Arc::new(Evictor {
        context: context.clone(),
        tainted: Mutex::default(),
        timetable: Mutex::default(),
        changed: Notify::new(),
    });
    {
        let evictor = evictor.clone();
        context.work(&node_queue, context.workers, ready(), move |name| {
            let evictor = evictor.clone();
            async move {
                evictor.sync_node(&name);
                Ok(None)
            }
            .boxed()
        });
    }
    {
        let evictor = evictor.clone();
        context.work(&pod_queue, context.workers, ready(), move |key| {
            let evictor = evictor.clone();
            async move {
                evictor.sync_pod(&key);
                Ok(None)
            }
            .boxed()
        });
    }
    context.spawn(async move { evictor.run().await });
}

struct Evictor {
    context: Context,
    /// NoExecute taints by node; nodes without any are not in it.
    tainted: Mutex<BTreeMap<String, Vec<Taint>>>,
    timetable: Mutex<Timetable>,
    /// Rings when an earlier time was entered.
    changed: Notify,
}

impl Evictor {
    fn sync_node(self: &Arc<Self>, name: &str) {
        let node = self.context.shared.nodes.get("", name);
        let taints = node.as_ref().map(|node| no_execute(node_taints::taints(node))).unwrap_or_default();
        {
            let mut tainted = self.tainted.lock().expect("no panic while held");
            if taints.is_empty() {
                tainted.remove(name);
            } else {
                tainted.insert(name.to_owned(), taints.clone());
            }
        }
        // Pods of a node that is gone are the pod garbage collector's.
        if node.is_some() {
            let now = self.context.world.monotonic();
            for pod in self.context.shared.pods.by_index(BY_NODE, name) {
                self.consider(&pod, &taints, now);
            }
        }
    }

    fn sync_pod(self: &Arc<Self>, key: &str) {
        let (namespace, name) = split_key(key);
        let Some(pod) = self.context.shared.pods.get(namespace, name) else {
            self.cancel(key);
            return;
        };
        let taints = self.tainted.lock().expect("no panic while held").get(pods::node_name(&pod)).cloned();
        if let Some(taints) = taints {
            self.consider(&pod, &taints, self.context.world.monotonic());
        }
    }

    fn consider(self: &Arc<Self>, pod: &Pod, taints: &[Taint], now: Duration) {
        let key = pod.key();
        let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
        let scheduled = self.timetable.lock().expect("no panic while held").get(&key);
        match decide(taints, tolerations, scheduled, now) {
            Decision::Keep => {}
            Decision::Stay => self.cancel(&key),
            Decision::GoNow => {
                self.cancel(&key);
                self.evict(key);
            }
            Decision::Schedule(scheduled) => {
                self.cancel(&key);
                if scheduled.due <= now {
                    return self.evict(key);
                }
                self.timetable.lock().expect("no panic while held").set(&key, scheduled);
                self.changed.notify_one();
            }
        }
    }

    fn cancel(&self, key: &str) {
        if self.timetable.lock().expect("no panic while held").cancel(key) {
            self.event(key, format!("Cancelling deletion of Pod {key}"));
        }
    }

    fn event(&self, key: &str, message: String) {
        let (namespace, name) = split_key(key);
        let pod = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        self.context.recorder.event(&pod, EventType::Normal, "TaintManagerEviction", message);
    }

    /// Evicts pods when their time comes, for ever.
    async fn run(self: &Arc<Self>) {
        loop {
            let changed = self.changed.notified();
            let now = self.context.world.monotonic();
            let (due, next) = {
                let mut timetable = self.timetable.lock().expect("no panic while held");
                (timetable.due(now), timetable.next())
            };
            for key in due {
                self.evict(key);
            }
            match next {
                None => changed.await,
                Some(next) => {
                    let sleep = self.context.world.sleep(next.saturating_sub(self.context.world.monotonic()));
                    futures::pin_mut!(changed);
                    futures::future::select(changed, sleep).await;
                }
            }
        }
    }

    /// Starts the eviction of one pod.
    fn evict(self: &Arc<Self>, key: String) {
        let evictor = self.clone();
        self.context.spawn(async move {
            evictor.event(&key, format!("Marking for deletion Pod {key}"));
            for _ in 0..TRIES {
                match evictor.mark_and_delete(&key).await {
                    Ok(()) => return,
                    Err(error) if error.is_not_found() => return,
                    Err(error) => tracing::debug!(key, %error, "cannot evict, trying again"),
                }
                evictor.context.world.sleep(PAUSE).await;
            }
        });
    }

    async fn mark_and_delete(&self, key: &str) -> Result<(), ClientError> {
        let (namespace, name) = split_key(key);
        let api = self.context.client.namespaced::<Pod>(namespace);
        let pod = api.get(name).await?;
        let target = pods::disruption_target(&pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint");
        let mut status = pod.status.clone().unwrap_or_default();
        if pods::set_condition(&mut status, target, self.context.world.now()) {
            let condition = pods::condition(Some(&status), "DisruptionTarget");
            let patch = json!({ "metadata": { "uid": pod.uid() }, "status": { "conditions": [condition] } });
            api.patch_status(name, &Patch::Strategic(patch)).await?;
        }
        api.delete(name, &DeleteOptions::default()).await
    }
}
