//! `daruma node add --simulated`.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use daruma_cluster::shape::Shape;
use daruma_cluster::simulated;
use daruma_host::machines::SupervisedMachines;
use daruma_world::World;

use crate::cli::cluster_directory::ClusterDirectory;
use crate::cli::up_wait::Progress;
use crate::cli::{Which, up_simulated};
use crate::components::hollow_nodes::SimulatedMachines;

/// The first simulated nodes of a cluster bring their process with them, which is there after so long at the latest.
const START: Duration = Duration::from_secs(30);
/// How often it is tried.
const STEP: Duration = Duration::from_millis(100);

/// Lets simulated nodes join and waits until they are Ready.
pub async fn run(which: &Which, count: u32, timeout: Duration, machines: &SupervisedMachines) -> Result<()> {
    let world = daruma_host::world::real();
    let since = world.now();
    let directory = ClusterDirectory::of(which);
    let earlier = directory.existing_shape()?;
    let mut shape = earlier.clone();
    let new = add(&mut shape, count)?;
    // The shape first: a process that starts anew takes its nodes from there.
    directory.write_shape(&shape)?;
    if let Err(error) = join(&world, which, &shape, &directory, &new, machines).await {
        directory.write_shape(&earlier)?;
        return Err(error);
    }
    let client = directory.client(&world)?;
    let progress = Progress::new(true);
    let names = new.iter().copied().map(simulated::name).collect();
    let ready = world.timeout(timeout, up_simulated::until_ready(&client, names, &progress, since)).await;
    progress.finish();
    if ready.is_err() {
        bail!(
            "the nodes are switched on, but not all of them are Ready after {timeout:?}; see `daruma status` and `daruma logs supervisor`"
        );
    }
    match new[..] {
        [one] => println!("{} is Ready", simulated::name(one)),
        _ => println!("{} simulated nodes are Ready", new.len()),
    }
    Ok(())
}

/// The numbers of the new ones; refuses what the cluster has no room for.
fn add(shape: &mut Shape, count: u32) -> Result<Vec<u32>> {
    let there = simulated::count(shape);
    if there.saturating_add(count) > simulated::MOST {
        bail!("a cluster has at most {} simulated nodes; {} more would fit", simulated::MOST, simulated::MOST - there);
    }
    let nodes = shape.machines.len() + (there + count) as usize;
    if nodes > simulated::room(shape) {
        bail!(
            "the cluster's pod network has addresses for {} nodes, and these would be {nodes}; `daruma up --simulated N` makes it wider, \
             at a cluster's first start",
            simulated::room(shape)
        );
    }
    Ok(simulated::add(shape, count))
}

async fn join(
    world: &World,
    which: &Which,
    shape: &Shape,
    directory: &ClusterDirectory,
    new: &[u32],
    machines: &SupervisedMachines,
) -> Result<()> {
    let command = up_simulated::command(shape, which).context("a cluster without simulated nodes")?;
    machines.keep(command).await?;
    let simulated = SimulatedMachines::of(directory.path());
    let until = world.monotonic() + START;
    loop {
        match simulated.add(new.to_vec()).await {
            Ok(()) => return Ok(()),
            Err(error) if world.monotonic() >= until => return Err(error).context("adding simulated nodes"),
            Err(error) => tracing::debug!(%error, "adding simulated nodes"),
        }
        world.sleep(STEP).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_has_room_for_so_many() {
        let check = |cidr: &str, there: u32, count: u32, wanted: Result<usize, &str>| {
            let mut shape: Shape = serde_json::from_value(serde_json::json!({
                "name": "c", "network": "10.88.0.0", "machines": Shape::place(std::net::Ipv4Addr::new(10, 88, 0, 0), 1, 2),
                "simulated": there, "cpuMillis": 1, "memoryBytes": 1, "diskBytes": 1, "bootTimeMs": 1,
                "nodeMonitorGracePeriod": "50s", "defaultTolerationSeconds": 300,
                "settings": {"kube-controller-manager": {"cluster-cidr": cidr}}
            }))
            .expect("a shape");
            match (add(&mut shape, count), wanted) {
                (Ok(new), Ok(wanted)) => assert_eq!((new.len(), simulated::count(&shape)), (wanted, there + count)),
                (Err(error), Err(wanted)) => assert!(error.to_string().contains(wanted), "{error}"),
                (found, wanted) => panic!("{found:?} is not {wanted:?}"),
            }
        };
        check("10.244.0.0/16", 3, 250, Ok(250));
        check("10.244.0.0/16", 4, 250, Err("addresses for 256 nodes, and these would be 257"));
        check("10.128.0.0/9", 1000, 1000, Ok(1000));
        check("10.128.0.0/9", 1000, 1001, Err("at most 2000 simulated nodes; 1000 more would fit"));
    }
}
