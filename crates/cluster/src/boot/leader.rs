//! Leader election of controller-manager and scheduler.

use std::time::Duration;

use clap::{ArgAction, Args};
use daruma_client::leader_election::{LeaderElectionConfig, LeaderElectionOutcome};
use daruma_client::{Client, leader_election, names};

use super::{BootError, flags};
use crate::platform::Platform;

/// The flags that both components share.
#[derive(Debug, Args)]
pub struct LeaderFlags {
    /// Work only while holding the component's Lease.
    #[arg(long, default_value = "true", value_parser = flags::boolean, action = ArgAction::Set)]
    leader_elect: bool,
    /// After so long without renewal another candidate may take over.
    #[arg(long, default_value = "15s", value_parser = flags::duration)]
    leader_elect_lease_duration: Duration,
    /// A leader that could not renew for so long stops.
    #[arg(long, default_value = "10s", value_parser = flags::duration)]
    leader_elect_renew_deadline: Duration,
    /// Time between two tries.
    #[arg(long, default_value = "2s", value_parser = flags::duration)]
    leader_elect_retry_period: Duration,
}

/// Runs `work` for as long as this process leads.
///
/// # Errors
/// The lease was lost: the process ends and is started anew, as the real components do.
pub async fn run<W>(
    platform: &dyn Platform,
    client: &Client,
    component: &str,
    flags: &LeaderFlags,
    work: impl FnOnce(Client) -> W + Send,
) -> Result<(), BootError>
where
    W: Future<Output = ()> + Send + 'static,
{
    if !flags.leader_elect {
        work(client.clone()).await;
        return Ok(());
    }
    let identity = format!("{}_{}", platform.hostname()?, names::uuid(&*client.world().random));
    let config = LeaderElectionConfig {
        lease_duration: flags.leader_elect_lease_duration,
        renew_deadline: flags.leader_elect_renew_deadline,
        retry_period: flags.leader_elect_retry_period,
        ..LeaderElectionConfig::new("kube-system", component, &identity)
    };
    let elected = client.clone();
    match leader_election::run(client.clone(), config, || work(elected)).await {
        LeaderElectionOutcome::Lost => Err(BootError::LeaderLost),
    }
}
