//! From a service or pod to an address, as things are at this moment.

use std::net::{IpAddr, SocketAddr};

use crate::file::{Destination, Via};
use crate::scene::Scene;

/// The address to ask. `count` is the number of the request, for asking all nodes in turn.
pub(super) fn resolve(scene: &Scene, to: &Destination, count: usize) -> Result<SocketAddr, String> {
    if let Some(address) = &to.address {
        return address.parse().map_err(|_| format!("{address:?} is no address with a port"));
    }
    let observer = scene.observer();
    if let Some(pod) = &to.pod {
        let found = observer.pods_of(pod)?;
        let one = found.get(pod.nth).ok_or_else(|| format!("there is no {pod}"))?;
        return socket(one.ip(), to.port.unwrap_or_default());
    }
    let name = to.service.as_deref().unwrap_or_default();
    let service = observer.service(&to.namespace, name).ok_or_else(|| format!("there is no service {}/{name}", to.namespace))?;
    let ports = &service.spec.ports;
    let port = ports.iter().find(|one| to.port.is_none_or(|port| one.port == port));
    let port = port.ok_or_else(|| format!("service {name} has no port {}", to.port.unwrap_or_default()))?;
    match to.via {
        Via::ClusterIp => socket(&service.spec.cluster_ip, port.port),
        Via::LoadBalancer => {
            let ingress = service.status.load_balancer.ingress.first();
            let ip = ingress.map(|one| one.ip.as_str()).unwrap_or_default();
            if ip.is_empty() {
                return Err(format!("service {name} has no load balancer's address yet"));
            }
            socket(ip, port.port)
        }
        Via::NodePort => {
            let Some(node_port) = port.node_port else { return Err(format!("service {name} has no node port")) };
            let node = match &to.node {
                Some(node) => node.clone(),
                None => {
                    let nodes = observer.nodes();
                    let turn = count.checked_rem(nodes.len()).ok_or("there is no node")?;
                    nodes[turn].clone()
                }
            };
            let address = observer.address(&node).ok_or_else(|| format!("node {node} has no address"))?;
            socket(&address, node_port)
        }
    }
}

fn socket(ip: &str, port: u16) -> Result<SocketAddr, String> {
    let ip: IpAddr = ip.parse().map_err(|_| "it has no address yet".to_owned())?;
    Ok(SocketAddr::new(ip, port))
}
