//! What the runtime says of one pod.

use std::net::IpAddr;

use daruma_world::containers::{Container, ContainerState, Sandbox};

/// Label and annotation keys on sandboxes and containers (kubernetes pkg/kubelet/kuberuntime/labels.go).
pub mod keys {
    /// Pod name.
    pub const POD_NAME: &str = "io.kubernetes.pod.name";
    /// Pod namespace.
    pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    /// Pod UID.
    pub const POD_UID: &str = "io.kubernetes.pod.uid";
    /// Container name.
    pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
    /// Hash of what a running container cannot change.
    pub const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
    /// Grace period of the pod.
    pub const POD_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
    /// The termination message's file on the node.
    pub const MESSAGE_FILE: &str = "io.kubernetes.container.terminationMessagePath";
    /// How the termination message is made.
    pub const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
    /// Where a pod came from (`api`, `file`).
    pub const SOURCE: &str = "kubernetes.io/config.source";
}

/// The sandboxes and containers of one pod, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodView {
    /// Sandboxes, newest first.
    pub sandboxes: Vec<Sandbox>,
    /// Containers of all sandboxes, newest first.
    pub containers: Vec<Container>,
}

impl PodView {
    /// Picks the pod's own out of everything.
    pub fn of(uid: &str, sandboxes: &[Sandbox], containers: &[Container]) -> Self {
        let mut own: Vec<Sandbox> = sandboxes.iter().filter(|sandbox| sandbox.config.uid == uid).cloned().collect();
        own.sort_by(|a, b| (b.created_at, b.config.attempt, &b.id).cmp(&(a.created_at, a.config.attempt, &a.id)));
        let mut inside: Vec<Container> =
            containers.iter().filter(|container| own.iter().any(|sandbox| sandbox.id == container.sandbox_id)).cloned().collect();
        inside.sort_by(|a, b| (b.created_at, b.config.attempt, &b.id).cmp(&(a.created_at, a.config.attempt, &a.id)));
        Self { sandboxes: own, containers: inside }
    }

    /// The newest container of a name.
    pub fn latest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.config.name == name)
    }

    /// A container by its id.
    pub fn by_id(&self, id: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.id == id)
    }

    /// The newest sandbox, where it is ready.
    pub fn ready_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|sandbox| sandbox.ready)
    }

    /// Addresses of the newest sandbox, where it is ready.
    pub fn addresses(&self) -> &[IpAddr] {
        self.ready_sandbox().map(|sandbox| sandbox.addresses.as_slice()).unwrap_or_default()
    }

    /// Containers that run.
    pub fn running(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|container| is_running(container))
    }

    /// Whether nothing of the pod is alive.
    pub fn is_dead(&self) -> bool {
        self.running().next().is_none() && !self.sandboxes.iter().any(|sandbox| sandbox.ready)
    }
}

/// Whether the container runs.
pub fn is_running(container: &Container) -> bool {
    matches!(container.state, ContainerState::Running { .. })
}

/// The exit code of a container that ended.
pub fn exit_code(container: &Container) -> Option<i32> {
    match container.state {
        ContainerState::Exited { exit_code, .. } => Some(exit_code),
        _ => None,
    }
}
