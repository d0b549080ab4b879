//! The simulated nodes of `daruma up --simulated N`: what is written for them, how they are started and waited for.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use daruma_api::core::v1::Node;
use daruma_api::meta::ObjectExt;
use daruma_client::{Client, ListOptions};
use daruma_cluster::kubeconfig;
use daruma_cluster::pki::Pki;
use daruma_cluster::shape::{Machine, Role, Shape};
use daruma_host::machine::CARD;
use daruma_host::machine::subnet::Subnet;
use daruma_world::World;

use super::cluster_directory::ClusterDirectory;
use super::up_wait::Progress;
use crate::components::hollow_nodes::{LABEL, node_name};

/// The mode of the binary, and the component under which the shape keeps how many there are.
const MODE: &str = "hollow-nodes";
/// The directory of the cluster that holds theirs.
const DIRECTORY: &str = "simulated";
/// Last octet of the address of them all in the node network: after the load balancer's.
const OWN: u32 = 3;
/// So many nodes have a /24 each in the usual pod network.
const FEW: usize = 256;
/// The pod network of clusters with more nodes.
const WIDE_POD_CIDR: &str = "10.128.0.0/9";
/// How often nodes are looked at.
const STEP: Duration = Duration::from_millis(250);

/// Notes in a new cluster's shape how many there are, and widens the pod network where they need that.
pub fn note(shape: &mut Shape, count: u32) {
    if count == 0 {
        return;
    }
    shape.settings.entry(MODE.to_owned()).or_default().insert("nodes".to_owned(), count.to_string());
    if shape.machines.len() + count as usize > FEW {
        for component in ["kube-controller-manager", "kube-proxy", "network-agent"] {
            let flags = shape.settings.entry(component.to_owned()).or_default();
            flags.entry("cluster-cidr".to_owned()).or_insert_with(|| WIDE_POD_CIDR.to_owned());
        }
    }
}

/// How many a cluster has.
pub fn count(shape: &Shape) -> u32 {
    shape.settings.get(MODE).and_then(|flags| flags.get("nodes")).and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Gives each of them its identity, where it has none yet.
pub fn write_identities(world: &World, directory: &ClusterDirectory, shape: &Shape, pki: &Pki) -> Result<()> {
    for index in 0..count(shape) {
        let name = node_name(index);
        let file = format!("{DIRECTORY}/{name}/kubelet.conf");
        if directory.path().join(&file).exists() {
            continue;
        }
        let machine = Machine { name, role: Role::Worker, address: address(shape) };
        let pair = pki.kubelet(world, &machine)?;
        let user = format!("system:node:{}", machine.name);
        let url = shape.api_server_url();
        directory.write(&file, &kubeconfig::with_certificate(&shape.name, &url, &pki.ca.certificate, &user, &pair))?;
    }
    Ok(())
}

fn address(shape: &Shape) -> Ipv4Addr {
    Ipv4Addr::from_bits(shape.network.to_bits() + OWN)
}

/// The command line of their process without the program; `None` where there are none.
pub fn command(shape: &Shape, directory: &ClusterDirectory) -> Option<Vec<String>> {
    if count(shape) == 0 {
        return None;
    }
    let mut command = vec![
        MODE.to_owned(),
        format!("--directory={}", directory.path().join(DIRECTORY).display()),
        format!("--client-ca-file={}", directory.path().join("pki/ca.crt").display()),
        format!("--link={CARD}"),
        format!("--own-address={}/{}", address(shape), Subnet::PREFIX),
        format!("--cpu-millis={}", shape.cpu_millis),
        format!("--memory-bytes={}", shape.memory_bytes),
        format!("--disk-bytes={}", shape.disk_bytes),
    ];
    shape.set_flags(MODE, &mut command);
    Some(command)
}

/// Waits for them all.
pub async fn until_ready(client: &Client, shape: &Shape, progress: &Progress) -> Result<()> {
    let wanted = count(shape) as usize;
    let selector = format!("{}={}", LABEL.0, LABEL.1);
    while wanted > 0 {
        let options = ListOptions { label_selector: selector.clone(), ..ListOptions::default() };
        let ready = match client.cluster::<Node>().list(&options).await {
            Ok(list) => list.items.iter().filter(|node| node.name().starts_with("simulated-") && is_ready(node)).count(),
            Err(error) => {
                tracing::debug!(%error, "listing nodes");
                0
            }
        };
        if ready >= wanted {
            break;
        }
        progress.say(&format!("waiting for simulated nodes: {ready} of {wanted} are Ready"));
        client.world().sleep(STEP).await;
    }
    Ok(())
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
