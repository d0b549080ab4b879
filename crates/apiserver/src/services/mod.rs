//! Cluster addresses and node ports of services.
//!
//! Facts: kubernetes pkg/registry/core/service/storage/{alloc,storage}.go. IPv4 single stack.
//! What is taken is kept in memory, filled from the stored services and kept in step by watching them.

mod families;
mod pool;

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard};

use daruma_api::status::{ApiError, FieldError};
use serde_json::{Value, json};

use crate::admission::{Attributes, Operation};
use crate::cache::{EventType, Filter};
use crate::config::{ApiServerConfig, ServiceRange};
use crate::document::{self, list, number, text};
use crate::registry::Resource;
use crate::server::ApiServer;
use crate::verbs::write::refuse;
use pool::Pool;

/// Who has which address and port.
#[derive(Debug)]
pub struct Allocator {
    range: ServiceRange,
    ports: (u16, u16),
    pools: Mutex<Pools>,
}

#[derive(Debug)]
struct Pools {
    /// Numbers are offsets from the first usable address.
    addresses: Pool,
    /// Numbers are offsets from the first port.
    ports: Pool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Address(u32),
    Port(u32),
}

/// Addresses and ports taken for a write; given back unless the write succeeds.
#[derive(Debug, Default)]
pub struct Allocation {
    allocator: Option<Arc<Allocator>>,
    owner: String,
    taken: Vec<Taken>,
    no_longer_used: Vec<Taken>,
}

impl Allocation {
    /// The write succeeded: what was taken stays so, what is no longer used goes back.
    pub fn keep(mut self) {
        self.taken = std::mem::take(&mut self.no_longer_used);
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if let Some(allocator) = &self.allocator {
            allocator.release(&self.taken, &self.owner);
        }
    }
}

impl Allocator {
    /// All free.
    pub fn new(config: &ApiServerConfig) -> Self {
        let range = config.service_range;
        // Without the network's own address and the broadcast address.
        let size = (1u64 << (32 - u32::from(range.prefix_length.min(32)))).saturating_sub(2);
        let port_count = u32::from(config.node_ports.1.saturating_sub(config.node_ports.0)) + 1;
        let mut addresses = Pool::new(u32::try_from(size).unwrap_or(u32::MAX), 16, 256);
        addresses.take(0, "default/kubernetes");
        let pools = Pools { addresses, ports: Pool::new(port_count, 32, 128) };
        Self { range, ports: config.node_ports, pools: Mutex::new(pools) }
    }

    fn pools(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().expect("no panic while held")
    }

    /// The first address of the range: the `kubernetes` service's.
    pub fn first_address(&self) -> Ipv4Addr {
        self.address(0)
    }

    fn address(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.range.network).wrapping_add(1).wrapping_add(offset))
    }

    fn offset(&self, address: Ipv4Addr) -> Option<u32> {
        u32::from(address)
            .checked_sub(u32::from(self.range.network).wrapping_add(1))
            .filter(|offset| *offset < self.pools().addresses.size())
    }

    fn port_offset(&self, port: i64) -> Option<u32> {
        let (first, last) = (i64::from(self.ports.0), i64::from(self.ports.1));
        (first..=last).contains(&port).then(|| (port - first) as u32)
    }

    fn release(&self, taken: &[Taken], owner: &str) {
        let mut pools = self.pools();
        for one in taken {
            match one {
                Taken::Address(offset) => pools.addresses.release(*offset, owner),
                Taken::Port(offset) => pools.ports.release(*offset, owner),
            }
        }
    }

    /// What a stored service has.
    fn of(&self, service: &Value) -> Vec<Taken> {
        let address = text(service, "/spec/clusterIP").parse().ok().and_then(|address| self.offset(address)).map(Taken::Address);
        let ports = list(service, "/spec/ports").iter().filter_map(|port| number(port, "/nodePort"));
        let health = number(service, "/spec/healthCheckNodePort");
        let ports = ports.chain(health).filter_map(|port| self.port_offset(port)).map(Taken::Port);
        address.into_iter().chain(ports).collect()
    }

    fn record(&self, service: &Value, owner: &str) {
        for one in self.of(service) {
            let mut pools = self.pools();
            match one {
                Taken::Address(offset) => pools.addresses.take(offset, owner),
                Taken::Port(offset) => pools.ports.take(offset, owner),
            };
        }
    }
}

