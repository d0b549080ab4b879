//! The node's heartbeat.
//!
//! Source: kubernetes component-helpers apimachinery/lease/controller.go (renewed after a quarter of its duration,
//! by five attempts that follow each other at once).

use std::sync::Arc;
use std::time::Duration;

use daruma_api::coordination::v1::{Lease, LeaseSpec};
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::{MicroTime, ObjectMeta, OwnerReference};
use daruma_client::Api;

use super::heartbeat;
use crate::shared::Shared;

const NAMESPACE: &str = "kube-node-lease";
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(7);

/// Renews the lease for as long as the kubelet lives.
pub async fn run(shared: Arc<Shared>) {
    let api = shared.client.namespaced::<Lease>(NAMESPACE);
    let period = shared.config.node_lease_duration / 4;
    let mut last: Option<Arc<Lease>> = None;
    loop {
        let started = shared.world.monotonic();
        // Boxed, so that the wait in between, which is nearly all the time, takes no room for the calls.
        Box::pin(renew(&shared, &api, &mut last)).await;
        let rest = period.saturating_sub(shared.world.monotonic().saturating_sub(started));
        // A little earlier or later, so that many nodes do not beat as one.
        let jitter = period.mul_f64(0.04 * shared.world.random.unit());
        shared.world.sleep(rest + jitter).await;
    }
}

/// Renews what is known, which nobody else changes, else what is there.
async fn renew(shared: &Shared, api: &Api<Lease>, last: &mut Option<Arc<Lease>>) {
    if last.is_some() && update(shared, api, last).await {
        return;
    }
    if Box::pin(ensure(shared, api, last)).await == Ensured::Found {
        // What fails now is tried again with the next period.
        update(shared, api, last).await;
    }
}

/// Whether the lease was renewed; some attempts follow each other at once.
async fn update(shared: &Shared, api: &Api<Lease>, last: &mut Option<Arc<Lease>>) -> bool {
    for attempt in 0..heartbeat::ATTEMPTS {
        let Some(lease) = &*last else { return false };
        match heartbeat::limited(shared, api.update(&renewed(shared, lease))).await {
            Ok(lease) => {
                *last = Some(lease);
                return true;
            }
            Err(error) if error.is_conflict() => {
                Box::pin(ensure(shared, api, last)).await;
            }
            Err(error) => heartbeat::failed(shared, attempt, "renewing the lease", &error),
        }
    }
    false
}

#[derive(PartialEq, Eq)]
enum Ensured {
    Found,
    Made,
}

/// Gets the lease or makes it, however long that takes. Boxed where it is called: nearly every renewal does without it.
async fn ensure(shared: &Shared, api: &Api<Lease>, last: &mut Option<Arc<Lease>>) -> Ensured {
    let name = &shared.config.node_name;
    let mut retry = FIRST_RETRY;
    loop {
        let got = heartbeat::limited(shared, async {
            match api.find(name).await? {
                Some(lease) => Ok((Arc::new(lease), Ensured::Found)),
                None => Ok((api.create(&renewed(shared, &fresh(shared))).await?, Ensured::Made)),
            }
        });
        match got.await {
            Ok((lease, how)) => {
                *last = Some(lease);
                return how;
            }
            Err(error) => {
                tracing::debug!(%error, "cannot get the node's lease");
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
