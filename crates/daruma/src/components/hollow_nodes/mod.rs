//! `hollow-nodes`: the simulated nodes of a real cluster, all in one process.
//!
//! They are machines of a [`Universe`] whose clock follows the wall clock. On each of them init starts the same kubelet
//! as on a real machine; what it asks of the API server passes a gateway ([`gateway`]) to the real one, over HTTPS and
//! as the node that it is, and what the API server asks of it comes back the same way. Power, disks, cables and containers
//! are simulated, so whatever can be done to a machine of the virtual world can be done to these.
//!
//! Invariant: nothing of them is kept. A process that starts anew starts with empty disks.

mod clock;
mod fleet;
mod gateway;
mod node;
mod platform;
mod pod_net;
pub mod protocol;
mod remote;
mod switches;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use daruma_cluster::platform::Platform;
use daruma_cluster::simulated;
use daruma_host::machine::CARD;
use daruma_host::machine::subnet::Subnet;
use daruma_sim::Universe;
use daruma_world::links::{Change, Links, Prefix};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

pub use remote::SimulatedMachines;

use crate::cli::Which;
use crate::cli::cluster_directory::ClusterDirectory;
use crate::platform::RealPlatform;
use fleet::Fleet;

/// The longest rest of the virtual clock.
const REST: Duration = Duration::from_secs(1);

/// Flags of the simulated nodes' process.
#[derive(Debug, Args)]
pub struct Flags {
    /// The cluster; its directory says everything else.
    #[command(flatten)]
    pub which: Which,
}

/// Runs until the process is killed.
pub fn run(flags: &Flags) -> Result<()> {
    // So many kubelets say more than anybody reads.
    super::log_to_stderr("warn");
    raise_file_limit()?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().max_blocking_threads(4).build()?;
    // This thread runs the universe; whatever is real and started from there belongs to the runtime.
    let _inside = runtime.enter();
    let directory = ClusterDirectory::of(&flags.which);
    let shape = directory.existing_shape()?;
    let real = RealPlatform::new();
    let pki = directory.pki(&real.world())?;
    let address = Prefix::new(simulated::address(shape.network), Subnet::PREFIX);
    runtime.block_on(take_address(&*real.links(), address)).context("taking the nodes' address")?;
    let universe = Universe::new(seed(&shape.name));
    let mut fleet = Fleet::start(&universe, &directory, &shape, pki, &real, runtime.handle())?;
    fleet.listen(&directory)?;
    drive(&universe, &mut fleet)
}

/// A node has a connection to the API server and a listening socket.
fn raise_file_limit() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

/// The same cluster has the same machine ids after each start.
fn seed(cluster: &str) -> u64 {
    // FNV-1a.
    cluster.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

async fn take_address(links: &dyn Links, address: Prefix) -> std::io::Result<()> {
    let listed = links.list_addresses(None).await?;
    if listed.iter().any(|listed| listed.link == CARD && listed.prefix == address) {
        return Ok(());
    }
    links.apply(None, vec![Change::ReplaceAddress { link: CARD.to_owned(), prefix: address }]).await
}

/// Lets virtual time follow real time. Where there is too much to do it falls behind, and catches up later.
fn drive(universe: &Universe, fleet: &mut Fleet) -> ! {
    let driver = std::thread::current();
    universe.injector().on_ready(Arc::new(move || driver.unpark()));
    let (started, from) = (Instant::now(), universe.now());
    loop {
        universe.run_until(from + started.elapsed());
        fleet.obey();
        let now = from + started.elapsed();
        let rest = universe.next_deadline().map_or(REST, |next| next.saturating_sub(now).min(REST));
        if !rest.is_zero() {
            std::thread::park_timeout(rest);
        }
    }
}
