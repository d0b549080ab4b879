//! Access to a Kubernetes API for components: typed calls, informers, work queues, leader
//! election and events, on any [`Transport`].
//!
//! Invariant: this crate does not know who uses it, nor whether the server is in the same process.

mod api;
mod body;
mod decoded;
mod error;
mod list;
mod rate_limit;
mod transport;
mod watch;

pub mod connection;
pub mod events;
pub mod informer;
pub mod leader_election;
pub mod names;
pub mod service_account;
pub mod work_queue;

pub use api::{Api, Client, DeleteOptions, ListOptions, ListResult, Patch, WatchEvent};
pub use body::{Body, BodyError, empty_body, full_body, stream_body};
pub use decoded::DecodedObjects;
pub use error::{ClientError, TransportError};
pub use rate_limit::RateLimit;
pub use transport::Transport;
pub use watch::split as split_watch_line;
