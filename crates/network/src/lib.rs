//! The cluster's network: pod network agent, sandbox attachment, service proxy, load balancer and DNS.
//!
//! Every part is a pure core (`plan`, `answer`) and a thin shell that watches the API and carries
//! plans out through the world's links, packet rules and sockets. IPv4 only.
//!
//! Invariant: this crate does not know where the API is, nor which world it runs in.

pub mod agent;
pub mod dns;
mod http_answer;
pub mod load_balancer;
pub mod proxy;
pub mod sandbox;

#[cfg(test)]
mod test_objects;
