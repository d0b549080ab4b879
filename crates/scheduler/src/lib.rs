//! The scheduler: a queue of pods, a picture of the nodes, a pure cycle that picks a node, and a
//! file a plugin.
//!
//! Read [`cycle`] first. The shell ([`run`]) feeds it from informers and carries out its decisions.
//!
//! Source of rules: kubernetes pkg/scheduler.

mod amounts;
mod cache;
mod cycle;
mod node_info;
mod nominated;
mod plugins;
mod preemption;
mod queue;
mod shell;

pub use amounts::Amounts;
pub use cache::Cache;
pub use cycle::{Decision, FitError, schedule};
pub use node_info::{NodeInfo, PodInfo};
pub use nominated::Nominated;
pub use plugins::{ALL, Cluster, Namespaces, Plugin};
pub use preemption::{Budget, Candidate, Outcome};
pub use queue::Queue;
pub use shell::{Metrics, SchedulerConfig, run};
