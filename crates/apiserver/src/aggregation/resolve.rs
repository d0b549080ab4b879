//! From a service to the address and port of one of its ready endpoints.

use daruma_api::status::ApiError;

use super::{Connection, Remote};
use crate::cache::Filter;
use crate::config::ServiceTarget;
use crate::document::{is_true, list, number, text};
use crate::server::ApiServer;

const SERVICE_LABEL: &str = "kubernetes.io/service-name";

impl ApiServer {
    /// A ready endpoint of a service's port: address and port.
    ///
    /// # Errors
    /// 500 where endpoints cannot be read.
    pub async fn service_endpoint(
        &self,
        namespace: &str,
        name: &str,
        port_name: &str,
    ) -> Result<Option<(String, u16)>, ApiError> {
        let Some(slices) = self.registry.built_in("discovery.k8s.io", "v1", "endpointslices") else { return Ok(None) };
        let snapshot = self.cached(slices).await?;
        let filter = Filter::of_namespace(namespace);
        let mut found = Vec::new();
        for item in snapshot.select(&filter, "").filter(|item| item.label(SERVICE_LABEL) == Some(name)) {
            let Ok(slice) = self.decode_item(slices, item) else { continue };
            let port = list(&slice, "/ports")
                .iter()
                .find(|port| text(port, "/name") == port_name)
                .and_then(|port| number(port, "/port"));
            let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { continue };
            let ready = list(&slice, "/endpoints")
                .iter()
                .filter(|one| one.pointer("/conditions/ready").is_none() || is_true(one, "/conditions/ready"));
            found.extend(ready.filter_map(|one| Some((list(one, "/addresses").first()?.as_str()?.to_owned(), port))));
        }
        if found.is_empty() {
            return Ok(None);
        }
        let at = self.world.random.below(found.len() as u64) as usize;
        Ok(Some(found.swap_remove(at)))
    }

    /// A connection to one endpoint of a remote's service.
    ///
    /// # Errors
    /// 503 with the reason, as the availability condition words it.
    pub(crate) async fn dial_remote(&self, remote: &Remote) -> Result<Connection, ApiError> {
        let dialer =
            self.config.service_dialer.as_ref().ok_or_else(|| ApiError::unavailable("this server cannot reach services"))?;
        let port_name = self.remote_port_name(remote).await?;
        let endpoint = self.service_endpoint(&remote.service_namespace, &remote.service_name, &port_name).await?;
        let (host, port) = endpoint.ok_or_else(|| ApiError::unavailable("no endpoints available"))?;
        let server_name = format!("{}.{}.svc", remote.service_name, remote.service_namespace);
        Ok(dialer(&ServiceTarget { host, port, server_name, ca_bundle: remote.ca_bundle.clone() }))
    }

    /// The name of the port that the remote's service must have.
    ///
    /// # Errors
    /// 404 for the service, 503 for the port.
    pub(crate) async fn remote_port_name(&self, remote: &Remote) -> Result<String, ApiError> {
        let services =
            self.registry.built_in("", "v1", "services").ok_or_else(|| ApiError::unavailable("no services are served"))?;
        let found = self.fetch(services, &remote.service_namespace, &remote.service_name).await?;
        let service = self.decode(services, &found)?;
        let port =
            list(&service, "/spec/ports").iter().find(|port| number(port, "/port") == Some(i64::from(remote.service_port)));
        port.map(|port| text(port, "/name").to_owned()).ok_or_else(|| {
            ApiError::unavailable(format!(
                "service/{} in {:?} is not listening on port {}",
                remote.service_name, remote.service_namespace, remote.service_port
            ))
        })
    }
}
