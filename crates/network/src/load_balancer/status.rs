//! What services are told of their load balancers: status, finalizer, events.
//!
//! Source: kubernetes staging/src/k8s.io/cloud-provider/controllers/service/controller.go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use daruma_api::core::v1::Service;
use daruma_api::meta::ObjectExt;
use daruma_client::events::{EventRecorder, EventType, object_reference};
use daruma_client::{Client, ClientError, Patch};
use serde_json::{Value, json};

use super::plan::{FINALIZER, Pool, assign, has_finalizer, needs_cleanup, told, wants};

/// Component that events are told by.
pub(super) const COMPONENT: &str = "service-controller";

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

/// What is to be told, by service.
pub fn acts(services: &[Arc<Service>], pool: &Pool) -> Vec<(Arc<Service>, Act)> {
    let assigned = assign(services, pool);
    let act = |service: &Arc<Service>| {
        if needs_cleanup(service) {
            return Some(Act::Clean);
        }
        match assigned.get(&service.key()) {
            Some(address) if has_finalizer(service) && told(service) == [*address] => None,
            Some(address) => Some(Act::Ensure(*address)),
            None if wants(service) => Some(Act::Starve),
            None => None,
        }
    };
    services.iter().filter_map(|service| Some((service.clone(), act(service)?))).collect()
}

/// Carries acts out, each once for each version of its service.
pub(super) struct Teller {
    client: Client,
    events: EventRecorder,
    /// Versions of services that have been seen to.
    done: BTreeMap<String, String>,
    hosts: Option<Vec<String>>,
}

impl Teller {
    pub(super) fn new(client: &Client) -> Self {
        Self { client: client.clone(), events: EventRecorder::new(client, COMPONENT, None), done: BTreeMap::new(), hosts: None }
    }

    /// Tells what is to be told. Gives whether everything was.
    pub(super) async fn tell(&mut self, services: &[Arc<Service>], pool: &Pool, hosts: Vec<String>) -> bool {
        self.tell_hosts(services, hosts);
        let acts = acts(services, pool);
        let version = |service: &Service| service.metadata.resource_version.clone().unwrap_or_default();
        let waiting: BTreeSet<&str> = acts.iter().map(|(service, _)| service.uid()).collect();
        self.done.retain(|uid, _| waiting.contains(uid.as_str()));
        let mut all = true;
        for (service, act) in &acts {
            if self.done.get(service.uid()) == Some(&version(service)) {
                continue;
            }
            match self.carry_out(service, act).await {
                Ok(()) => {
                    self.done.insert(service.uid().to_owned(), version(service));
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    all = false;
                    tracing::warn!(service = service.key(), %error, "cannot tell a service of its load balancer");
                }
            }
        }
        all
    }

    /// Nodes have come or gone.
    fn tell_hosts(&mut self, services: &[Arc<Service>], hosts: Vec<String>) {
        let changed = self.hosts.as_ref().is_some_and(|known| *known != hosts);
        self.hosts = Some(hosts);
        if changed {
            for service in services.iter().filter(|service| wants(service) && !told(service).is_empty()) {
                self.event(service, EventType::Normal, "UpdatedLoadBalancer", "Updated load balancer with new hosts");
            }
        }
    }

    async fn carry_out(&self, service: &Service, act: &Act) -> Result<(), ClientError> {
        let normal = |reason, message| self.event(service, EventType::Normal, reason, message);
        match act {
            Act::Ensure(address) => {
                normal("EnsuringLoadBalancer", "Ensuring load balancer");
                if !has_finalizer(service) {
                    self.set_finalizers(service, true).await?;
                }
                let status = json!({"loadBalancer": {"ingress": [{"ip": address.to_string(), "ipMode": "VIP"}]}});
                self.set_status(service, status).await?;
                normal("EnsuredLoadBalancer", "Ensured load balancer");
            }
            Act::Starve => {
                let message = "Error syncing load balancer: failed to ensure load balancer: every address is in use";
                self.event(service, EventType::Warning, "SyncLoadBalancerFailed", message);
            }
            Act::Clean => {
                normal("DeletingLoadBalancer", "Deleting load balancer");
                if !told(service).is_empty() {
                    self.set_status(service, json!({"loadBalancer": {"ingress": null}})).await?;
                }
                self.set_finalizers(service, false).await?;
                normal("DeletedLoadBalancer", "Deleted load balancer");
            }
        }
        Ok(())
    }

    async fn set_status(&self, service: &Service, status: Value) -> Result<(), ClientError> {
        let api = self.client.namespaced::<Service>(service.namespace());
        let patch = json!({"metadata": {"uid": service.uid()}, "status": status});
        api.patch_status(service.name(), &Patch::Merge(patch)).await.map(drop)
    }

    /// Refused where somebody else has changed the object meanwhile: then there is a newer version to look at.
    async fn set_finalizers(&self, service: &Service, ours: bool) -> Result<(), ClientError> {
        let others = service.metadata.finalizers.iter().flatten().filter(|finalizer| *finalizer != FINALIZER);
        let mut finalizers: Vec<&str> = others.map(String::as_str).collect();
        finalizers.extend(ours.then_some(FINALIZER));
        let version = &service.metadata.resource_version;
        // The status may have been patched just before, so that only the first of the two can name the version.
        let version = if ours || told(service).is_empty() { version.clone() } else { None };
        let mut metadata = json!({"uid": service.uid(), "finalizers": finalizers});
        if let Some(version) = version {
            metadata["resourceVersion"] = version.into();
        }
        let api = self.client.namespaced::<Service>(service.namespace());
        api.patch(service.name(), &Patch::Merge(json!({"metadata": metadata}))).await.map(drop)
    }

    fn event(&self, service: &Service, event_type: EventType, reason: &str, message: &str) {
        self.events.event(&object_reference(service), event_type, reason, message.to_owned());
    }
}
