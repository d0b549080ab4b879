//! Events of a controller: short ways to tell them with the client's recorder.

use daruma_api::core::v1::ObjectReference;
use daruma_api::k8s_openapi::{Metadata, Resource};
use daruma_api::metav1::ObjectMeta;
use daruma_client::Client;
use daruma_client::events::{EventRecorder, EventType, object_reference};

/// Tells events in the name of one controller. Clones share the queue.
#[derive(Clone)]
pub(crate) struct Recorder {
    inner: EventRecorder,
}

impl Recorder {
    /// Events go out with the controller's own client, within its rate limit.
    pub(crate) fn new(client: &Client, component: &str) -> Self {
        Self { inner: EventRecorder::new(client, component, None) }
    }

    /// Tells something normal about `object`.
    pub(crate) fn normal<K: Resource + Metadata<Ty = ObjectMeta>>(&self, object: &K, reason: &str, message: impl Into<String>) {
        self.event(&object_reference(object), EventType::Normal, reason, message.into());
    }

    /// Tells something worrying about `object`.
    pub(crate) fn warning<K: Resource + Metadata<Ty = ObjectMeta>>(&self, object: &K, reason: &str, message: impl Into<String>) {
        self.event(&object_reference(object), EventType::Warning, reason, message.into());
    }

    /// Tells something about what `object` names.
    pub(crate) fn event(&self, object: &ObjectReference, kind: EventType, reason: &str, message: String) {
        self.inner.event(object, kind, reason, message);
    }
}

/// A reference to a node by name and uid, as node controllers make it.
pub(crate) fn node_reference(name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}
