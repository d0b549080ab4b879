//! Events: what the kubelet tells about pods and its node.

use daruma_api::core::v1::{ObjectReference, Pod};
use daruma_api::meta::ObjectExt;
use daruma_client::Client;
use daruma_client::events::{EventRecorder, EventType};

/// Takes events; they are sent in the background. Clones share the queue.
#[derive(Clone)]
pub struct Recorder {
    events: EventRecorder,
    node: ObjectReference,
}

impl Recorder {
    /// A recorder for a node's kubelet.
    pub fn new(client: &Client, node_name: &str) -> Self {
        // The real kubelet knows no UID of its node and gives the name.
        let node = ObjectReference {
            kind: Some("Node".into()),
            name: Some(node_name.into()),
            uid: Some(node_name.into()),
            ..ObjectReference::default()
        };
        Self { events: EventRecorder::new(client, "kubelet", Some(node_name)), node }
    }

    fn tell(&self, about: &ObjectReference, kind: EventType, reason: &str, message: String) {
        tracing::debug!(%kind, reason, message, object = about.name, "event");
        self.events.event(about, kind, reason, message);
    }

    /// Something normal about a pod.
    pub fn pod(&self, pod: &Pod, reason: &str, message: impl Into<String>) {
        self.tell(&reference(pod, None), EventType::Normal, reason, message.into());
    }

    /// Something wrong with a pod.
    pub fn pod_warning(&self, pod: &Pod, reason: &str, message: impl Into<String>) {
        self.tell(&reference(pod, None), EventType::Warning, reason, message.into());
    }

    /// Something normal about a container of a pod.
    pub fn container(&self, pod: &Pod, container: &str, reason: &str, message: impl Into<String>) {
        self.tell(&reference(pod, Some(container)), EventType::Normal, reason, message.into());
    }

    /// Something wrong with a container of a pod.
    pub fn container_warning(&self, pod: &Pod, container: &str, reason: &str, message: impl Into<String>) {
        self.tell(&reference(pod, Some(container)), EventType::Warning, reason, message.into());
    }

    /// Something normal about the node.
    pub fn node(&self, reason: &str, message: impl Into<String>) {
        self.tell(&self.node, EventType::Normal, reason, message.into());
    }

    /// Something wrong with the node.
    pub fn node_warning(&self, reason: &str, message: impl Into<String>) {
        self.tell(&self.node, EventType::Warning, reason, message.into());
    }
}

fn reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let field_path = container.map(|name| {
        let spec = pod.spec.as_ref();
        let is_init = spec.is_some_and(|spec| spec.init_containers.iter().flatten().any(|one| one.name == name));
        let is_ephemeral = spec.is_some_and(|spec| spec.ephemeral_containers.iter().flatten().any(|one| one.name == name));
        let list = if is_init {
            "initContainers"
        } else if is_ephemeral {
            "ephemeralContainers"
        } else {
            "containers"
        };
        format!("spec.{list}{{{name}}}")
    });
    // Events of a static pod are about its mirror pod, whose UID the API gave; the real kubelet uses the hash as well.
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(pod.namespace().into()),
        name: Some(pod.name().into()),
        uid: Some(pod.uid().into()),
        resource_version: pod.metadata.resource_version.clone(),
        field_path,
    }
}
