//! The `kubernetes` service in `default` and its endpoints: every API server that is alive.
//!
//! Facts: kubernetes pkg/controlplane/controller/kubernetesservice and pkg/controlplane/reconcilers/lease.go:
//! each server renews a key that lives 15 s every 10 s; the endpoints are what keys there are.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use daruma_api::status::ApiError;
use daruma_store::{Expect, Write};
use serde_json::{Value, json};

use super::Wanted;
use crate::http::answer;
use crate::server::ApiServer;

const LEASES: &str = "/registry/masterleases/";
const LEASE_SECONDS: u64 = 15;
const INTERVAL: Duration = Duration::from_secs(10);
const NAME: &str = "kubernetes";

/// Service, Endpoints and EndpointSlice with this server alone.
pub fn all(server: &ApiServer) -> Vec<Wanted> {
    let config = &server.config;
    let address = server.services.first_address().to_string();
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": NAME, "namespace": "default", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": config.secure_port}]},
        "status": {"loadBalancer": {}},
    });
    let addresses = [config.advertise_address];
    vec![
        Wanted { group: "", plural: "services", object: service },
        Wanted { group: "", plural: "endpoints", object: endpoints(&addresses, config.secure_port) },
        Wanted { group: "discovery.k8s.io", plural: "endpointslices", object: slice(&addresses, config.secure_port) },
    ]
}

fn endpoints(addresses: &[Ipv4Addr], port: u16) -> Value {
    let shown: Vec<Value> = addresses.iter().map(|address| json!({"ip": address.to_string()})).collect();
    json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": NAME, "namespace": "default", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": shown, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]})
}

fn slice(addresses: &[Ipv4Addr], port: u16) -> Value {
    let shown: Vec<Value> =
        addresses.iter().map(|address| json!({"addresses": [address.to_string()], "conditions": {"ready": true}})).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": NAME, "namespace": "default", "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": "IPv4", "endpoints": shown, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]})
}

/// Keeps this server's key and the endpoints for ever.
pub async fn keep(server: &Arc<ApiServer>) {
    loop {
        if let Err(error) = reconcile(server).await {
            tracing::warn!(%error, "cannot keep the endpoints of the kubernetes service");
        }
        server.world.sleep(INTERVAL).await;
    }
}

async fn reconcile(server: &Arc<ApiServer>) -> Result<(), ApiError> {
    let config = &server.config;
    for wanted in all(server).into_iter().filter(|wanted| wanted.plural == "services") {
        if let Some(resource) = server.registry.built_in_somewhere(wanted.group, wanted.plural) {
            // Somebody may have deleted it.
            super::ensure(server, resource.clone(), wanted.object).await?;
        }
    }
    let own = format!("{LEASES}{}", config.advertise_address);
    let write = Write::Put { value: "{}".into(), ttl_seconds: Some(LEASE_SECONDS) };
    server.store.write(&own, Expect::Any, write).await.map_err(answer::from_store)?;
    let range = server.store.range(LEASES, None, 0, None).await.map_err(answer::from_store)?;
    let mut addresses: Vec<Ipv4Addr> =
        range.items.iter().filter_map(|item| item.key.strip_prefix(LEASES)?.parse().ok()).collect();
    addresses.sort_unstable();
    put_fields(server, "", "endpoints", &endpoints(&addresses, config.secure_port), &["subsets"]).await?;
    put_fields(server, "discovery.k8s.io", "endpointslices", &slice(&addresses, config.secure_port), &["endpoints", "ports"])
        .await
}

/// Makes the named fields of a stored object as `wanted` has them.
async fn put_fields(server: &Arc<ApiServer>, group: &str, plural: &str, wanted: &Value, fields: &[&str]) -> Result<(), ApiError> {
    let Some(resource) = server.registry.built_in_somewhere(group, plural) else { return Ok(()) };
    let (mut object, expect) = match server.fetch(resource, "default", NAME).await {
        Ok(found) => (Arc::unwrap_or_clone(server.decode(resource, &found)?), Expect::Revision(found.mod_revision)),
        Err(error) if error.is_not_found() => {
            let mut object = wanted.clone();
            super::complete(server, resource, &mut object);
            (object, Expect::Absent)
        }
        Err(error) => return Err(error),
    };
    if expect != Expect::Absent && fields.iter().all(|field| object.get(*field) == wanted.get(*field)) {
        return Ok(());
    }
    for field in fields {
        object[*field] = wanted[*field].clone();
    }
    server.put(resource, &resource.key("default", NAME), expect, resource.head.encode(&object)).await?;
    Ok(())
}
