//! `kube-scheduler`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use daruma_client::RateLimit;
use daruma_scheduler::{Metrics, SchedulerConfig};

use super::leader::{self, LeaderFlags};
use super::{BootError, connection, health};
use crate::platform::Platform;

/// Flags of kube-scheduler, named as the real one names them.
#[derive(Debug, Args)]
pub struct Flags {
    /// How to reach the API server.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Address of the health and metrics port.
    #[arg(long, default_value = "127.0.0.1")]
    bind_address: IpAddr,
    /// Health and metrics port.
    #[arg(long, default_value_t = 10259)]
    secure_port: u16,
    /// Queries a second to the API server.
    #[arg(long, default_value_t = 50.0)]
    kube_api_qps: f64,
    /// Queries that may go at once.
    #[arg(long, default_value_t = 100)]
    kube_api_burst: u32,
    #[command(flatten)]
    leader: LeaderFlags,
}

/// Runs until the process ends.
pub(super) async fn run(platform: Arc<dyn Platform>, flags: Flags) -> Result<(), BootError> {
    let limit = RateLimit { qps: flags.kube_api_qps, burst: flags.kube_api_burst };
    let client = connection::client(&platform, &flags.kubeconfig, "kube-scheduler", limit)?;
    let metrics = Arc::new(Metrics::default());
    let shown = metrics.clone();
    health::serve(
        &*platform,
        flags.bind_address,
        flags.secure_port,
        "kube-scheduler",
        health::handler(Arc::new(move || shown.text())),
    )?;
    leader::run(&*platform, &client, "kube-scheduler", &flags.leader, async move |client| {
        daruma_scheduler::run(client, SchedulerConfig::default(), metrics).await;
    })
    .await
}
