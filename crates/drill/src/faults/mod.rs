//! Everything that can be broken. One file a fault, named once in [`ALL`].
//!
//! A fault is inflicted through the [`Scene`], which notes what it touches and how to take it back *before*
//! it is touched: taking back is data ([`crate::undo::UndoRecord`]), so that it can be done after a crash.

mod call;
mod need;
mod parameter;
mod template;

mod api_server;
mod bandwidth;
mod clock_skew;
mod container_engine;
mod controller_manager;
mod cpu_starvation;
mod crash_on_start;
mod cut;
mod cut_one_way;
mod cut_zone;
mod delay;
mod delete_pod;
mod disk_full;
mod dns;
mod force_delete_pod;
mod hang;
mod image_pull_failure;
mod inodes_full;
mod kill_container;
mod kube_proxy;
mod kubelet;
mod link;
mod loss;
mod memory_pressure;
mod mend;
mod network_agent;
mod out_of_memory;
mod partition;
mod pid_exhaustion;
mod power_off;
mod power_off_zone;
mod power_on;
mod pressure;
mod program;
mod readiness_failure;
mod reboot;
mod reset;
mod resume;
mod scheduler;
mod shutdown;
mod store_full;
mod store_slow;
mod store_torn;

use daruma_client::ClientError;
use daruma_world::machines::MachineError;
use futures::future::BoxFuture;

use call::pod_ref;
pub use call::{Aim, Call};
pub(crate) use call::{pod_problems, target_problems};
pub use need::Need;
pub use parameter::{Argument, Parameter, ParameterKind};

use crate::WorldKind;
use crate::file::ClusterSpec;
use crate::scene::Scene;

/// Every fault, ordered by name.
pub static ALL: &[&dyn Fault] = &[
    &api_server::ApiServer,
    &bandwidth::Bandwidth,
    &clock_skew::ClockSkew,
    &container_engine::ContainerEngine,
    &controller_manager::ControllerManager,
    &cpu_starvation::CPU_STARVATION,
    &crash_on_start::CrashOnStart,
    &cut::Cut,
    &cut_one_way::CutOneWay,
    &cut_zone::CutZone,
    &delay::Delay,
    &delete_pod::DeletePod,
    &disk_full::DISK_FULL,
    &dns::Dns,
    &force_delete_pod::ForceDeletePod,
    &hang::Hang,
    &image_pull_failure::ImagePullFailure,
    &inodes_full::INODES_FULL,
    &kill_container::KillContainer,
    &kube_proxy::KubeProxy,
    &kubelet::Kubelet,
    &loss::Loss,
    &memory_pressure::MEMORY_PRESSURE,
    &mend::Mend,
    &network_agent::NetworkAgent,
    &out_of_memory::OutOfMemory,
    &partition::Partition,
    &pid_exhaustion::PID_EXHAUSTION,
    &power_off::PowerOff,
    &power_off_zone::PowerOffZone,
    &power_on::PowerOn,
    &readiness_failure::ReadinessFailure,
    &reboot::Reboot,
    &reset::Reset,
    &resume::Resume,
    &scheduler::Scheduler,
    &shutdown::Shutdown,
    &store_full::STORE_FULL,
    &store_slow::STORE_SLOW,
    &store_torn::StoreTorn,
];

/// Why a fault was not inflicted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FaultError {
    /// What it was aimed at is not there.
    #[error("{0}")]
    Target(String),
    /// A parameter makes no sense.
    #[error("{0}")]
    Parameter(String),
    /// The hand on the switches says no.
    #[error("{0}")]
    Machine(#[from] MachineError),
    /// The API says no.
    #[error("{0}")]
    Api(#[from] ClientError),
    /// The journal of undo cannot be written, and nothing is broken that might stay broken.
    #[error("{0}")]
    Journal(#[from] crate::undo::JournalError),
}

/// One way of breaking something.
pub trait Fault: Sync {
    /// As written in a drill, e.g. `power-off`.
    fn name(&self) -> &'static str;

    /// One sentence for help, manual and schema.
    fn summary(&self) -> &'static str;

    /// What it is aimed at.
    fn aim(&self) -> Aim;

    /// Its parameters.
    fn parameters(&self) -> &'static [Parameter] {
        const { &[] }
    }

    /// The only world that can do it; `None` where both can.
    fn only_in(&self) -> Option<WorldKind> {
        None
    }

    /// Whether what it hurts is a program of the pod network that every ordinary node runs, and no simulated one.
    fn needs_node_agents(&self) -> bool {
        false
    }

    /// Whether it lasts until it is undone (or its end comes by itself at once).
    fn lasts(&self) -> bool;

    /// What is wrong with a call beyond what [`Call::problems`] finds: place below the step (`with.how`) and words.
    fn check(&self, _call: &Call<'_>, _shape: &ClusterSpec) -> Vec<(String, String)> {
        Vec::new()
    }

    /// What the machines must be able to do; asked before anything is touched.
    fn needs(&self, call: &Call<'_>) -> Vec<Need>;

    /// Does it. What was touched before an error is known to the scene's undo.
    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>>;
}

/// The fault of this name.
pub fn find(name: &str) -> Option<&'static dyn Fault> {
    ALL.iter().find(|fault| fault.name() == name).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order_and_described() {
        assert!(ALL.windows(2).all(|pair| pair[0].name() < pair[1].name()), "ordered by name");
        for fault in ALL {
            assert!(fault.summary().ends_with('.'), "{}", fault.name());
            for parameter in fault.parameters() {
                assert!(parameter.about.ends_with('.'), "{} {}", fault.name(), parameter.name);
                if let Some(default) = parameter.default {
                    parameter.kind.read(&default.into()).unwrap();
                }
            }
        }
    }
}
