//! The components of a cluster as modes of the binary: flags in, a library call out.

pub mod apiserver;
pub mod connection;
pub mod controller_manager;
pub mod flags;
pub mod health;
pub mod image_socket;
pub mod kubelet;
pub mod leader;
pub mod metrics_server;
pub mod network;
pub mod scheduler;

use anyhow::{Result, bail};
use clap::{CommandFactory, Parser, Subcommand};

/// Parts of a cluster. They run inside machines; people do not start them by hand.
#[derive(Debug, Subcommand)]
pub enum Component {
    /// The API server.
    #[command(name = "kube-apiserver", hide = true)]
    ApiServer(apiserver::Flags),
    /// The controllers.
    #[command(name = "kube-controller-manager", hide = true)]
    ControllerManager(controller_manager::Flags),
    /// The scheduler.
    #[command(name = "kube-scheduler", hide = true)]
    Scheduler(scheduler::Flags),
    /// The node agent.
    #[command(name = "kubelet", hide = true)]
    Kubelet(kubelet::Flags),
    /// The service proxy.
    #[command(name = "kube-proxy", hide = true)]
    Proxy(network::ProxyFlags),
    /// The pod network agent.
    #[command(name = "network-agent", hide = true)]
    NetworkAgent(network::AgentFlags),
    /// The cluster's name server.
    #[command(name = "dns", hide = true)]
    Dns(network::DnsFlags),
    /// The metrics server.
    #[command(name = "metrics-server", hide = true)]
    MetricsServer(metrics_server::Flags),
}

#[derive(Debug, Parser)]
struct Standalone {
    #[command(subcommand)]
    component: Component,
}

/// Runs a component until it ends.
pub fn run(component: Component) -> Result<()> {
    log_to_stderr();
    // The API server and the kubelet have work for two; the others fit on one thread and stay small.
    let mut runtime = match component {
        Component::ApiServer(_) | Component::Kubelet(_) => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(2);
            builder
        }
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = runtime.enable_all().max_blocking_threads(16).build()?;
    let result = runtime.block_on(async {
        let ended = async {
            match component {
                Component::ApiServer(flags) => apiserver::run(flags).await,
                Component::ControllerManager(flags) => controller_manager::run(flags).await,
                Component::Scheduler(flags) => scheduler::run(flags).await,
                Component::Kubelet(flags) => kubelet::run(flags).await,
                Component::Proxy(flags) => network::run_proxy(flags).await,
                Component::NetworkAgent(flags) => network::run_agent(flags).await,
                Component::Dns(flags) => network::run_dns(flags).await,
                Component::MetricsServer(flags) => metrics_server::run(flags).await,
            }
        };
        tokio::select! {
            biased;
            () = asked_to_end() => Ok(()),
            result = ended => result,
        }
    });
    // Blocking calls that never return (reads of pipes, waits) must not keep the process.
    runtime.shutdown_background();
    result
}

/// Completes when SIGTERM or SIGINT arrives.
async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("DARUMA_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}

/// Checks a `--set COMPONENT.FLAG=VALUE` before a cluster is made with it.
///
/// # Errors
/// A component or flag that does not exist, or a value that the flag does not take.
pub fn check_setting(component: &str, flag: &str, value: &str) -> Result<()> {
    let command = Standalone::command();
    let components: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    let Some(found) = command.find_subcommand(component) else {
        bail!("--set {component}.{flag}: no such component; components are {}", components.join(", "));
    };
    let Some(argument) = found.get_arguments().find(|argument| argument.get_long() == Some(flag)) else {
        let mut known: Vec<&str> = found.get_arguments().filter_map(clap::Arg::get_long).collect();
        known.sort_unstable();
        bail!("--set {component}.{flag}: {component} has no such flag; it has {}", known.join(", "));
    };
    let probe = clap::Command::new("probe").arg(argument.clone());
    if let Err(error) = probe.try_get_matches_from(["probe".to_owned(), format!("--{flag}={value}")]) {
        bail!("--set {component}.{flag}={value}: {}", error.to_string().lines().next().unwrap_or_default());
    }
    Ok(())
}
