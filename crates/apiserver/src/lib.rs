//! The API server: verbs × kinds over a store. Routing, discovery, authentication, authorization,
//! admission, watch cache, tables and aggregation.
//!
//! A request passes [`server`], then [`routes`] leads it to [`verbs`], [`subresources`] or
//! [`discovery`]. Invariant: no sockets here; whatever listens or dials is given in [`config`].

pub mod admission;
pub mod aggregation;
pub mod authentication;
pub mod authorization;
pub mod boot;
pub mod cache;
pub mod call;
pub mod config;
pub mod custom_resources;
pub mod discovery;
pub mod document;
mod glue;
pub mod health;
pub mod http;
pub mod metrics;
mod recent;
pub mod registry;
pub mod reviews;
pub mod routes;
pub mod server;
pub mod services;
pub mod show;
pub mod storage;
pub mod subresources;
pub mod user;
pub mod verbs;

pub use authentication::PeerCertificate;
pub use config::{ApiServerConfig, ServiceRange, ServiceTarget};
pub use server::ApiServer;