/// Fills the allocator from the stored services and follows them for ever.
pub async fn follow(server: Arc<ApiServer>) {
    let Some(services) = server.registry.built_in("", "v1", "services").cloned() else { return };
    let allocator = server.services.clone();
    loop {
        if server.feed.load(&services.prefix, &services.cache).await.is_err() {
            server.world.sleep(std::time::Duration::from_millis(100)).await;
            continue;
        }
        let (snapshot, mut watcher) = services.cache.watch_from_now(&Arc::new(Filter::default()), 0);
        for item in snapshot.objects.values() {
            if let Ok(service) = serde_json::from_slice(&item.value) {
                allocator.record(&service, &item.key);
            }
        }
        while let Some((event, delivery)) = watcher.next().await {
            let change = &delivery.change;
            let decode = |item: &Option<Arc<crate::storage::Item>>| {
                item.as_ref().and_then(|item| serde_json::from_slice::<Value>(&item.value).ok())
            };
            match (event, decode(&change.item), decode(&change.previous)) {
                (EventType::Deleted, _, Some(gone)) => {
                    // A new service of that name may have come since; what it has is recorded by its own event.
                    allocator.release(&allocator.of(&gone), &change.key);
                }
                (_, Some(service), _) => allocator.record(&service, &change.key),
                _ => {}
            }
        }
    }
}

/// Gives a service what it asks for.
///
/// # Errors
/// 422 for what is taken or out of range.
pub fn allocate(server: &Arc<ApiServer>, attributes: &mut Attributes, dry_run: bool) -> Result<Allocation, ApiError> {
    if !attributes.is("", "services", "") {
        return Ok(Allocation::default());
    }
    let owner = crate::storage::keys::object(&attributes.namespace, text(&attributes.object, "/metadata/name"));
    let mut allocation = Allocation::default();
    allocation.allocator = Some(server.services.clone());
    allocation.owner = owner;
    let old = attributes.old.clone().filter(|_| attributes.operation == Operation::Update);
    families::normalize(&mut attributes.object, old.as_deref());
    let mut wrong = addresses(server, &mut attributes.object, &mut allocation);
    wrong.extend(ports(server, &mut attributes.object, old.as_deref(), &mut allocation));
    refuse(&attributes.resource, &attributes.name, &wrong)?;
    if let Some(old) = &old {
        let still = server.services.of(&attributes.object);
        allocation.no_longer_used = server.services.of(old).into_iter().filter(|one| !still.contains(one)).collect();
        let before = server.services.of(old);
        allocation.taken.retain(|one| !before.contains(one));
    }
    if dry_run {
        allocation.no_longer_used.clear();
    }
    Ok(allocation)
}

fn addresses(server: &Arc<ApiServer>, service: &mut Value, allocation: &mut Allocation) -> Vec<FieldError> {
    let allocator = &server.services;
    if text(service, "/spec/type") == "ExternalName" {
        return Vec::new();
    }
    let asked = text(service, "/spec/clusterIP").to_owned();
    if asked == "None" {
        return Vec::new();
    }
    let refuse = |why: String| vec![FieldError::invalid("spec.clusterIPs", format!("[{asked:?}]"), why)];
    let address = if asked.is_empty() {
        match allocator.pools().addresses.take_any(&allocation.owner, &*server.world.random) {
            Some(offset) => offset,
            None => return refuse("failed to allocate a serviceIP: range is full".into()),
        }
    } else {
        let Ok(parsed) = asked.parse::<Ipv4Addr>() else { return Vec::new() };
        let Some(offset) = allocator.offset(parsed) else {
            let range = format!("{}/{}", allocator.range.network, allocator.range.prefix_length);
            return refuse(format!(
                "failed to allocate IP {asked}: the provided IP ({asked}) is not in the valid range. The range of valid IPs is {range}"
            ));
        };
        if !allocator.pools().addresses.take(offset, &allocation.owner) {
            return refuse(format!("failed to allocate IP {asked}: provided IP is already allocated"));
        }
        offset
    };
    allocation.taken.push(Taken::Address(address));
    let shown = allocator.address(address).to_string();
    let spec = document::child(service, "spec");
    spec.insert("clusterIP".into(), shown.clone().into());
    spec.insert("clusterIPs".into(), json!([shown]));
    Vec::new()
}

