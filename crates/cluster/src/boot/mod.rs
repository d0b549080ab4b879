//! The components of a cluster, each composed from its command line: flags in, a library call out.
//!
//! One file a component, named in [`Component`]. A component runs as a process of a machine, on a
//! [`Platform`]; the binary and the virtual world start them in the same way.

pub mod apiserver;
pub mod connection;
pub mod controller_manager;
mod error;
pub mod flags;
pub mod health;
pub mod kubelet;
mod leader;
pub mod load_balancer;
pub mod metrics_server;
pub mod network;
pub mod scheduler;

use std::ffi::OsString;
use std::sync::Arc;

use clap::{CommandFactory, Parser, Subcommand};
pub use error::BootError;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, select};

use crate::platform::Platform;

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
    /// The load balancer above the workers. It runs beside the machines.
    #[command(name = "load-balancer", hide = true)]
    LoadBalancer(load_balancer::Flags),
    /// The cluster's name server.
    #[command(name = "dns", hide = true)]
    Dns(network::DnsFlags),
    /// The metrics server.
    #[command(name = "metrics-server", hide = true)]
    MetricsServer(metrics_server::Flags),
}

impl Component {
    /// Reads a command line without the program's name: the component's name and its flags.
    ///
    /// # Errors
    /// No such component, or wrong flags.
    pub fn parse(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let program = std::iter::once(OsString::from("daruma"));
        Ok(Standalone::try_parse_from(program.chain(arguments.into_iter().map(Into::into)))?.component)
    }

    /// Runs the component until it ends or is asked to.
    ///
    /// # Errors
    /// It could not start, or had to end.
    pub async fn run(self, platform: Arc<dyn Platform>) -> Result<(), BootError> {
        let terminated = platform.terminated();
        let ended: BoxFuture<'static, Result<(), BootError>> = match self {
            // It may have pods to end first.
            Self::Kubelet(flags) => return kubelet::run(platform, flags, None).await,
            Self::ApiServer(flags) => apiserver::run(platform, flags).boxed(),
            Self::ControllerManager(flags) => controller_manager::run(platform, flags).boxed(),
            Self::Scheduler(flags) => scheduler::run(platform, flags).boxed(),
            Self::Proxy(flags) => network::run_proxy(platform, flags).boxed(),
            Self::NetworkAgent(flags) => network::run_agent(platform, flags).boxed(),
            Self::LoadBalancer(flags) => load_balancer::run(platform, flags).boxed(),
            Self::Dns(flags) => network::run_dns(platform, flags).boxed(),
            Self::MetricsServer(flags) => metrics_server::run(platform, flags).boxed(),
        };
        match select(terminated, ended).await {
            Either::Left(((), _)) => Ok(()),
            Either::Right((result, _)) => result,
        }
    }
}

#[derive(Debug, Parser)]
struct Standalone {
    #[command(subcommand)]
    component: Component,
}

/// Why a `--set COMPONENT.FLAG=VALUE` was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--set {0}")]
pub struct SettingError(String);

/// Checks a `--set COMPONENT.FLAG=VALUE` before a cluster is made with it.
///
/// # Errors
/// A component or flag that does not exist, or a value that the flag does not take.
pub fn check_setting(component: &str, flag: &str, value: &str) -> Result<(), SettingError> {
    let command = Standalone::command();
    let components: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    let Some(found) = command.find_subcommand(component) else {
        let known = components.join(", ");
        return Err(SettingError(format!("{component}.{flag}: no such component; components are {known}")));
    };
    let Some(argument) = found.get_arguments().find(|argument| argument.get_long() == Some(flag)) else {
        let mut known: Vec<&str> = found.get_arguments().filter_map(clap::Arg::get_long).collect();
        known.sort_unstable();
        let known = known.join(", ");
        return Err(SettingError(format!("{component}.{flag}: {component} has no such flag; it has {known}")));
    };
    let probe = clap::Command::new("probe").arg(argument.clone());
    match probe.try_get_matches_from(["probe".to_owned(), format!("--{flag}={value}")]) {
        Ok(_) => Ok(()),
        Err(error) => {
            let text = error.to_string();
            Err(SettingError(format!("{component}.{flag}={value}: {}", text.lines().next().unwrap_or_default())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings() {
        let check = |setting: (&str, &str, &str), wanted: Result<(), &str>| {
            let answer = check_setting(setting.0, setting.1, setting.2).map_err(|error| error.to_string());
            match (&answer, wanted) {
                (Ok(()), Ok(())) => {}
                (Err(text), Err(part)) if text.contains(part) => {}
                _ => panic!("{setting:?}: {answer:?}, wanted {wanted:?}"),
            }
        };
        check(("kube-controller-manager", "kube-api-qps", "100"), Ok(()));
        check(("kubelet", "max-container-restart-period", "10s"), Ok(()));
        check(("kube-proxi", "x", "1"), Err("no such component; components are kube-apiserver"));
        check(("kubelet", "kube-api-qqs", "1"), Err("kubelet has no such flag; it has builtin-images"));
        check(("kubelet", "kube-api-qps", "many"), Err("--set kubelet.kube-api-qps=many: error: invalid value"));
    }

    #[test]
    fn command_lines() {
        assert!(matches!(Component::parse(["dns", "--kubeconfig=/c"]), Ok(Component::Dns(_))));
        assert!(Component::parse(["dns"]).is_err());
        assert!(Component::parse(["bootcamp"]).is_err());
    }
}
