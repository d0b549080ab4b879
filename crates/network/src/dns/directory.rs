//! What DNS knows of the cluster, and where it knows it from.

use std::net::IpAddr;
use std::sync::Arc;

use daruma_api::core::v1::{Namespace, Service};
use daruma_api::discovery::v1::EndpointSlice;
use daruma_api::meta::ObjectExt;
use daruma_client::informer::Informer;
use daruma_client::{Client, ListOptions};

/// Look-ups that answers are made from.
pub trait Directory: Send + Sync {
    /// Whether the namespace exists.
    fn has_namespace(&self, name: &str) -> bool;
    /// One service.
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>>;
    /// The endpoint slices of one service.
    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<EndpointSlice>>;
    /// Services with this address of their own.
    fn services_at(&self, address: IpAddr) -> Vec<Arc<Service>>;
    /// Slices with an endpoint of this address.
    fn slices_at(&self, address: IpAddr) -> Vec<Arc<EndpointSlice>>;
}

const BY_ADDRESS: &str = "address";
const BY_SERVICE: &str = "service";

/// Local copies of what the API has.
#[derive(Clone)]
pub struct Watched {
    namespaces: Informer<Namespace>,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
}

impl Watched {
    /// Starts to watch.
    pub fn start(client: &Client) -> Self {
        let namespaces: Informer<Namespace> = Informer::new(client.cluster(), ListOptions::default());
        let services: Informer<Service> = Informer::new(client.all(), ListOptions::default());
        let slices: Informer<EndpointSlice> = Informer::new(client.all(), ListOptions::default());
        services.add_index(BY_ADDRESS, |service| {
            let spec = service.spec.as_ref();
            spec.and_then(|spec| spec.cluster_ips.clone().or_else(|| Some(vec![spec.cluster_ip.clone()?]))).unwrap_or_default()
        });
        slices.add_index(BY_ADDRESS, |slice| {
            slice.endpoints.iter().flatten().flat_map(|endpoint| endpoint.addresses.clone()).collect()
        });
        slices.add_index(BY_SERVICE, |slice| {
            let service = slice.label("kubernetes.io/service-name");
            service.map(|service| format!("{}/{service}", slice.namespace())).into_iter().collect()
        });
        namespaces.start();
        services.start();
        slices.start();
        Self { namespaces, services, slices }
    }

    /// Whether everything has arrived once.
    pub fn has_synced(&self) -> bool {
        self.namespaces.has_synced() && self.services.has_synced() && self.slices.has_synced()
    }

    /// Completes once everything has arrived.
    pub async fn wait_synced(&self) {
        self.namespaces.wait_synced().await;
        self.services.wait_synced().await;
        self.slices.wait_synced().await;
    }
}

impl Directory for Watched {
    fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.by_key(name).is_some()
    }

    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.services.get(namespace, name)
    }

    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<EndpointSlice>> {
        self.slices.by_index(BY_SERVICE, &format!("{namespace}/{service}"))
    }

    fn services_at(&self, address: IpAddr) -> Vec<Arc<Service>> {
        self.services.by_index(BY_ADDRESS, &address.to_string())
    }

    fn slices_at(&self, address: IpAddr) -> Vec<Arc<EndpointSlice>> {
        self.slices.by_index(BY_ADDRESS, &address.to_string())
    }
}
