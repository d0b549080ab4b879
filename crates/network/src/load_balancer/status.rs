//! What services are told of their load balancers: status, finalizer, events.
//!
//! Source: kubernetes staging/src/k8s.io/cloud-provider/controllers/service/controller.go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::Service;
use daruma_api::meta::ObjectExt;
use daruma_client::events::{EventRecorder, EventType, object_reference};
use daruma_client::{Client, ClientError, Patch};
use serde_json::{Value, json};

use super::changes::Concern;
use super::plan::{FINALIZER, Pool, assign, has_finalizer, needs_cleanup, told, wants};

/// Component that events are told by.
pub(super) const COMPONENT: &str = "service-controller";
/// Pause after the first failure with a service (minRetryDelay); it doubles.
const RETRY_FIRST: Duration = Duration::from_secs(5);
/// The longest pause (maxRetryDelay).
const RETRY_MOST: Duration = Duration::from_secs(300);

/// What is to be told to a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// It has this address.
    Ensure(Ipv4Addr),
    /// It has no address, because none is left.
    Starve,
    /// It has no load balancer any more.
    Clean,
}

/// What is to be told, by service. Those of `due` (by uid) have changed in a way that has to be looked at, or are new here.
pub fn acts(services: &[Arc<Service>], pool: &Pool, due: &BTreeSet<String>) -> Vec<(Arc<Service>, Act)> {
    let assigned = assign(services, pool);
    let act = |service: &Arc<Service>| {
        if needs_cleanup(service) {
            return Some(Act::Clean);
        }
        let is_due = due.contains(service.uid());
        match assigned.get(&service.key()) {
            Some(address) if !is_due && has_finalizer(service) && told(service) == [*address] => None,
            Some(address) => Some(Act::Ensure(*address)),
            None if wants(service) => Some(Act::Starve),
            None => None,
        }
    };
    services.iter().filter_map(|service| Some((service.clone(), act(service)?))).collect()
}

