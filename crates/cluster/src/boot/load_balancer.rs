//! `load-balancer`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use daruma_client::RateLimit;
use daruma_network::load_balancer::plan::Pool;
use daruma_network::load_balancer::{self, Config, Port};
use daruma_world::links::Prefix;

use super::{BootError, connection};
use crate::platform::Platform;

/// Flags of the load balancer.
#[derive(Debug, Args)]
pub struct Flags {
    /// How to reach the API server.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// The addresses to give out: FIRST-LAST, or several, separated by commas.
    #[arg(long)]
    addresses: Pool,
    /// The link that the addresses are put on.
    #[arg(long, requires = "own_address")]
    link: Option<String>,
    /// The load balancer's own address on that link, with the length of its network.
    #[arg(long, requires = "link")]
    own_address: Option<Prefix>,
}

/// Runs until the process ends.
pub(super) async fn run(platform: Arc<dyn Platform>, flags: Flags) -> Result<(), BootError> {
    let limit = RateLimit { qps: 50.0, burst: 100 };
    let client = connection::client(&platform, &flags.kubeconfig, "load-balancer", limit)?;
    let port = flags.link.zip(flags.own_address).map(|(link, own)| Port { link, own });
    let config = Config { addresses: flags.addresses, port };
    load_balancer::run(platform.world(), client, platform.links(), platform.packet_rules(), config).await;
    Ok(())
}
