//! What stands on a node from its first power-on, because the cluster was loaded with it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use daruma_api::core::v1::Pod;
use daruma_cluster::boot::kubelet::Before;
use daruma_kubelet::Kubelet;
use daruma_network::sandbox;
use daruma_world::World;
use daruma_world::disk::WriteOptions;
use futures::FutureExt;
use tokio::sync::Notify;

/// Largest packet between pods: Ethernet's, as on real machines' cables.
const MTU: u32 = 1500;

/// The loads that wait for their nodes. Clones share it.
#[derive(Clone, Default)]
pub struct Standing {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    stood: Notify,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<String, (String, Vec<String>)>,
    /// Loads that were put and do not stand yet.
    missing: usize,
}

/// The load of one node.
pub struct Load {
    range: String,
    pods: Vec<String>,
    standing: Standing,
}

impl Standing {
    /// Puts a node's load: the range of its pods' addresses, and the pods as the API gave them, as JSON, which
    /// takes a tenth of what they take as objects.
    pub fn put(&self, node: &str, range: String, pods: Vec<String>) {
        let mut state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.insert(node.to_owned(), (range, pods));
        state.missing += 1;
    }

    /// The node's load, once.
    pub fn take(&self, node: &str) -> Option<Load> {
        let mut state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (range, pods) = state.waiting.remove(node)?;
        Some(Load { range, pods, standing: self.clone() })
    }

    /// Completes when every load stands.
    pub async fn all(&self) {
        loop {
            let stood = self.inner.stood.notified();
            if self.inner.state.lock().unwrap_or_else(PoisonError::into_inner).missing == 0 {
                return;
            }
            stood.await;
        }
    }
}

impl Load {
    /// Makes the load stand, with the kubelet of its node.
    pub fn stand(self, world: World) -> Before {
        Box::new(move |kubelet: Kubelet| {
            async move {
                if let Err(error) = tell_range(&world, &self.range).await {
                    tracing::warn!(%error, "cannot tell the engine its range");
                }
                for pod in self.pods {
                    let stood = match serde_json::from_str::<Pod>(&pod) {
                        Ok(pod) => kubelet.stand(pod).await,
                        Err(error) => Err(error.to_string()),
                    };
                    if let Err(error) = stood {
                        tracing::warn!(error, "a pod does not stand; it is started");
                    }
                }
                let mut state = self.standing.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.missing -= 1;
                self.standing.inner.stood.notify_waiters();
            }
            .boxed()
        })
    }
}

/// What the pod network agent does for the engine: it tells it the node's range.
///
/// # Errors
/// The disk's, or a range that is none.
pub async fn tell_range(world: &World, range: &str) -> io::Result<()> {
    let file = sandbox::Config::default().file;
    world.disk.create_dir_all(file.parent().unwrap_or(Path::new("/")), 0o755).await?;
    let pod_range = range.to_owned();
    let content = sandbox::NetworkFile { pod_range, mtu: MTU }.to_json();
    world.disk.write(&file, content, WriteOptions::default()).await
}