/// Why a service could not be told, as its event says it.
#[derive(Debug, thiserror::Error)]
enum SyncError {
    #[error("failed to ensure load balancer: every address is in use")]
    NoAddress,
    #[error("failed to add load balancer cleanup finalizer: {0}")]
    AddFinalizer(#[source] ClientError),
    #[error("failed to remove load balancer cleanup finalizer: {0}")]
    RemoveFinalizer(#[source] ClientError),
    #[error("failed to update load balancer status: {0}")]
    Status(#[source] ClientError),
}

/// How it went with a service the last time.
struct Last {
    act: Act,
    /// The version that was looked at, or the one that was written then.
    version: u64,
    /// After a failure: how long the pause is, and when (monotonic) it is over.
    retry: Option<(Duration, Duration)>,
}

/// Carries acts out.
pub(super) struct Teller {
    client: Client,
    events: EventRecorder,
    /// By uid of the service.
    last: BTreeMap<String, Last>,
    hosts: Option<Vec<String>>,
}

impl Teller {
    pub(super) fn new(client: &Client) -> Self {
        Self { client: client.clone(), events: EventRecorder::new(client, COMPONENT, None), last: BTreeMap::new(), hosts: None }
    }

    /// Tells of changes that concern load balancers.
    pub(super) fn tell_concerns(&self, concerns: Vec<(Arc<Service>, Concern)>) {
        for (service, concern) in concerns {
            if let Concern::Told { reason, message } = concern {
                self.event(&service, EventType::Normal, reason, &message);
            }
        }
    }

    /// Tells what is to be told, of those of `due` in any case. Gives how long to wait before the next try, where
    /// something failed.
    pub(super) async fn tell(
        &mut self,
        services: &[Arc<Service>],
        pool: &Pool,
        hosts: Vec<String>,
        due: &BTreeSet<String>,
    ) -> Option<Duration> {
        self.tell_hosts(services, hosts);
        let acts = acts(services, pool, due);
        let waiting: BTreeSet<&str> = acts.iter().map(|(service, _)| service.uid()).collect();
        self.last.retain(|uid, _| waiting.contains(uid.as_str()));
        let mut pause: Option<Duration> = None;
        for (service, act) in &acts {
            let version = version(service);
            let now = self.client.world().monotonic();
            let is_due = due.contains(service.uid());
            let mut delay = RETRY_FIRST;
            if let Some(last) = self.last.get(service.uid()).filter(|last| !is_due && last.act == *act) {
                match last.retry {
                    Some((_, at)) if now < at => {
                        let left = at.saturating_sub(now);
                        pause = Some(pause.map_or(left, |pause| pause.min(left)));
                        continue;
                    }
                    Some((before, _)) => delay = (before * 2).min(RETRY_MOST),
                    // Not yet seen as it was left.
                    None if version <= last.version => continue,
                    None => {}
                }
            }
            let mut written = version;
            let done = self.sync(service, act, &mut written).await;
            let retry = done.err().map(|error| {
                tracing::warn!(service = service.key(), %error, "cannot tell a service of its load balancer");
                let message = format!("Error syncing load balancer: {error}");
                self.event(service, EventType::Warning, "SyncLoadBalancerFailed", &message);
                pause = Some(pause.map_or(delay, |pause| pause.min(delay)));
                (delay, self.client.world().monotonic() + delay)
            });
            self.last.insert(service.uid().to_owned(), Last { act: act.clone(), version: written, retry });
        }
        pause
    }

    /// Nodes have come or gone.
    fn tell_hosts(&mut self, services: &[Arc<Service>], hosts: Vec<String>) {
        let none = hosts.is_empty();
        let changed = self.hosts.as_ref().is_some_and(|known| *known != hosts);
        self.hosts = Some(hosts);
        if changed {
            for service in services.iter().filter(|service| wants(service) && !told(service).is_empty()) {
                if none {
                    self.tell_unavailable(service);
                } else {
                    self.event(service, EventType::Normal, "UpdatedLoadBalancer", "Updated load balancer with new hosts");
                }
            }
        }
    }

    fn tell_unavailable(&self, service: &Service) {
        let message = "There are no available nodes for LoadBalancer";
        self.event(service, EventType::Warning, "UnAvailableLoadBalancer", message);
    }

    /// `written` becomes the version that was written last.
    async fn sync(&self, service: &Service, act: &Act, written: &mut u64) -> Result<(), SyncError> {
        let normal = |reason, message| self.event(service, EventType::Normal, reason, message);
        let ingress = match act {
            Act::Ensure(_) | Act::Starve => {
                normal("EnsuringLoadBalancer", "Ensuring load balancer");
                if !has_finalizer(service) {
                    let addition = json!({"finalizers": [FINALIZER]});
                    self.patch_metadata(service, addition, written).await.map_err(SyncError::AddFinalizer)?;
                }
                if self.hosts.as_ref().is_some_and(Vec::is_empty) {
                    self.tell_unavailable(service);
                }
                let Act::Ensure(address) = act else { return Err(SyncError::NoAddress) };
                normal("EnsuredLoadBalancer", "Ensured load balancer");
                if told(service) == [*address] {
                    return Ok(());
                }
                json!([{"ip": address.to_string(), "ipMode": "VIP"}])
            }
            Act::Clean => {
                normal("DeletingLoadBalancer", "Deleting load balancer");
                let removal = json!({"$deleteFromPrimitiveList/finalizers": [FINALIZER]});
                self.patch_metadata(service, removal, written).await.map_err(SyncError::RemoveFinalizer)?;
                normal("DeletedLoadBalancer", "Deleted load balancer");
                if told(service).is_empty() {
                    return Ok(());
                }
                Value::Null
            }
        };
        match self.patch_status(service, ingress).await {
            // It may be gone right after the finalizer is.
            Err(error) if !error.is_not_found() => Err(SyncError::Status(error)),
            patched => {
                *written = patched.as_ref().map_or(*written, |service| version(service));
                Ok(())
            }
        }
    }

    async fn patch_status(&self, service: &Service, ingress: Value) -> Result<Arc<Service>, ClientError> {
        let api = self.client.namespaced::<Service>(service.namespace());
        let patch = json!({"metadata": {"uid": service.uid()}, "status": {"loadBalancer": {"ingress": ingress}}});
        api.patch_status(service.name(), &Patch::Merge(patch)).await
    }

    /// Changes of others stay: only what is named is added to lists, or taken away.
    async fn patch_metadata(&self, service: &Service, mut metadata: Value, written: &mut u64) -> Result<(), ClientError> {
        metadata["uid"] = service.uid().into();
        let api = self.client.namespaced::<Service>(service.namespace());
        match api.patch(service.name(), &Patch::Strategic(json!({"metadata": metadata}))).await {
            Ok(patched) => *written = version(&patched),
            // Whom it was done for is gone.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn event(&self, service: &Service, event_type: EventType, reason: &str, message: &str) {
        self.events.event(&object_reference(service), event_type, reason, message.to_owned());
    }
}

/// Versions are numbers that grow.
fn version(service: &Service) -> u64 {
    service.metadata.resource_version.as_ref().and_then(|version| version.parse().ok()).unwrap_or(0)
}
