//! The controllers of kube-controller-manager: one file or folder a controller, a pure core that
//! decides, one shell that carries out, one list ([`all::ALL`]).
//!
//! Invariant: nothing here knows where the API is; time, chance and tasks come from the world.

pub mod adoption;
pub mod all;
mod config;
mod controller_manager;
pub mod daemon_set;
pub mod deployment;
mod discovery;
pub mod disruption;
pub mod endpoint_slice;
pub mod endpoints;
mod events;
pub mod expectations;
pub mod garbage_collector;
mod metrics;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod node_taints;
pub mod pod_gc;
mod pod_owners;
pub mod pods;
pub mod rebalancer;
pub mod replica_set;
pub mod revision_history;
mod rollout_counts;
pub mod root_ca;
pub mod service_account;
mod services;
mod shared;
mod shell;
pub mod stateful_set;
pub mod taint_eviction;
pub mod template_hash;
pub mod ttl;
mod written;

mod cluster_role_aggregation;

pub use cluster_role_aggregation::ClusterRoleAggregation;
pub use config::ControllerManagerConfig;
pub use controller_manager::{ClientOf, ControllerManager, run};
