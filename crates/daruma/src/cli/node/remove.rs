//! `daruma node remove`.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use daruma_api::core::v1::{Node, Pod};
use daruma_client::{Client, ListOptions};
use daruma_cluster::shape::Role;
use daruma_cluster::simulated;
use daruma_world::machines::Machines;

use crate::cli::Which;
use crate::cli::cluster_directory::ClusterDirectory;
use crate::cli::cluster_machines::ClusterMachines;

/// A server that does not answer by then does not keep the machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// Flags of `daruma node remove`.
#[derive(Debug, Args)]
pub struct Flags {
    /// The machine, e.g. worker-1.
    #[arg(value_name = "NAME")]
    machine: String,
}

/// Removes a worker or a simulated node: power, machine, Node object.
pub async fn run(which: &Which, flags: &Flags, machines: &ClusterMachines) -> Result<()> {
    let name = flags.machine.as_str();
    let world = daruma_host::world::real();
    let directory = ClusterDirectory::of(which);
    let mut shape = directory.existing_shape()?;
    if shape.machines.iter().any(|machine| machine.name == name && machine.role == Role::Controller) {
        bail!("{name} runs the control plane and cannot be removed; `daruma down` removes the cluster");
    }
    let client = directory.client(&world)?;
    // A name that does not exist is refused by whoever has the machines, before anything is said of its pods.
    let exists = machines.list().await?.iter().any(|machine| machine.name == name);
    let pods = if exists { world.timeout(PATIENCE, pods(&client, name)).await.unwrap_or_default() } else { Vec::new() };
    if !pods.is_empty() {
        eprintln!("warning: {} pods are lost with {name}: {}", pods.len(), pods.join(", "));
    }
    if let Some(number) = simulated::number(name) {
        // The shape first: a process that starts anew takes its nodes from there.
        let earlier = shape.clone();
        simulated::remove(&mut shape, number);
        directory.write_shape(&shape)?;
        if let Err(error) = machines.remove(name).await {
            directory.write_shape(&earlier)?;
            return Err(error.into());
        }
    } else {
        machines.remove(name).await?;
        shape.machines.retain(|machine| machine.name != name);
        directory.write_shape(&shape)?;
    }
    let deleted = world.timeout(PATIENCE, client.cluster::<Node>().delete(name, &Default::default())).await;
    let problem = match deleted {
        Ok(Ok(())) => None,
        Ok(Err(error)) if error.is_not_found() => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {PATIENCE:?}")),
    };
    if let Some(problem) = problem {
        bail!("the machine {name} is removed, but not its Node object: {problem}; `kubectl delete node {name}` removes it");
    }
    println!("{name} is removed");
    Ok(())
}

/// Pods of a node that will not be there again by themselves: neither a DaemonSet's nor static ones.
async fn pods(client: &Client, node: &str) -> Vec<String> {
    let options = ListOptions { field_selector: format!("spec.nodeName={node}"), ..ListOptions::default() };
    let Ok(list) = client.all::<Pod>().list(&options).await else { return Vec::new() };
    let stays = |pod: &Pod| {
        let owners = pod.metadata.owner_references.iter().flatten();
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        owners.clone().all(|owner| owner.kind != "DaemonSet" && owner.kind != "Node") && !matches!(phase, "Succeeded" | "Failed")
    };
    let name = |pod: &Pod| {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        format!("{}/{}", part(&pod.metadata.namespace), part(&pod.metadata.name))
    };
    list.items.iter().filter(|pod| stays(pod)).map(name).collect()
}