fn ports(server: &Arc<ApiServer>, service: &mut Value, old: Option<&Value>, allocation: &mut Allocation) -> Vec<FieldError> {
    let allocator = &server.services;
    let kind = text(service, "/spec/type").to_owned();
    let balancer = kind == "LoadBalancer";
    let automatic =
        kind == "NodePort" || (balancer && service.pointer("/spec/allocateLoadBalancerNodePorts") != Some(&Value::Bool(false)));
    let had = old.is_some_and(|old| matches!(text(old, "/spec/type"), "NodePort" | "LoadBalancer"));
    if kind != "NodePort" && !balancer {
        // Ports that the service had go with the type; ones that were asked for newly are for validation to refuse.
        if had {
            for port in elements(service) {
                if let Some(fields) = port.as_object_mut() {
                    fields.remove("nodePort");
                }
            }
        }
        return Vec::new();
    }
    let mut wrong = Vec::new();
    let mut used: Vec<(String, i64)> = Vec::new();
    for (index, port) in elements(service).iter_mut().enumerate() {
        let path = format!("spec.ports[{index}].nodePort");
        let protocol = text(port, "/protocol").to_owned();
        let asked = number(port, "/nodePort").unwrap_or(0);
        if asked != 0 {
            let shared = used.iter().any(|(other, number)| *number == asked && *other != protocol);
            match take_port(allocator, asked, &allocation.owner) {
                Ok(taken) => allocation.taken.push(taken),
                Err(_) if shared => {}
                Err(why) => wrong.push(FieldError::invalid(path, asked.to_string(), why)),
            }
            used.push((protocol, asked));
            continue;
        }
        if !automatic {
            continue;
        }
        // The same port number over another protocol shares the node port (as DNS does).
        let own_number = number(port, "/port").unwrap_or(0);
        let taken = allocator.pools().ports.take_any(&allocation.owner, &*server.world.random);
        let Some(offset) = taken else {
            wrong.push(FieldError::invalid(
                path,
                "0",
                format!("failed to allocate a nodePort for port {own_number}: range is full"),
            ));
            continue;
        };
        allocation.taken.push(Taken::Port(offset));
        let chosen = i64::from(allocator.ports.0) + i64::from(offset);
        used.push((protocol, chosen));
        if let Some(fields) = port.as_object_mut() {
            fields.insert("nodePort".into(), chosen.into());
        }
    }
    if balancer && text(service, "/spec/externalTrafficPolicy") == "Local" {
        wrong.extend(health_port(server, service, allocation));
    }
    wrong
}

fn health_port(server: &Arc<ApiServer>, service: &mut Value, allocation: &mut Allocation) -> Option<FieldError> {
    let allocator = &server.services;
    let asked = number(service, "/spec/healthCheckNodePort").unwrap_or(0);
    if asked != 0 {
        return match take_port(allocator, asked, &allocation.owner) {
            Ok(taken) => {
                allocation.taken.push(taken);
                None
            }
            Err(why) => Some(FieldError::invalid("spec.healthCheckNodePort", asked.to_string(), why)),
        };
    }
    let offset = allocator.pools().ports.take_any(&allocation.owner, &*server.world.random)?;
    allocation.taken.push(Taken::Port(offset));
    let chosen = i64::from(allocator.ports.0) + i64::from(offset);
    document::child(service, "spec").insert("healthCheckNodePort".into(), chosen.into());
    None
}

fn take_port(allocator: &Allocator, port: i64, owner: &str) -> Result<Taken, String> {
    let Some(offset) = allocator.port_offset(port) else {
        let (first, last) = allocator.ports;
        return Err(format!("provided port is not in the valid range. The range of valid ports is {first}-{last}"));
    };
    if allocator.pools().ports.take(offset, owner) {
        Ok(Taken::Port(offset))
    } else {
        Err("provided port is already allocated".into())
    }
}

fn elements(service: &mut Value) -> &mut [Value] {
    service.pointer_mut("/spec/ports").and_then(Value::as_array_mut).map(Vec::as_mut_slice).unwrap_or_default()
}

/// Takes back what a deleted service had.
pub fn released(server: &Arc<ApiServer>, resource: &Resource, last: &[u8]) {
    if !resource.is("", "services") {
        return;
    }
    let Ok(service) = serde_json::from_slice::<Value>(last) else { return };
    let owner = crate::storage::keys::object(text(&service, "/metadata/namespace"), text(&service, "/metadata/name"));
    server.services.release(&server.services.of(&service), &owner);
}
