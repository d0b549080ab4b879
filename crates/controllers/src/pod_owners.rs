//! Brings changes of pods to the objects that own them, for the controllers that make pods themselves.
//!
//! Source: kubernetes pkg/controller/replicaset/replica_set.go (`addPod`, `updatePod`, `deletePod`); those of
//! statefulset and daemon are the same but for the wait below.

use std::sync::{Arc, Weak};
use std::time::Duration;

use daruma_api::apps::v1::{DaemonSet, ReplicaSet, StatefulSet};
use daruma_api::core::v1::Pod;
use daruma_api::k8s_openapi::{Metadata, Resource};
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::{LabelSelector, ObjectMeta, OwnerReference};
use daruma_api::selector::Selector;
use daruma_client::informer::{Delta, Informer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::expectations::Expectations;
use crate::shared::Shared;
use crate::shell::Queue;
use crate::{daemon_set, pods, replica_set};

/// A kind whose objects own pods.
pub(crate) trait PodOwner:
    Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + Send + Sync + 'static
{
    /// How much later than `minReadySeconds` a pod's availability is looked at.
    const LATER: Duration = Duration::ZERO;

    /// All of them.
    fn informer(shared: &Shared) -> &Informer<Self>;

    /// Which pods it may own.
    fn selector(&self) -> Option<&LabelSelector>;

    /// `spec.minReadySeconds`.
    fn min_ready_seconds(&self) -> i32;
}

impl PodOwner for ReplicaSet {
    fn informer(shared: &Shared) -> &Informer<Self> {
        &shared.replica_sets
    }

    fn selector(&self) -> Option<&LabelSelector> {
        self.spec.as_ref().map(|spec| &spec.selector)
    }

    fn min_ready_seconds(&self) -> i32 {
        replica_set::plan::min_ready_seconds(self)
    }
}

impl PodOwner for StatefulSet {
    fn informer(shared: &Shared) -> &Informer<Self> {
        &shared.stateful_sets
    }

    fn selector(&self) -> Option<&LabelSelector> {
        self.spec.as_ref().map(|spec| &spec.selector)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default()
    }
}

impl PodOwner for DaemonSet {
    /// pkg/controller/daemon/daemon_controller.go `updatePod`: "Add a second to avoid milliseconds skew".
    const LATER: Duration = Duration::from_secs(1);

    fn informer(shared: &Shared) -> &Informer<Self> {
        &shared.daemon_sets
    }

    fn selector(&self) -> Option<&LabelSelector> {
        self.spec.as_ref().map(|spec| &spec.selector)
    }

    fn min_ready_seconds(&self) -> i32 {
        daemon_set::plan::min_ready_seconds(self)
    }
}

/// The owner that a reference names, if it is of this kind and there.
pub(crate) fn owner_of<K: PodOwner>(shared: &Shared, namespace: &str, owner: &OwnerReference) -> Option<Arc<K>> {
    if owner.kind != K::KIND {
        return None;
    }
    K::informer(shared).get(namespace, &owner.name).filter(|found| found.uid() == owner.uid)
}

/// Has owners and their pods put into the queue when they change, and expectations met.
pub(crate) fn listen<K: PodOwner>(shared: &Arc<Shared>, queue: &Queue, expectations: &Arc<Expectations>) {
    {
        let (queue, expectations) = (queue.clone(), expectations.clone());
        K::informer(shared).on_delta(move |delta| {
            if let Delta::Deleted(owner) = delta {
                expectations.forget(&owner.key());
            }
            queue.add(&delta.object().key());
        });
    }
    // The handler lives inside the shared informers.
    let listener = Listener { queue: queue.clone(), expectations: expectations.clone(), shared: Arc::downgrade(shared) };
    shared.pods.on_delta(move |delta| listener.on_pod::<K>(delta));
}

struct Listener {
    queue: Queue,
    expectations: Arc<Expectations>,
    shared: Weak<Shared>,
}

impl Listener {
    fn on_pod<K: PodOwner>(&self, delta: &Delta<Pod>) {
        let Some(shared) = self.shared.upgrade() else { return };
        let pod = delta.object();
        let old = if let Delta::Updated(old, _) = delta { Some(old) } else { None };
        if let Some(old) = old.filter(|old| old.controller() != pod.controller())
            && let Some(owner) = old.controller().and_then(|owner| owner_of::<K>(&shared, old.namespace(), owner))
        {
            self.queue.add(&owner.key());
        }
        // A graceful deletion counts from its beginning.
        let is_gone = pod.is_being_deleted() || matches!(delta, Delta::Deleted(_));
        let Some(reference) = pod.controller() else {
            let is_news = old.is_none_or(|old| old.metadata.labels != pod.metadata.labels || old.controller().is_some());
            if is_news && !is_gone {
                self.wake_matching::<K>(&shared, pod);
            }
            return;
        };
        let Some(owner) = owner_of::<K>(&shared, pod.namespace(), reference) else { return };
        let key = owner.key();
        if is_gone {
            self.expectations.deleted(&key, &pod.key());
        } else if let Some(old) = old {
            let least = u64::try_from(owner.min_ready_seconds()).unwrap_or_default();
            if least > 0 && !pods::is_ready(old) && pods::is_ready(pod) {
                self.queue.add_after(&key, Duration::from_secs(least) + K::LATER);
            }
        } else {
            self.expectations.created(&key);
        }
        self.queue.add(&key);
    }

    /// Nobody owns the pod: somebody may adopt it.
    fn wake_matching<K: PodOwner>(&self, shared: &Shared, pod: &Pod) {
        for owner in K::informer(shared).list_namespace(pod.namespace()) {
            let selector = Selector::from_label_selector(owner.selector());
            if selector.is_ok_and(|selector| !selector.is_everything() && selector.matches(pod.metadata.labels.as_ref())) {
                self.queue.add(&owner.key());
            }
        }
    }
}
