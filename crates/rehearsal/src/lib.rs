//! A whole cluster in the virtual world, in one process, without sockets: for drills, for `daruma sim`,
//! and for the tests of people who write controllers.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use daruma_rehearsal::{Options, VirtualCluster};
//!
//! let cluster = VirtualCluster::start(Options { seed: 7, ..Options::default() }).expect("a cluster");
//! cluster.run(cluster.wait_ready()).expect("every node is Ready");
//! let machines = cluster.machines();
//! cluster.run(machines.power_off("worker-1", false)).expect("it was on");
//! cluster.run_for(Duration::from_secs(60));
//! // Your controller talks to `cluster.client()` in a task of `cluster.world()`.
//! println!("{}", cluster.log().text());
//! assert_eq!(cluster.stop(), []);
//! ```
//!
//! The components are those of real clusters, composed by the same `daruma_cluster::boot`. Where real machines
//! have TLS, this world has a wire that says truly who is calling; everything else is as there.

pub mod certificates;
mod cluster;
mod connections;
pub mod event_log;
mod gate;
mod interposer;
pub mod invariants;
mod load_balancer;
mod lookout;
mod machines;
mod options;
mod platform;
mod preload;
mod programs;
mod rehearse;
mod standing;

pub use cluster::{Doors, StartError, VirtualCluster};
pub use daruma_sim as sim;
pub use event_log::EventLog;
pub use interposer::Interposer;
pub use options::{Options, OptionsError};
pub use rehearse::{Prepared, Rehearsal, RehearsalError, Rehearsed, label};
