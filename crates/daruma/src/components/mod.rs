//! The components of a cluster as modes of the binary: what they are made of is in `daruma_cluster::boot`;
//! here are only the process around them and what a person reaches of it.
#![expect(clippy::disallowed_methods, reason = "the real world runs on tokio")]

pub mod connection;
pub mod hollow_nodes;
pub mod image_socket;

use std::sync::Arc;

use anyhow::Result;
pub use daruma_cluster::boot::{Component, check_setting, flags};

use crate::platform::RealPlatform;

/// Runs a component until it ends.
pub fn run(component: Component) -> Result<()> {
    log_to_stderr("info");
    // The API server and the kubelet have work for two; the others fit on one thread and stay small.
    let mut runtime = match component {
        Component::ApiServer(_) | Component::Kubelet(_) => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(2);
            builder
        }
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = runtime.enable_all().max_blocking_threads(16).build()?;
    runtime.spawn(daruma_host::memory::keep_small());
    // The real world is made of the runtime that it is made in.
    let result = runtime.block_on(async { component.run(Arc::new(RealPlatform::new())).await });
    // Blocking calls that never return (reads of pipes, waits) must not keep the process.
    runtime.shutdown_background();
    Ok(result?)
}

/// `level` where the environment says nothing.
fn log_to_stderr(level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("DARUMA_LOG").unwrap_or_else(|_| level.into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
