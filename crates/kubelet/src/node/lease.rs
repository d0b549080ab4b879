//! The node's heartbeat.
//!
//! Source: kubernetes component-helpers apimachinery/lease/controller.go (renewed after a quarter of its duration).

use std::sync::Arc;
use std::time::Duration;

use daruma_api::coordination::v1::{Lease, LeaseSpec};
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::{MicroTime, ObjectMeta, OwnerReference};

use crate::shared::Shared;

const NAMESPACE: &str = "kube-node-lease";
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(7);

/// Renews the lease for as long as the kubelet lives.
pub async fn run(shared: Arc<Shared>) {
    let api = shared.client.namespaced::<Lease>(NAMESPACE);
    let name = shared.config.node_name.clone();
    let period = shared.config.node_lease_duration / 4;
    let mut last: Option<Lease> = None;
    let mut retry = FIRST_RETRY;
    loop {
        let started = shared.world.monotonic();
        let result = match &last {
            Some(lease) => api.update(&renewed(&shared, lease)).await,
            None => match api.find(&name).await {
                Ok(Some(lease)) => api.update(&renewed(&shared, &lease)).await,
                Ok(None) => api.create(&renewed(&shared, &fresh(&shared))).await,
                Err(error) => Err(error),
            },
        };
        match result {
            Ok(lease) => {
                last = Some(lease);
                retry = FIRST_RETRY;
                let rest = period.saturating_sub(shared.world.monotonic().saturating_sub(started));
                // A little earlier or later, so that many nodes do not beat as one.
                let jitter = period.mul_f64(0.04 * shared.world.random.unit());
                shared.world.sleep(rest + jitter).await;
            }
            Err(error) => {
                tracing::debug!(%error, "cannot renew the node's lease");
                last = None;
                shared.world.sleep(retry).await;
                retry = (retry * 2).min(LONGEST_RETRY);
            }
        }
    }
}

fn fresh(shared: &Shared) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(shared.config.node_name.clone()),
            namespace: Some(NAMESPACE.into()),
            ..ObjectMeta::default()
        },
        spec: None,
    }
}

fn renewed(shared: &Shared, lease: &Lease) -> Lease {
    let mut lease = lease.clone();
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(shared.config.node_name.clone()),
        lease_duration_seconds: i32::try_from(shared.config.node_lease_duration.as_secs()).ok(),
        renew_time: Some(MicroTime(shared.now())),
        ..lease.spec.unwrap_or_default()
    });
    let owned = lease.metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty());
    if !owned && let Some(node) = shared.node.lock().expect("no panic while held").as_ref() {
        lease.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: node.name().into(),
            uid: node.uid().into(),
            ..OwnerReference::default()
        }]);
    }
    lease
}
