//! The metrics server: asks every kubelet for resource metrics and serves them as `metrics.k8s.io`.
//!
//! Source of behaviour: kubernetes-sigs/metrics-server pkg/storage and pkg/scraper.

mod parse;
mod respond;
mod scrape;
mod window;

pub use scrape::{Dial, MetricsServer, MetricsServerConfig};
