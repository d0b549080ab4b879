//! The node agent: keeps the pods of one node running as they are specified, and tells the API of them.
//!
//! Plans are pure (`plan`, `status`, `probes::state`, `admission`, `eviction::choose`); shells carry them out.
//!
//! Invariant: this crate does not know which container engine runs the containers.

mod admission;
mod backoff;
mod cell;
mod cgroups;
mod config;
mod engine_health;
mod env;
mod eviction;
mod gc;
mod hooks;
mod images;
mod kill;
mod kubelet;
mod logs;
mod mirror;
mod node;
mod objects;
mod plan;
mod probes;
mod recorder;
mod sandbox;
mod security;
mod server;
mod shared;
mod shutdown;
mod sources;
mod start;
mod stats;
mod status;
#[cfg(test)]
mod testing;
mod text;
mod tls;
mod view;
mod volumes;
mod worker;

pub use config::KubeletConfig;
pub use eviction::threshold::{Amount, Signal, Threshold, parse_thresholds};
pub use kubelet::Kubelet;
pub use server::PeerCertificate;
pub use shutdown::SHUTDOWN_FILE;
