//! The node's object: registered, reported, kept alive by its lease.
//!
//! Source: kubernetes pkg/kubelet/kubelet_node_status.go, pkg/kubelet/nodestatus/setters.go.

mod heartbeat;
mod lease;
mod report;
pub mod status;
mod tick;
mod watch;

pub use lease::run as run_lease;
pub use report::run as run_report;
pub use tick::run as run_tick;
pub use watch::{keep, run as watch};
