//! Variables that name the services of a pod's namespace.
//!
//! Source: kubernetes pkg/kubelet/envvars/envvars.go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use daruma_api::core::v1::Service;
use daruma_api::meta::ObjectExt;
use daruma_client::informer::Informer;
use daruma_client::{Client, ListOptions};
use daruma_world::tasks::AbortOnDrop;

/// How long a pod's start waits for the first list of services.
const FIRST_LIST: Duration = Duration::from_secs(5);

/// Where the cluster's own service is.
const MASTER: (&str, &str) = ("default", "kubernetes");

/// The services, each namespace watched from the first pod on that wants links to it; for all other pods the cluster's own
/// service alone.
#[derive(Default)]
pub struct Services {
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    master: Option<(Informer<Service>, AbortOnDrop)>,
    namespaces: BTreeMap<String, (Informer<Service>, AbortOnDrop)>,
}

fn watch(client: &Client, namespace: &str, field_selector: &str) -> (Informer<Service>, AbortOnDrop) {
    let options = ListOptions { field_selector: field_selector.to_owned(), ..ListOptions::default() };
    let informer = Informer::new(client.namespaced::<Service>(namespace), options);
    let watch = informer.start_scoped();
    (informer, watch)
}

impl Services {
    /// The variables of a pod in `namespace`; with `links` of its own services too, else of `kubernetes` only.
    ///
    /// # Errors
    /// The services could not be read yet.
    pub async fn variables(
        &self,
        client: &Client,
        namespace: &str,
        links: bool,
        may_wait: bool,
    ) -> Result<BTreeMap<String, String>, String> {
        let (master, own) = {
            let mut watched = self.watched.lock().expect("no panic while held");
            let own = links.then(|| {
                let place = watched.namespaces.entry(namespace.to_owned());
                place.or_insert_with(|| watch(client, namespace, "")).0.clone()
            });
            let master = match watched.namespaces.get(MASTER.0) {
                Some((informer, _)) => informer.clone(),
                None => {
                    let one = || watch(client, MASTER.0, &format!("metadata.name={}", MASTER.1));
                    watched.master.get_or_insert_with(one).0.clone()
                }
            };
            (master, own)
        };
        for informer in [Some(&master), own.as_ref()].into_iter().flatten().filter(|informer| !informer.has_synced()) {
            if !may_wait {
                return Ok(BTreeMap::new());
            }
            let synced = client.world().timeout(FIRST_LIST, informer.wait_synced()).await;
            synced.map_err(|_| "services have not yet been read at least once, cannot construct envvars".to_owned())?;
        }
        let mut services: BTreeMap<String, _> = BTreeMap::new();
        if let Some(master) = master.get(MASTER.0, MASTER.1) {
            services.insert(MASTER.1.into(), master);
        }
        for service in own.iter().flat_map(Informer::list) {
            services.insert(service.name().to_owned(), service);
        }
        Ok(services.values().flat_map(|service| of_service(service)).collect())
    }

    /// Ends the watches of namespaces in which no pod is left.
    pub fn keep(&self, namespaces: &BTreeSet<String>) {
        let mut gone = Vec::new();
        {
            let mut watched = self.watched.lock().expect("no panic while held");
            let unused: Vec<String> = watched.namespaces.keys().filter(|one| !namespaces.contains(*one)).cloned().collect();
            gone.extend(unused.iter().filter_map(|namespace| watched.namespaces.remove(namespace)));
        }
        // Outside of the lock: this ends tasks.
        drop(gone);
    }
}

/// The variables of one service; none where it has no address.
pub fn of_service(service: &Service) -> Vec<(String, String)> {
    let Some(spec) = &service.spec else { return vec![] };
    let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { return vec![] };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return vec![] };
    let name = service.name().to_uppercase().replace('-', "_");
    let shown = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let protocol = |port: &daruma_api::core::v1::ServicePort| port.protocol.clone().unwrap_or_else(|| "TCP".into());
    let url = |port: &daruma_api::core::v1::ServicePort| format!("{}://{shown}:{}", protocol(port).to_lowercase(), port.port);
    let mut variables =
        vec![(format!("{name}_SERVICE_HOST"), ip.to_owned()), (format!("{name}_SERVICE_PORT"), first.port.to_string())];
    for port in ports.iter().filter(|port| port.name.as_ref().is_some_and(|name| !name.is_empty())) {
        let port_name = port.name.clone().unwrap_or_default().to_uppercase().replace('-', "_");
        variables.push((format!("{name}_SERVICE_PORT_{port_name}"), port.port.to_string()));
    }
    variables.push((format!("{name}_PORT"), url(first)));
    for port in ports {
        let prefix = format!("{name}_PORT_{}_{}", port.port, protocol(port).to_uppercase());
        variables.push((prefix.clone(), url(port)));
        variables.push((format!("{prefix}_PROTO"), protocol(port).to_lowercase()));
        variables.push((format!("{prefix}_PORT"), port.port.to_string()));
        variables.push((format!("{prefix}_ADDR"), ip.to_owned()));
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables() {
        let service: Service = serde_yaml_ng::from_str(
            "{metadata: {name: redis-master}, spec: {clusterIP: 10.0.0.11, ports: [{name: p, port: 6379, protocol: TCP}]}}",
        )
        .expect("a service");
        let lines: Vec<String> = of_service(&service).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            lines,
            [
                "REDIS_MASTER_SERVICE_HOST=10.0.0.11",
                "REDIS_MASTER_SERVICE_PORT=6379",
                "REDIS_MASTER_SERVICE_PORT_P=6379",
                "REDIS_MASTER_PORT=tcp://10.0.0.11:6379",
                "REDIS_MASTER_PORT_6379_TCP=tcp://10.0.0.11:6379",
                "REDIS_MASTER_PORT_6379_TCP_PROTO=tcp",
                "REDIS_MASTER_PORT_6379_TCP_PORT=6379",
                "REDIS_MASTER_PORT_6379_TCP_ADDR=10.0.0.11",
            ]
        );
    }
}
