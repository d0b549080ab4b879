//! `daruma node add`.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use daruma_api::core::v1::Node;
use daruma_client::Client;
use daruma_cluster::boot::flags;
use daruma_cluster::shape::{Machine, Shape};
use daruma_cluster::simulated;
use daruma_host::machine::subnet::Subnet;
use daruma_host::machines::SupervisedMachines;

use super::add_simulated;
use crate::cli::cluster_directory::ClusterDirectory;
use crate::cli::{Which, up_machines};

/// How often the new node is looked at.
const STEP: Duration = Duration::from_millis(50);
/// Workers have the addresses from .20 to .219.
const MOST_WORKERS: u8 = 200;

/// Flags of `daruma node add`.
#[derive(Debug, Args)]
pub struct Flags {
    /// How many workers.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=200))]
    count: u8,
    /// So many simulated nodes instead, as `daruma up --simulated` makes them.
    #[arg(long, value_name = "N", conflicts_with = "count", value_parser = clap::value_parser!(u32).range(1..=i64::from(simulated::MOST)))]
    simulated: Option<u32>,
    /// Give up after this long; the machines stay.
    #[arg(long, default_value = "2m", value_parser = flags::duration)]
    timeout: Duration,
}

/// Makes machines like those that `daruma up` made, and waits for their nodes.
pub async fn run(which: &Which, flags: &Flags, machines: &SupervisedMachines) -> Result<()> {
    match flags.simulated {
        Some(count) => add_simulated::run(which, count, flags.timeout, machines).await,
        None => workers(which, flags, machines).await,
    }
}

async fn workers(which: &Which, flags: &Flags, machines: &SupervisedMachines) -> Result<()> {
    let world = daruma_host::world::real();
    let directory = ClusterDirectory::of(which);
    let mut shape = directory.existing_shape()?;
    let taken: BTreeSet<String> = machines.status().await?.machines.into_iter().map(|machine| machine.name).collect();
    let new = next_workers(&shape, &taken, flags.count)?;
    let pki = directory.pki(&world)?;
    let (subnet, images) = (Subnet { network: shape.network }, directory.path().join("images"));
    for machine in &new {
        // The shape first: what is in it can be brought back by `daruma up`, and removed.
        shape.machines.push(machine.clone());
        let spec = up_machines::spec(&world, &shape, &pki, subnet, &images, machine)?;
        directory.write_shape(&shape)?;
        if let Err(error) = machines.add(spec).await {
            shape.machines.pop();
            directory.write_shape(&shape)?;
            return Err(error).with_context(|| format!("making {}", machine.name));
        }
    }
    let client = directory.client(&world)?;
    for machine in &new {
        let ready = world.timeout(flags.timeout, until_ready(&client, &machine.name)).await;
        if ready.is_err() {
            bail!(
                "{} is on, but its node is not Ready after {:?}; see `daruma logs {}`",
                machine.name,
                flags.timeout,
                machine.name
            );
        }
        println!("{} is Ready ({})", machine.name, machine.address);
    }
    Ok(())
}

/// The workers with the lowest numbers that are free.
fn next_workers(shape: &Shape, taken: &BTreeSet<String>, count: u8) -> Result<Vec<Machine>> {
    let free = |machine: &Machine| {
        !taken.contains(&machine.name)
            && shape.machines.iter().all(|other| other.name != machine.name && other.address != machine.address)
    };
    let new: Vec<Machine> =
        Shape::place(shape.network, 0, MOST_WORKERS).into_iter().filter(free).take(usize::from(count)).collect();
    if new.len() < usize::from(count) {
        bail!("a cluster has at most {MOST_WORKERS} workers; {} more would fit", new.len());
    }
    Ok(new)
}

async fn until_ready(client: &Client, name: &str) {
    let is_ready = |node: &Node| {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    // A Node that is not there yet, or a server that does not answer, is asked again.
    while !client.cluster::<Node>().get(name).await.is_ok_and(|node| is_ready(&node)) {
        client.world().sleep(STEP).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_numbers_are_taken() {
        let network = std::net::Ipv4Addr::new(10, 88, 0, 0);
        let mut machines = Shape::place(network, 1, 4);
        machines.remove(2);
        let shape: Shape = serde_json::from_value(serde_json::json!({
            "name": "c", "network": network, "machines": machines, "cpuMillis": 1, "memoryBytes": 1, "diskBytes": 1,
            "bootTimeMs": 1, "nodeMonitorGracePeriod": "50s", "defaultTolerationSeconds": 300, "settings": {}
        }))
        .expect("a shape");
        let taken = BTreeSet::from(["worker-4".to_owned()]);
        let new = next_workers(&shape, &taken, 2).expect("there is room");
        let found: Vec<_> = new.iter().map(|machine| (machine.name.as_str(), machine.address.octets()[3])).collect();
        assert_eq!(found, [("worker-1", 21), ("worker-5", 25)]);
        assert!(next_workers(&shape, &taken, 197).is_err());
    }
}
